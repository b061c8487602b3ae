"""The random directions and integration nodes of SIGReg (LeJEPA, arXiv 2511.08544).

They equal the native engine's bit for bit; each twin computes the statistic itself.
"""

from __future__ import annotations

import math
import operator

import numpy as np
from blake3 import blake3

from soma.architecture import Architecture

TRAINING_CAP = 256
"""Upper limit of SIGReg's factor in training, which is the number of samples of the micro-batch."""


def directions(architecture: Architecture, seed: bytes) -> np.ndarray:
    """Unit directions, float32 `[dim, slices]`: signs from BLAKE3 in XOF mode over a 32-byte seed
    (bit `row * slices + column`, least significant first, set is +1), times `1 / sqrt(dim)`.

    Raises `ValueError` if the seed is not 32 bytes.
    """
    dim, slices = architecture.dim, architecture.sigreg_slices
    stream = blake3(check_seed(seed)).digest(length=(dim * slices + 7) // 8)
    bits = np.unpackbits(np.frombuffer(stream, np.uint8), bitorder="little")[: dim * slices]
    scale = np.float32(1 / math.sqrt(dim))
    return np.where(bits == 1, scale, -scale).reshape(dim, slices)


def check_seed(seed: bytes) -> bytes:
    """Returns the seed as bytes. Raises `ValueError` if it is not 32 bytes."""
    if not isinstance(seed, bytes | bytearray) or len(seed) != 32:
        raise ValueError("a seed must be 32 bytes")
    return bytes(seed)


def seed_of(number: int) -> bytes:
    """Derives a seed from an integer: BLAKE3 of its 8 little-endian bytes.

    Raises `ValueError` for anything but a whole number from 0 to 2^64 - 1.
    """
    whole = hasattr(number, "__index__") and not isinstance(number, bool)
    if not whole or not 0 <= (number := operator.index(number)) < 1 << 64:
        raise ValueError(f"a seed must be a whole number from 0 to 2^64 - 1, not {number!r}")
    return blake3(number.to_bytes(8, "little")).digest()


def nodes(architecture: Architecture) -> tuple[float, np.ndarray, np.ndarray]:
    """`(dt, phi, weights)` of the nodes `t_j = j * dt`, j from 1 (t = 0 contributes nothing):
    `phi = exp(-t^2 / 2)`, weights of the trapezoid rule under phi. Float64, `[points - 1]`."""
    last = architecture.sigreg_points - 1
    dt = architecture.sigreg_t_max / last
    t = dt * np.arange(1, last + 1)
    phi = np.exp(-0.5 * t * t)
    weights = 2 * dt * phi
    weights[-1] /= 2
    return dt, phi, weights
