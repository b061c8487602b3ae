"""The native engine: the chain's integers, and training to the last bit, from Python.

It gives names and types to what `soma._native` does, and must never compute anything itself.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass

import numpy as np

from soma import _native
from soma.architecture import Architecture, ArchitectureLike
from soma.data import Corpus
from soma.recipe import Recipe
from soma.score import Score


@dataclass(frozen=True)
class NativeScore(Score):
    """The engine's score. `loss_q32`, `embedding` and `trace` equal the chain's, to the last bit,
    whatever the machine; the floats are for people."""

    embedding: np.ndarray
    """Mean of the representations over all positions, scaled to length 32767; int16 `[dim]`."""
    loss_q32: int
    """The loss in units of 2^-32 nat."""
    trace: bytes
    """BLAKE3 over every nll and the embedding: proof that one did the work."""


class Model:
    """Weights that are mapped into memory and scored by the native engine."""

    def __init__(self, native: _native.Model):
        self._native = native
        self.architecture = Architecture.from_json(native.architecture_json)

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike,
        arch: ArchitectureLike | None = None,
        *,
        threads: int | None = None,
    ) -> Model:
        """The model of a weights file, which must not be changed while it is in use. Without
        `arch`, the file's metadata names it; without `threads`, there is one for each core.

        Raises `soma.WeightsError`, and `OSError` if the file cannot be read.
        """
        arch = None if arch is None else Architecture.of(arch).to_json()
        return cls(_native.Model(os.fspath(path), arch, threads or 0))

    def score(self, data: bytes, seed: bytes = bytes(32)) -> NativeScore:
        """Scores data as the network does; `seed` is 32 bytes, on the network the epoch's beacon.

        Raises `ValueError` for empty data, `soma.NonFinite` and `soma.ZeroEmbedding`.
        """
        parts = self._native.score(data, seed)
        loss_q32, embedding, trace, loss, cross_entropy, sigreg = parts
        embedding = np.frombuffer(embedding, "<i2")
        return NativeScore(loss, cross_entropy, sigreg, embedding, loss_q32, trace)

    def weights_hash(self) -> bytes:
        """BLAKE3 of the file's bytes: what a commitment on the network is about."""
        return self._native.weights_hash()


def init(path: str | os.PathLike, arch: ArchitectureLike, seed: bytes) -> None:
    """Writes random weights, those of `soma model init` for the same 32-byte seed.

    Raises `ValueError` for a seed that is not 32 bytes and `OSError` if the file cannot be written.
    """
    _native.init(Architecture.of(arch).to_json(), seed, os.fspath(path))


@dataclass(frozen=True)
class StepReport:
    """What one training step did."""

    step: int
    """Steps done, this one included."""
    loss: float
    """`cross_entropy + sigreg_coefficient * sigreg`, before the step."""
    cross_entropy: float
    """Mean negative log likelihood in nats."""
    sigreg: float
    """SIGReg with its factor, before its coefficient."""
    gradient_norm: float
    """Norm of the gradient before clipping."""
    learning_rate: float
    """Learning rate of the step."""
    tokens: int
    """Positions computed in the step."""


class Trainer:
    """The engine's own training on this CPU: on every machine the same weights, bit for bit."""

    def __init__(
        self,
        weights: str | os.PathLike,
        corpus: Corpus,
        recipe: Recipe,
        arch: ArchitectureLike,
        *,
        threads: int | None = None,
    ):
        """A run from its first step, starting at a weights file. Raises `ValueError` for a corpus
        without bytes or with documents that a split cut off, and for a recipe that cannot be
        followed."""
        if not all(corpus.ends):
            raise ValueError("a document was cut off: train on whole ones")
        self._native = _native.Trainer(
            os.fspath(weights),
            Architecture.of(arch).to_json(),
            _recipe_json(recipe),
            [document.tobytes() for document in corpus.documents],
            threads or 0,
        )

    def step(self) -> StepReport:
        """One optimizer step. Raises `soma.NonFinite` and leaves the weights as they were if the
        loss or the gradient is not finite."""
        return StepReport(*self._native.step())

    def save(self, path: str | os.PathLike) -> None:
        """Writes the weights as they are now."""
        self._native.save(os.fspath(path))

    def save_checkpoint(self, path: str | os.PathLike) -> None:
        """Writes all that `soma train --resume` needs to go on."""
        self._native.save_checkpoint(os.fspath(path))


def _recipe_json(recipe: Recipe) -> str:
    values = dataclasses.asdict(recipe)
    values["seed"] = list(recipe.seed)
    return json.dumps(values)
