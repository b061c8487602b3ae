"""Tokenization: independent chunks of at most `positions` bytes.

Chunks are never padded: a short chunk has fewer positions.
"""

from __future__ import annotations

import numpy as np

PAD = 256
"""Id of the padding token, used in training batches only; its positions are ignored."""
EOS = 257
"""Id of the end-of-sequence token, appended to a short chunk."""
NO_TARGET = -100
"""Marks a position without a target."""


def chunks(data: bytes, positions: int) -> list[np.ndarray]:
    """Tokens (int64) of every chunk of `positions` bytes; a short last chunk ends in EOS.

    Raises `ValueError` if the data is empty.
    """
    if not data:
        raise ValueError("the data is empty")
    tokens = np.frombuffer(data, np.uint8).astype(np.int64)
    pieces = [tokens[start : start + positions] for start in range(0, len(tokens), positions)]
    if len(pieces[-1]) < positions:
        pieces[-1] = np.append(pieces[-1], EOS)
    return pieces


def batches(data: bytes, positions: int, most: int) -> list[np.ndarray]:
    """The same chunks stacked by length into arrays `[chunks, length]` of at most `most` positions
    (but at least one chunk)."""
    pieces = chunks(data, positions)
    last = pieces[-1:] if len(pieces[-1]) != len(pieces[0]) else []
    full = pieces[: len(pieces) - len(last)]
    size = max(1, most // positions)
    groups = [full[start : start + size] for start in range(0, len(full), size)]
    return [np.stack(group) for group in (*groups, last) if group]
