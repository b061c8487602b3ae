"""A byte model by counting, in floating point: what a document gives away without understanding.

The engine computes the same model in integers; this one is for trying other parameters.
"""

from __future__ import annotations

import math

ALPHABET = 257
"""The bytes and the end of a short chunk."""
END = 256


def counting(data: bytes, positions: int, orders: int = 2, match_min: int = 8) -> float:
    """Nats per predicted position of `data`, cut into chunks of `positions` bytes as for a score.

    Contexts of 0 to `orders` bytes; `match_min` is the least length of a match, 0 for no match
    model.
    """
    cost, predicted = 0.0, 0
    for start in range(0, len(data), positions):
        chunk = list(data[start : start + positions])
        if len(chunk) < positions:
            chunk.append(END)
        # Whoever knows nothing needs ln 256 nats, even for random bytes.
        count = len(chunk) - 1
        cost += min(chunk_cost(chunk, orders, match_min), count * math.log(256))
        predicted += count
    return cost / predicted if predicted else 0.0


def chunk_cost(chunk: list[int], orders: int, match_min: int) -> float:
    """Nats for all symbols of a chunk but the first."""
    tables: list[dict] = [{} for _ in range(orders + 1)]
    match = Match(match_min)
    cost = 0.0
    for place, symbol in enumerate(chunk):
        probability = 1 / ALPHABET
        for order in range(min(orders, place) + 1):
            context = tuple(chunk[place - order : place])
            counts = tables[order].setdefault(context, {})
            total, distinct = sum(counts.values()), len(counts)
            if total:
                seen = counts.get(symbol, 0)
                probability = (seen + distinct * probability) / (total + distinct)
            counts[symbol] = counts.get(symbol, 0) + 1
        if match_min:
            probability = match.mix(symbol, probability)
        if place:
            cost -= math.log(probability)
    return cost


class Match:
    """Predicts what followed the longest earlier occurrence of the last bytes."""

    LENGTH_MAX = 32

    def __init__(self, least: int):
        self._least = least
        self._history: list[int] = []
        self._last: dict[tuple, int] = {}
        self._pointer = self._length = 0
        self._hits = [0] * (self.LENGTH_MAX + 1)
        self._misses = [0] * (self.LENGTH_MAX + 1)

    def mix(self, symbol: int, probability: float) -> float:
        """The probability of `symbol` after mixing, and then learns it."""
        if self._length >= self._least:
            length = self._length
            hits, misses = self._hits[length], self._misses[length]
            hit = self._history[self._pointer] == symbol
            probability = ((2 * hits + 1) * hit + (2 * misses + 1) * probability) / (
                2 * hits + 2 * misses + 2
            )
            if hit:
                self._hits[length] += 1
            else:
                self._misses[length] += 1
        self._learn(symbol)
        return probability

    def _learn(self, symbol: int) -> None:
        history = self._history
        if self._length and history[self._pointer] == symbol:
            self._length = min(self._length + 1, self.LENGTH_MAX)
            self._pointer += 1
        else:
            self._length = 0
        history.append(symbol)
        if len(history) < self._least:
            return
        key = tuple(history[-self._least :])
        if not self._length and key in self._last:
            self._pointer = self._last[key]
            self._length = self._least
            while (
                self._length < self.LENGTH_MAX
                and self._pointer > self._length
                and history[self._pointer - self._length - 1] == history[-self._length - 1]
            ):
                self._length += 1
        self._last[key] = len(history)
