"""The score of data under a model, as floats.

The network uses only the integers of the native engine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SCORE_LIMIT = 2.0**20
"""Losses of this many nats or more are invalid."""


class ScoreError(ValueError):
    """The model has no score for this data; it ranks behind every model that does."""


class NonFinite(ScoreError):
    """A representation, a logit or the loss is not finite, or the loss is 2^20 nats or more."""


class ZeroEmbedding(ScoreError):
    """The mean of the representations is zero and has no direction."""


@dataclass(frozen=True)
class Score:
    """A twin's score: equal to the native engine's within float32 rounding, not bit for bit."""

    loss: float
    """`cross_entropy + sigreg_coefficient * sigreg`, in nats."""
    cross_entropy: float
    """Mean negative log likelihood over all predicted positions, in nats."""
    sigreg: float
    """SIGReg with the scoring cap, averaged over chunks weighted by their positions."""
    embedding: np.ndarray
    """Mean representation over all positions, normalized to unit length; float32 `[dim]`."""
    counting: float
    """Mean loss of counting over all predicted positions, in nats."""
    gain: float
    """`counting - cross_entropy`: how much better the model predicts than counting does."""


def combine(
    nll: float,
    predicted: int,
    sigreg: float,
    total: np.ndarray,
    positions: int,
    coefficient: float,
    counting: float,
) -> Score:
    """Combines sums over chunks into a score: `nll` over `predicted` positions, `sigreg` (each
    chunk weighted by its positions) and the representations `total` over `positions`. `counting`
    is the loss of counting.

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
    return Score(loss, cross_entropy, sigreg, embedding, counting, counting - cross_entropy)
