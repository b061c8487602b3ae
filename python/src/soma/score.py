"""What a model says of data.

Its numbers are for people; only the native engine's integers count on the network.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SCORE_LIMIT = 2.0**20
"""A loss of this many nats or more is no score."""


class ScoreError(ValueError):
    """The model has no score for this data; it ranks behind every model that has one."""


class NonFinite(ScoreError):
    """A representation, a logit or the loss is not finite, or the loss is 2^20 nats or more."""


class ZeroEmbedding(ScoreError):
    """The mean of the representations is zero and has no direction."""


@dataclass(frozen=True)
class Score:
    """A twin's score: as close to the engine's as float32 on any device comes, not its bits."""

    loss: float
    """`cross_entropy + sigreg_coefficient * sigreg`, in nats."""
    cross_entropy: float
    """Mean negative log likelihood over all predicted positions, in nats."""
    sigreg: float
    """SIGReg with the scoring cap: the chunks' mean, weighted by their positions."""
    embedding: np.ndarray
    """Mean of the representations over all positions, divided by its length; float32 `[dim]`."""


def combine(
    nll: float,
    predicted: int,
    sigreg: float,
    total: np.ndarray,
    positions: int,
    coefficient: float,
) -> Score:
    """The score of data whose chunks sum up to `nll` over `predicted` positions, to `sigreg`
    (each chunk times its positions) and to the representations `total` over `positions`.

    Raises `NonFinite` and `ZeroEmbedding`.
    """
    cross_entropy, sigreg = nll / predicted, sigreg / positions
    loss = cross_entropy + coefficient * sigreg
    if not (np.isfinite(total).all() and abs(loss) < SCORE_LIMIT):
        raise NonFinite(f"the loss is {loss}")
    length = float(np.linalg.norm(total))
    if length == 0:
        raise ZeroEmbedding("the mean of the representations is zero")
    embedding = (total / length).astype(np.float32)
    return Score(loss, cross_entropy, sigreg, embedding)
