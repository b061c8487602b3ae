"""What a competition makes of documents: winner, gain, direction, and who is closest to targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import seen
from specialists import Specialist


@dataclass(frozen=True)
class Rules:
    """Which rules hold. `gain_min` is in nats; None for no minimum."""

    name: str
    centered: bool = False
    gain_min: float | None = None
    fixed: bool = False
    seen: bool = False


@dataclass
class Judged:
    """Documents with what the competition needs of each."""

    documents: list[bytes]
    plain: np.ndarray
    """Embeddings under each document's winner, `[documents, dim]`."""
    centered: np.ndarray
    """Directions seen from the winner's specialization, `[documents, dim]`."""
    gain: np.ndarray
    """Nats by which the winner beats counting."""
    winner: np.ndarray
    """Index of the winner."""
    fixed: bool = True
    """Whether the documents existed before the targets."""
    was_seen: np.ndarray | None = None
    """Whether each was seen in an earlier epoch."""

    def __len__(self) -> int:
        return len(self.documents)

    def eligible(self, rules: Rules) -> np.ndarray:
        """Which documents may be submitted."""
        may = np.ones(len(self), bool)
        if rules.gain_min is not None:
            may &= self.gain >= rules.gain_min
        if rules.fixed and not self.fixed:
            may[:] = False
        if rules.seen and self.was_seen is not None:
            may &= ~self.was_seen
        return may

    def cosines(self, targets: np.ndarray, rules: Rules) -> np.ndarray:
        """Closeness to each target, `[documents, targets]`; minus infinity for what is refused."""
        cosines = (self.centered if rules.centered else self.plain) @ targets.T
        cosines[~self.eligible(rules)] = -math.inf
        return cosines

    def cone(self) -> tuple[float, float]:
        """Length of the mean of the embeddings, and of the mean of the directions from the middle:
        0 if they point everywhere, 1 if all point one way."""
        return tuple(
            float(np.linalg.norm(vectors.mean(axis=0))) for vectors in (self.plain, self.centered)
        )


class Judge:
    """Scores documents with all models of a target."""

    def __init__(self, specialists: Sequence[Specialist]):
        self.specialists = list(specialists)

    def judge(self, documents: Sequence[bytes], fixed: bool = True) -> Judged:
        """Scores documents; each one's winner is the model that predicts it best."""
        rows = []
        for document in documents:
            scores = [specialist.score(document) for specialist in self.specialists]
            winner = min(range(len(scores)), key=lambda index: scores[index].cross_entropy)
            score = scores[winner]
            middle = self.specialists[winner].specialization
            seen_from = direction(score.embedding - middle)
            rows.append((score.embedding, seen_from, score.gain, winner))
        plain, centered, gains, winners = (np.array(column) for column in zip(*rows, strict=True))
        return Judged(list(documents), plain, centered, gains, winners, fixed)


def direction(vector: np.ndarray) -> np.ndarray:
    """The vector at unit length."""
    return vector / max(np.linalg.norm(vector), 1e-12)


def targets(count: int, dim: int, seed: int) -> np.ndarray:
    """Uniform random directions, `[count, dim]`."""
    drawn = np.random.default_rng(seed).standard_normal((count, dim))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def win_share(
    kind: np.ndarray, natural: np.ndarray, count: int, seed: int
) -> tuple[float, float, float]:
    """Of the targets, the share in which the best of `count` documents of a kind is closer than the
    best of `count` natural ones; and the mean closeness of the two. Ties count half.

    Both are cosines `[documents, targets]`; each target sees other random documents.
    """
    rng = np.random.default_rng(seed)
    best = [
        np.array([column[rng.permutation(len(column))[:count]].max() for column in cosines.T])
        for cosines in (kind, natural)
    ]
    wins = float(np.mean((best[0] > best[1]) + 0.5 * (best[0] == best[1])))
    means = [float(b[np.isfinite(b)].mean()) if np.isfinite(b).any() else math.nan for b in best]
    return wins, *means


def mark_seen(judged: Judged, winners: Sequence[bytes]) -> None:
    """Notes which documents share half of their pieces with one earlier winner."""
    won, found = (
        [seen.sketch(document, seen.PIECES, seen.WINDOW) for document in documents]
        for documents in (winners, judged.documents)
    )
    judged.was_seen = np.array(
        [any(seen.shared(pieces, winner) >= 0.5 for winner in won) for pieces in found]
    )
