"""Bytes to tokens: chunks of at most `positions` bytes that never see each other.

It must never pad: a short chunk simply has fewer positions.
"""

from __future__ import annotations

import numpy as np

PAD = 256
"""Id of the padding token: it fills up a training batch, and its positions count nowhere."""
EOS = 257
"""Id of the token that ends a short chunk."""
NO_TARGET = -100
"""Stands for "this position predicts nothing" where a target is expected."""


def chunks(data: bytes, positions: int) -> list[np.ndarray]:
    """The tokens (int64) of every chunk of `positions` bytes; a last one that is short gets EOS.

    Raises `ValueError` for empty data: there is nothing to predict.
    """
    if not data:
        raise ValueError("the data is empty: there is nothing to predict")
    tokens = np.frombuffer(data, np.uint8).astype(np.int64)
    pieces = [tokens[start : start + positions] for start in range(0, len(tokens), positions)]
    if len(pieces[-1]) < positions:
        pieces[-1] = np.append(pieces[-1], EOS)
    return pieces


def batches(data: bytes, positions: int, most: int) -> list[np.ndarray]:
    """The same chunks in rectangles `[chunks, length]` of equally long ones, at most `most`
    positions in each (but at least one chunk)."""
    pieces = chunks(data, positions)
    last = pieces[-1:] if len(pieces[-1]) != len(pieces[0]) else []
    full = pieces[: len(pieces) - len(last)]
    size = max(1, most // positions)
    groups = [full[start : start + size] for start in range(0, len(full), size)]
    return [np.stack(group) for group in (*groups, last) if group]
