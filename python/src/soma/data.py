"""Training data: documents, the held-out split, and the order in which training visits them.

The order equals the native engine's: a pure function of the seed and the documents, independent of
the number of processes.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from blake3 import blake3

from soma import _native
from soma.tokenizer import EOS, NO_TARGET, PAD

DataPosition = tuple[int, int]
"""`(training epoch, windows already taken from it)`."""


@dataclass
class Corpus:
    """The bytes of one or more documents. Windows never cross from one into the next."""

    documents: list[np.ndarray] = field(default_factory=list)
    """Bytes of each document; none is empty."""
    ends: list[bool] = field(default_factory=list)
    """Whether each document is complete; a document cut by a split is not followed by EOS."""

    left_out: list[Path] = field(default_factory=list)
    """Files and folders that `read` could not use."""

    @classmethod
    def read(cls, paths: str | os.PathLike | Iterable[str | os.PathLike]) -> Corpus:
        """Reads files, and folders of files, as `soma train` does: all files below a folder in the
        order of their paths, through links, without hidden and empty ones.

        What cannot be read is left out, with a warning, and listed in `left_out`. Raises `OSError`
        if nothing can be read, and `MemoryError` if there is more than the memory takes.
        """
        if isinstance(paths, str | os.PathLike):
            paths = [paths]
        corpus, failure = cls(), None
        files, left_out = _native.find_data([os.fspath(path) for path in paths])
        for path, error in left_out:
            failure = failure or error
            corpus._leave_out(path, error)
        for path in files:
            try:
                corpus.push(_native.read_data(path))
            except (OSError, MemoryError) as error:
                failure = failure or error
                corpus._leave_out(path, error)
        if failure and not len(corpus):
            raise failure
        return corpus

    def _leave_out(self, path: str | os.PathLike, error: Exception) -> None:
        self.left_out.append(Path(path))
        warnings.warn(f"{path} is left out: {error}", stacklevel=3)

    def push(self, document: bytes) -> None:
        """Appends a document; empty documents are skipped."""
        self._append(np.frombuffer(document, np.uint8), True)

    def __len__(self) -> int:
        """Total number of bytes."""
        return sum(map(len, self.documents))

    def hold_out(self) -> tuple[Corpus, Corpus]:
        """Splits off the last tenth of the bytes, rounded up: `(training, held out)`. A document
        at the boundary is split."""
        border = len(self) - -(-len(self) // 10)
        kept, held_out = Corpus(), Corpus()
        start = 0
        for document, ends in zip(self.documents, self.ends, strict=True):
            cut = min(max(border - start, 0), len(document))
            kept._append(document[:cut], ends and cut == len(document))
            held_out._append(document[cut:], ends)
            start += len(document)
        return kept, held_out

    def _append(self, document: np.ndarray, ends: bool) -> None:
        if len(document):
            self.documents.append(document)
            self.ends.append(ends)


class Order:
    """Visits the corpus in training epochs. Each epoch cuts every document into windows from a new
    offset and shuffles all windows, so that every byte is seen exactly once per epoch."""

    def __init__(
        self, corpus: Corpus, seed: bytes, positions: int, position: DataPosition = (0, 0)
    ):
        """Starts at `position`. Raises `ValueError` if the corpus is empty."""
        if not len(corpus):
            raise ValueError("the training data is empty")
        self._corpus, self._seed, self._positions = corpus, seed, positions
        self._epoch, self._cursor = position
        self._windows = self._cut_and_shuffle()
        self.tokens = 0
        """Number of tokens returned so far, excluding PAD."""

    @property
    def position(self) -> DataPosition:
        """Position of the next window; an `Order` started there continues identically."""
        return self._epoch, self._cursor

    def micro_batch(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and targets (int64) of the next windows, `[batch, positions]`, padded with PAD and
        `NO_TARGET`."""
        tokens = np.full((batch, self._positions), PAD, np.int64)
        targets = np.full((batch, self._positions), NO_TARGET, np.int64)
        for row in range(batch):
            self._next(tokens[row], targets[row])
        self.tokens += int((tokens != PAD).sum())
        return tokens, targets

    def _next(self, tokens: np.ndarray, targets: np.ndarray) -> None:
        if self._cursor == len(self._windows):
            self._epoch, self._cursor = self._epoch + 1, 0
            self._windows = self._cut_and_shuffle()
        index, start, stop = self._windows[self._cursor]
        self._cursor += 1
        document, ends = self._corpus.documents[index], self._corpus.ends[index]
        length = stop - start
        tokens[:length] = document[start:stop]
        if stop < len(document):
            targets[length - 1] = document[stop]
        elif ends and length < self._positions:
            tokens[length] = targets[length - 1] = EOS
        targets[: length - 1] = tokens[1:length]

    def _cut_and_shuffle(self) -> list[tuple[int, int, int]]:
        random = _Random(self._seed, self._epoch)
        windows = []
        for index, document in enumerate(self._corpus.documents):
            start, stop = 0, self._positions
            if len(document) > self._positions:
                stop -= random.below(self._positions)
            while start < len(document):
                windows.append((index, start, min(stop, len(document))))
                start, stop = stop, stop + self._positions
        for i in range(len(windows) - 1, 0, -1):
            j = random.below(i + 1)
            windows[i], windows[j] = windows[j], windows[i]
        return windows


class _Random:
    """Random integers from BLAKE3 in XOF mode."""

    _BLOCK = 1 << 16

    def __init__(self, seed: bytes, epoch: int):
        self._hasher = blake3(seed, derive_key_context="soma train: data order v1")
        self._hasher.update(epoch.to_bytes(8, "little"))
        self._drawn = 0
        self._block = b""

    def below(self, bound: int) -> int:
        """A number below `bound`: the high half of a 64-bit draw times the bound."""
        at = self._drawn % self._BLOCK
        if at == 0:
            self._block = self._hasher.digest(length=self._BLOCK, seek=self._drawn)
        self._drawn += 8
        return int.from_bytes(self._block[at : at + 8], "little") * bound >> 64
