"""Domains: natural documents, divided into those that models train on and those held out.

A held-out file is never trained on. Where a domain has few files, pieces of one file may be on both
sides, as in `soma demo`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from blake3 import blake3

PIECE_BYTES = 4096
"""Longer files are cut into pieces of this size, as in `soma demo`."""
TRAINING_BYTES_MAX = 4 << 20
"""Maximum training data of a domain."""
HELD_OUT_ONE_IN = 5
"""One in this many files is held out."""
FILES_FEW = 30
"""With fewer files than this, single pieces are held out instead of whole files."""
SKIPPED_FOLDERS = {"target", "node_modules", "site-packages", "__pycache__"}
"""Folders with what programs made."""
SKIPPED_FILES = {"economics.md"}
"""Files that are mostly tables printed by programs, this bench among them."""

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = {
    "rust": (".rs",),
    "markdown": (".md",),
    "data": (".lock", ".json"),
    "python": (".py",),
}
"""The default domains: this repository's files, by extension."""


@dataclass(frozen=True)
class Domain:
    """One kind of natural data."""

    name: str
    training: list[bytes]
    """Pieces of at most 4 KiB."""
    held_out: list[bytes]
    """Pieces of files that no model is trained on."""

    def documents(self, size: int, count: int, seed: int) -> list[bytes]:
        """Up to `count` different held-out documents of `size` bytes, in random order."""
        return cut(self.held_out, size, count, seed)


def cut(pieces: Sequence[bytes], size: int, count: int, seed: int) -> list[bytes]:
    """Up to `count` different documents of `size` bytes from `pieces`, in random order; none
    overlaps another."""
    found = {
        piece[start : start + size]: None
        for piece in pieces
        for start in range(0, len(piece) - size + 1, size)
    }
    order = np.random.default_rng(seed).permutation(len(found))
    documents = list(found)
    return [documents[place] for place in order[:count]]


def files_below(folder: Path) -> Iterator[Path]:
    """All files below a folder, without hidden and generated ones, in the order of their paths."""
    for path, folders, files in os.walk(folder):
        folders[:] = sorted(n for n in folders if n[0] != "." and n not in SKIPPED_FOLDERS)
        names = (name for name in sorted(files) if name[0] != "." and name not in SKIPPED_FILES)
        yield from (Path(path, name) for name in names)


def repository_domains(root: Path = ROOT) -> list[Domain]:
    """The default domains, from a checkout."""
    files = list(files_below(root))
    return [
        domain(name, [file for file in files if file.suffix in suffixes])
        for name, suffixes in REPOSITORY.items()
    ]


def domain(name: str, files: Sequence[Path]) -> Domain:
    """The domain of these files. Which are held out depends on their names alone. Raises
    `ValueError` if there is too little data to hold any out."""
    few = len(files) < FILES_FEW
    training, held_out = [], []
    for file in files:
        data = file.read_bytes()
        pieces = [data[i : i + PIECE_BYTES] for i in range(0, len(data), PIECE_BYTES)]
        for number, piece in enumerate(pieces):
            key = f"{file.name}#{number}" if few else file.name
            chosen = int.from_bytes(blake3(key.encode()).digest()[:8], "little")
            (held_out if chosen % HELD_OUT_ONE_IN == 0 else training).append(piece)
    order = np.random.default_rng(0).permutation(len(training))
    training = [training[place] for place in order]
    ends = np.cumsum([len(piece) for piece in training])
    training = training[: int(np.searchsorted(ends, TRAINING_BYTES_MAX, side="right"))]
    if not training or not held_out:
        raise ValueError(f"domain {name} has too little data: {len(files)} files")
    return Domain(name, training, held_out)
