"""The byte model by counting of `crates/model/src/counting.rs`, in floating point.

The engine's integers are the definition; this one agrees with them to about 1e-6 nats.
"""

from __future__ import annotations

import math

ORDERS = 7
"""Contexts of a position: its last 0, 1, .. 6 symbols."""
SHARE = 1 / 32
"""Part of the weights that all experts share, whatever they predicted."""
SYMBOLS = 257
END = 256
"""Follows a chunk that is not full."""


def counting(data: bytes, positions: int) -> float:
    """Nats per predicted position of `data`, cut into chunks of `positions` bytes."""
    cost, predicted = 0.0, 0
    for start in range(0, len(data), positions):
        chunk = list(data[start : start + positions])
        if len(chunk) < positions:
            chunk.append(END)
        cost += chunk_cost(chunk)
        predicted += len(chunk) - 1
    return cost / predicted if predicted else 0.0


def chunk_cost(chunk: list[int]) -> float:
    """Nats for all symbols of a chunk but the first."""
    weights = [0.5] + [0.5 / ORDERS] * ORDERS
    counts: dict[tuple, dict[int, int]] = {}
    cost = 0.0
    for place, symbol in enumerate(chunk):
        contexts = [tuple(chunk[place - order : place]) for order in range(min(place + 1, ORDERS))]
        given = probabilities(counts, contexts, symbol)
        count(counts, contexts, symbol)
        if place:
            parts = [w * p for w, p in zip(weights, given, strict=True)]
            total = sum(parts)
            cost -= math.log(total)
            weights = [part / total * (1 - SHARE) + SHARE / len(parts) for part in parts]
    return cost


def probabilities(counts: dict, contexts: list[tuple], symbol: int) -> list[float]:
    """What each expert gives the symbol; the first knows nothing."""
    given = [1 / SYMBOLS]
    for order in range(ORDERS):
        found = counts.get(contexts[order]) if order < len(contexts) else None
        if found:
            total, distinct = sum(found.values()), len(found)
            given.append((found.get(symbol, 0) + distinct * given[-1]) / (total + distinct))
        else:
            given.append(given[-1])
    return given


def count(counts: dict, contexts: list[tuple], symbol: int) -> None:
    """Counts the symbol in the longest context and in shorter ones, until one knew it."""
    for context in reversed(contexts):
        found = counts.setdefault(context, {})
        known = symbol in found
        found[symbol] = found.get(symbol, 0) + 1
        if known:
            return
