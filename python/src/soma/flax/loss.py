"""Cross-entropy and SIGReg in JAX, for scoring chunks and for training on micro-batches.

Reductions use at least float32. Under a mesh they run over all devices: sharding a micro-batch does
not change its loss.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from soma import sigreg as constants
from soma.architecture import Architecture
from soma.tokenizer import NO_TARGET, PAD


class Loss(NamedTuple):
    """`loss = cross_entropy + coefficient * sigreg`, scalars."""

    loss: jax.Array
    cross_entropy: jax.Array
    sigreg: jax.Array


def directions(architecture: Architecture, seed: bytes) -> jax.Array:
    """SIGReg's directions for a 32-byte seed, `[dim, slices]`: bit-identical to the engine's."""
    return jnp.asarray(constants.directions(architecture, seed))


def compute_loss(
    model,
    tokens: jax.Array,
    targets: jax.Array,
    directions: jax.Array,
    *,
    cap: int = constants.TRAINING_CAP,
    coefficient: float | None = None,
) -> Loss:
    """The training loss of a micro-batch; SIGReg's samples are all of its positions.

    `tokens` and `targets` are `[batch, positions]`; PAD positions and targets equal to `NO_TARGET`
    are ignored. `directions` should be redrawn at every step.
    """
    architecture = model.architecture
    coefficient = architecture.sigreg_coefficient if coefficient is None else coefficient
    representations, logits = model(tokens)
    predicted = (targets != NO_TARGET).sum()
    cross_entropy = negative_log_likelihoods(logits, targets).sum() / predicted
    samples = (tokens != PAD).flatten()
    rows = representations.reshape(-1, architecture.dim)
    value = sigreg(architecture, rows, directions, cap, samples)
    return Loss(cross_entropy + coefficient * value, cross_entropy, value)


def negative_log_likelihoods(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """In nats; zero for positions without a target."""
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    predicts = targets != NO_TARGET
    chosen = jnp.take_along_axis(logits, jnp.where(predicts, targets, 0)[..., None], -1)[..., 0]
    return jnp.where(predicts, jax.nn.logsumexp(logits, -1) - chosen, 0)


def sigreg(
    architecture: Architecture,
    representations: jax.Array,
    directions: jax.Array,
    cap: int,
    samples: jax.Array | None = None,
) -> jax.Array:
    """`min(n, cap) * D` of the representations `[n, dim]` selected by `samples` (default: all).

    D averages over samples; averaging over directions would reward collapse.
    """
    dt, phi, node_weights = constants.nodes(architecture)
    precision = jnp.promote_types(representations.dtype, jnp.float32)
    projections = representations.astype(precision) @ directions.astype(precision)
    if samples is None:
        samples = jnp.ones(len(projections), bool)
    n = samples.sum().astype(precision)
    real, imaginary = _characteristic_sums(projections, samples, dt, len(phi)) / n
    distances = (real - phi[:, None].astype(np.float32)) ** 2 + imaginary**2
    return jnp.minimum(n, cap) * (node_weights.astype(np.float32) @ distances).mean()


@partial(jax.checkpoint, static_argnums=(2, 3))
def _characteristic_sums(
    projections: jax.Array, samples: jax.Array, dt: float, nodes: int
) -> jax.Array:
    """Sums over samples of the cosine and the sine of `j * dt * p`, j = 1 .. nodes: `[n, slices]`
    to `[2, nodes, slices]`. The nodes are powers of the first one on the unit circle."""
    angles = projections * dt
    cosines, sines = jnp.cos(angles), jnp.sin(angles)
    real, imaginary = cosines * samples[:, None], sines * samples[:, None]
    sums = []
    for _ in range(nodes):
        sums.append((real.sum(0), imaginary.sum(0)))
        real, imaginary = (
            real * cosines - imaginary * sines,
            real * sines + imaginary * cosines,
        )
    return jnp.stack([jnp.stack(part) for part in zip(*sums, strict=True)])
