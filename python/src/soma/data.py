"""What a model is trained on: documents, their held-out part, and the order in which training sees
them.

The order is the engine's: a pure function of the seed and the documents, whatever number of
processes shares the work.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from blake3 import blake3

from soma.tokenizer import EOS, NO_TARGET, PAD

Place = tuple[int, int]
"""`(epoch, windows already taken from it)`."""


@dataclass
class Corpus:
    """The bytes of one or more documents. Windows never cross from one into the next."""

    documents: list[np.ndarray] = field(default_factory=list)
    """Bytes of each, none of them empty."""
    ends: list[bool] = field(default_factory=list)
    """Whether a document ends where its file does; what a split cut off teaches no EOS."""

    @classmethod
    def read(cls, paths: Iterable[str | os.PathLike]) -> Corpus:
        """Every file, and every file below every folder in the order of their paths; hidden ones
        are left out. Raises `OSError` for what cannot be read."""
        corpus = cls()
        for path in map(Path, paths):
            for file in _files(path) if path.is_dir() else [path]:
                corpus.push(file.read_bytes())
        return corpus

    def push(self, document: bytes) -> None:
        """Appends a document. An empty one holds nothing to learn and is left out."""
        self._append(np.frombuffer(document, np.uint8), True)

    def __len__(self) -> int:
        """All bytes, of all documents together."""
        return sum(map(len, self.documents))

    def hold_out(self) -> tuple[Corpus, Corpus]:
        """Cuts off the last tenth of the bytes, rounded up: `(for training, held out)`. A document
        on the border is divided."""
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
    """Walks the corpus in epochs. In each, every document is cut into windows from a fresh offset,
    and all windows are shuffled: every byte is seen exactly once per epoch."""

    def __init__(self, corpus: Corpus, seed: bytes, positions: int, place: Place = (0, 0)):
        """Starts at a place given by `place`. Raises `ValueError` for a corpus without bytes."""
        if not len(corpus):
            raise ValueError("the data is empty: there is nothing to train on")
        self._corpus, self._seed, self._positions = corpus, seed, positions
        self._epoch, self._cursor = place
        self._windows = self._cut_and_shuffle()
        self.tokens = 0
        """Positions handed out so far, PAD not counted."""

    @property
    def place(self) -> Place:
        """Where the next window is taken; an `Order` that starts there goes on the same way."""
        return self._epoch, self._cursor

    def micro_batch(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and targets (int64) of the next windows, `[batch, positions]`, filled up with PAD
        and `NO_TARGET`."""
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
    """Integers from BLAKE3 in XOF mode."""

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


def _files(folder: Path) -> list[Path]:
    def hidden(path: Path) -> bool:
        return any(part.startswith(".") for part in path.relative_to(folder).parts)

    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if not hidden(path))
