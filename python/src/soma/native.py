"""The native engine: scores that equal the chain's, and bit-exact training, from Python.

It adds names and types to `soma._native` and computes nothing itself.
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
    """The native engine's score. The integers, `embedding` and `trace` equal the chain's bit for
    bit on every machine; the floats are informative."""

    embedding: np.ndarray
    """Mean of the representations over all positions, scaled to length 32767; int16 `[dim]`."""
    loss_q32: int
    """The loss in units of 2^-32 nat."""
    counting_q32: int
    """The loss of counting in units of 2^-32 nat."""
    gain_q32: int
    """How much better the model predicts than counting does, in units of 2^-32 nat."""
    trace: bytes
    """BLAKE3 over every negative log likelihood and the embedding."""


class Model:
    """Memory-mapped weights, scored by the native engine."""

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
        """Opens a weights file, which must not change while in use. Without `arch`, the
        architecture comes from the file's metadata; the default is one thread per core.

        Raises `soma.WeightsError`, and `OSError` if the file cannot be read.
        """
        arch = None if arch is None else Architecture.of(arch).to_json()
        return cls(_native.Model(os.fspath(path), arch, threads or 0))

    def score(self, data: bytes, seed: bytes = bytes(32)) -> NativeScore:
        """Scores data as the network does; `seed` is 32 bytes (on the network, the epoch's beacon).

        Raises `ValueError` if the data is empty, `soma.NonFinite` and `soma.ZeroEmbedding`.
        """
        integers, embedding, trace, floats = self._native.score(data, seed)
        loss, cross_entropy, sigreg, counting, gain = floats
        embedding = np.frombuffer(embedding, "<i2")
        return NativeScore(loss, cross_entropy, sigreg, embedding, counting, gain, *integers, trace)

    def weights_hash(self) -> bytes:
        """BLAKE3 of the file's bytes, which identifies the weights on the network."""
        return self._native.weights_hash()


def init(path: str | os.PathLike, arch: ArchitectureLike, seed: bytes) -> None:
    """Writes random weights, equal to those of `soma model init` for the same 32-byte seed.

    Raises `ValueError` if the seed is not 32 bytes, and `OSError` if the file cannot be written.
    """
    _native.init(Architecture.of(arch).to_json(), seed, os.fspath(path))


@dataclass(frozen=True)
class StepReport:
    """The result of one training step."""

    step: int
    """Completed steps, including this one."""
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
    """The native training engine: the same weights, bit for bit, on every machine."""

    def __init__(
        self,
        weights: str | os.PathLike,
        corpus: Corpus,
        recipe: Recipe,
        arch: ArchitectureLike,
        *,
        threads: int | None = None,
    ):
        """Starts a run from a weights file. Raises `ValueError` if the corpus is empty or contains
        documents cut by a split, or if the recipe is invalid."""
        if not all(corpus.ends):
            raise ValueError("the corpus contains a document that was cut by a split")
        self._native = _native.Trainer(
            os.fspath(weights),
            Architecture.of(arch).to_json(),
            _recipe_json(recipe),
            [document.tobytes() for document in corpus.documents],
            threads or 0,
        )

    def step(self) -> StepReport:
        """Runs one optimizer step. If the loss or the gradient is not finite, raises
        `soma.NonFinite` and leaves the weights unchanged."""
        return StepReport(*self._native.step())

    def save(self, path: str | os.PathLike) -> None:
        """Writes the current weights."""
        self._native.save(os.fspath(path))

    def save_checkpoint(self, path: str | os.PathLike) -> None:
        """Writes a checkpoint for `soma train --resume`."""
        self._native.save_checkpoint(os.fspath(path))


def _recipe_json(recipe: Recipe) -> str:
    values = dataclasses.asdict(recipe)
    values["seed"] = list(recipe.seed)
    return json.dumps(values)
