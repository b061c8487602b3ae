"""What counting predicts: the loss of a predictor that knows nothing but what it has counted in
the chunk so far. A model that predicts data no better does not understand it.

`docs/numerics.md` defines the integers, and these are the same.
"""

from __future__ import annotations

from collections import defaultdict

from soma import tokenizer

_ORDERS = 7
"""Contexts of a position: its last 0, 1, .. 6 symbols."""
_EXPERTS = _ORDERS + 1
"""The orders, and the expert that knows nothing."""
_ONE = 1 << 32
"""One, as a probability or a weight."""
_SHARE = _ONE // 32 // _EXPERTS
"""What each expert gets of the weights, whatever it predicted."""
_LN_2 = 0xB17217F7D1CF79AB
"""`ln 2` in units of 2^-64."""


def counting_q32(data: bytes, positions: int) -> int:
    """Mean loss of counting over the predicted positions of data that is cut into chunks of this
    many positions, in 2^-32 nat.

    Raises `ValueError` if the data is empty.
    """
    mantissa, halvings, predicted = 1 << 63, 0, 0
    for chunk in tokenizer.chunks(data, positions):
        symbols = chunk.tolist()
        for probability in _probabilities(symbols):
            product = mantissa * probability
            zeros = 128 - product.bit_length()
            mantissa = product << zeros >> 64
            halvings += zeros
        predicted += len(symbols) - 1
    logarithm = 0
    for _ in range(32):
        square = mantissa * mantissa >> 63
        digit = square >> 64
        logarithm = logarithm << 1 | digit
        mantissa = square >> digit
    return (((halvings << 32) - logarithm) * _LN_2 >> 64) // predicted


def nats(data: bytes, positions: int) -> float:
    """`counting_q32` in nats."""
    return counting_q32(data, positions) / 2**32


def _probabilities(symbols: list[int]):
    """The probability of every symbol of a chunk but the first, in 2^-64."""
    counts = defaultdict(lambda: defaultdict(int))
    totals = defaultdict(int)
    weights = [_ONE // 2] + [_ONE // 2 // _ORDERS] * _ORDERS
    for position, symbol in enumerate(symbols):
        shortest = max(0, position - _ORDERS + 1)
        contexts = [tuple(symbols[at:position]) for at in range(position, shortest - 1, -1)]
        if position > 0:
            probability = _ONE // 257
            given = [probability]
            for context in contexts:
                if total := totals[context]:
                    seen = counts[context]
                    distinct = len(seen)
                    share = seen.get(symbol, 0) * _ONE + distinct * probability
                    probability = share // (total + distinct)
                given.append(probability)
            given += [probability] * (_EXPERTS - len(given))
            parts = [weight * part for weight, part in zip(weights, given, strict=True)]
            yield (whole := sum(parts))
            unit = (whole >> 32) + 1
            weights = [part // unit * 31 // 32 + _SHARE for part in parts]
        for context in reversed(contexts):
            counts[context][symbol] += 1
            totals[context] += 1
            if counts[context][symbol] > 1:
                break
