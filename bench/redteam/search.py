"""Searches: documents that are changed, step by step, until they lie in a wanted direction.

Before the draw, the direction is arbitrary, and the documents are for whatever targets come; after
it, the direction is a target's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from generators import Material
from judge import direction
from network import Network
from specialists import Specialist

Propose = Callable[[bytes, np.ndarray], bytes]
"""A changed document, given the wanted direction."""
GRADIENT_CHOICES = 256
"""Changes of one byte that the gradient likes best, among which a search chooses at random."""
GRADIENT_TRIES = 12
"""Tries with one gradient."""


@dataclass(frozen=True)
class Search:
    """A way to search."""

    name: str
    change: str
    """`bytes`, `pieces` or `gradient`."""
    after: bool = False
    """Whether the search begins after the draw."""
    centered: bool = True
    """Whether it wants directions from the middle, or plain embeddings."""
    gain: bool = False
    """Whether it keeps only documents that have the minimum gain."""


SEARCHES = [
    Search("bytes searched before", "bytes", centered=False),
    Search("bytes searched before, centered", "bytes"),
    Search("pieces searched before, gain", "pieces", gain=True),
    Search("gradient searched before, gain", "gradient", gain=True),
    Search("bytes searched after", "bytes", after=True, centered=False),
    Search("bytes searched after, centered", "bytes", after=True),
    Search("pieces searched after, gain", "pieces", after=True, gain=True),
    Search("gradient searched after, gain", "gradient", after=True, gain=True),
]


def climb(
    search: Search,
    start: bytes,
    wanted: np.ndarray,
    model: Specialist,
    material: Material,
    network: Network,
    gain_min: float,
    steps: int,
) -> bytes:
    """The document after `steps` scores, of which those that came closer were kept. It begins with
    a document that has the gain, if the search keeps it."""
    propose = proposer(search, model, material, network)

    def closeness(document: bytes) -> float:
        score = model.score(document, keep=False)
        if search.gain and score.gain < gain_min:
            return -np.inf
        middle = model.specialization if search.centered else 0
        return float(direction(score.embedding - middle) @ wanted)

    best, best_closeness = start, closeness(start)
    for _ in range(steps):
        changed = propose(best, wanted)
        found = closeness(changed)
        if found > best_closeness:
            best, best_closeness = changed, found
    return best


def proposer(search: Search, model: Specialist, m: Material, network: Network) -> Propose:
    """How a search changes documents."""
    if search.change == "gradient":
        return Gradient(search, model, m, network)
    return {"bytes": bytes_changed, "pieces": pieces_changed}[search.change](m)


def bytes_changed(m: Material) -> Propose:
    """Changes one to three bytes."""

    def propose(document: bytes, _wanted: np.ndarray) -> bytes:
        data = bytearray(document)
        for place in m.rng.integers(len(data), size=m.rng.integers(1, 4)):
            data[place] = m.rng.integers(256)
        return bytes(data)

    return propose


def pieces_changed(m: Material) -> Propose:
    """Replaces a piece of 4 to 48 bytes by one of another natural document."""

    def propose(document: bytes, _wanted: np.ndarray) -> bytes:
        piece = m.span(m.rng.integers(4, 49))
        start = m.rng.integers(len(document) - len(piece) + 1)
        return document[:start] + piece + document[start + len(piece) :]

    return propose


class Gradient:
    """Changes one or two bytes to what the gradient likes, and sometimes a piece."""

    UNDERSTANDING = 0.1
    """How much the gradient minds cross-entropy, in units of closeness for each nat."""

    def __init__(self, search: Search, model: Specialist, m: Material, network: Network):
        self._understanding = self.UNDERSTANDING if search.gain else 0.0
        self._middle = model.specialization if search.centered else np.zeros(network.dim)
        self._material, self._network = m, network
        self._pieces = pieces_changed(m)
        self._document, self._choices, self._tries = b"", np.zeros(0), 0

    def __call__(self, document: bytes, wanted: np.ndarray) -> bytes:
        rng = self._material.rng
        if rng.random() < 0.4:
            return self._pieces(document, wanted)
        if document != self._document or self._tries >= GRADIENT_TRIES:
            chunk = document[: self._network.positions]
            slopes = self._network.slopes(chunk, wanted, self._middle, self._understanding)
            self._choices = np.argsort(slopes.swaps, axis=None)[-GRADIENT_CHOICES:]
            self._document, self._tries = document, 0
        self._tries += 1
        data = bytearray(document)
        for choice in rng.choice(self._choices, rng.integers(1, 3)):
            place, byte = divmod(int(choice), 256)
            data[place] = byte
        return bytes(data)
