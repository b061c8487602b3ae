"""The sketch by which data that has won before is recognized, with parameters to choose."""

from __future__ import annotations

import numpy as np

PIECES = 16
"""Pieces of a sketch on the network."""
WINDOW = 16
"""Bytes of a piece on the network."""
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def hashes(data: bytes, window: int) -> np.ndarray:
    """64-bit hashes of all overlapping windows, different ones once, ascending."""
    return np.unique(window_hashes(data, window))


def window_hashes(data: bytes, window: int) -> np.ndarray:
    """64-bit hashes of all overlapping windows, in order."""
    values = np.frombuffer(data, np.uint8).astype(np.uint64) + np.uint64(1)
    count = max(len(values) - window + 1, 1)
    rolled = np.zeros(count, np.uint64)
    for place in range(min(window, len(values))):
        rolled = rolled * _MULTIPLIER + values[place : place + count]
    return mixed(rolled)


def mixed(values: np.ndarray) -> np.ndarray:
    """The finalizer of SplitMix64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def sketch(data: bytes, pieces: int, window: int) -> np.ndarray:
    """The smallest hashes of the windows of `data`, ascending."""
    return hashes(data, window)[:pieces]


def shared(data: np.ndarray, winner: np.ndarray) -> float:
    """The share of the pieces of `data` that a winner has too."""
    return len(np.intersect1d(data, winner, assume_unique=True)) / len(data)
