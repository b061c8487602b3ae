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
from soma.sigreg import check_seed
from soma.weights import WeightsError

_THREADS_MAX = 1024
"""Upper limit of the threads of an engine."""


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
    """Weights in memory, scored by the native engine.

    Works in forked processes. A pickle holds the path, not the weights: the file is opened again
    where it is loaded, and must still be the same.
    """

    def __init__(self, native: _native.Model, source: tuple | None = None):
        self._native = native
        self._source = source
        self.architecture = Architecture.from_json(native.architecture_json)

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike,
        arch: ArchitectureLike | None = None,
        *,
        threads: int | None = None,
    ) -> Model:
        """Reads a weights file. What happens to the file later has no effect. Without `arch`, the
        architecture comes from the file's metadata; the default is one thread per core.

        Raises `soma.WeightsError`, `OSError` if the file cannot be read, and `ValueError` for an
        impossible number of threads.
        """
        path = os.path.abspath(os.fspath(path))
        arch = None if arch is None else Architecture.of(arch).to_json()
        return cls(_native.Model(path, arch, _threads(threads)), (path, arch, threads))

    def __reduce__(self):
        if self._source is None:
            raise TypeError("only a Model from from_file can be pickled")
        return _reopened, (*self._source, self.weights_hash())

    def __copy__(self) -> Model:
        return self

    def __deepcopy__(self, _memo: dict) -> Model:
        # Nothing in it ever changes.
        return self

    def score(self, data: bytes, seed: bytes = bytes(32)) -> NativeScore:
        """Scores data as the network does; `seed` is 32 bytes (on the network, the epoch's beacon).

        Raises `ValueError` if the data is empty or the seed is not 32 bytes, `TypeError` if the
        data is no bytes, `soma.NonFinite` and `soma.ZeroEmbedding`. Ctrl-C ends it.
        """
        if isinstance(data, bytearray | memoryview):
            data = bytes(data)
        integers, embedding, trace, floats = self._native.score(data, check_seed(seed))
        loss, cross_entropy, sigreg, counting, gain = floats
        embedding = np.frombuffer(embedding, "<i2")
        return NativeScore(loss, cross_entropy, sigreg, embedding, counting, gain, *integers, trace)

    def weights_hash(self) -> bytes:
        """BLAKE3 of the file's bytes, which identifies the weights on the network."""
        return self._native.weights_hash()


def _reopened(path: str, arch: str | None, threads: int | None, weights_hash: bytes) -> Model:
    """A pickled model. Raises `soma.WeightsError` if its file is no longer the same."""
    arch = None if arch is None else Architecture.from_json(arch)
    model = Model.from_file(path, arch, threads=threads)
    if model.weights_hash() != weights_hash:
        raise WeightsError(f"{path} is no longer the file of the pickled model")
    return model


def _threads(threads: int | None) -> int:
    """The number of threads for the engine, 0 for one per core. Raises `ValueError`."""
    if threads is None:
        return 0
    whole = isinstance(threads, int) and not isinstance(threads, bool)
    if not whole or not 1 <= threads <= _THREADS_MAX:
        raise ValueError(f"threads must be a whole number from 1 to {_THREADS_MAX}, or None")
    return threads


def init(path: str | os.PathLike, arch: ArchitectureLike, seed: bytes) -> None:
    """Writes random weights, equal to those of `soma model init` for the same 32-byte seed.

    Raises `ValueError` if the seed is not 32 bytes, and `OSError` if the file cannot be written.
    """
    _native.init(Architecture.of(arch).to_json(), check_seed(seed), os.fspath(path))


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
    """The native training engine: the same weights, bit for bit, on every machine.

    A run that is interrupted (Ctrl-C in `step` raises `KeyboardInterrupt`) is whole: save a
    checkpoint, and `resume` continues it as if nothing had happened.
    """

    def __init__(
        self,
        weights: str | os.PathLike,
        corpus: Corpus,
        recipe: Recipe,
        arch: ArchitectureLike,
        *,
        threads: int | None = None,
    ):
        """Starts a run from a weights file.

        Raises `ValueError` if there is nothing to learn or the recipe is invalid, and what
        `Model.from_file` raises.
        """
        self._native = _native.Trainer(
            os.fspath(weights),
            Architecture.of(arch).to_json(),
            _recipe_json(recipe),
            _documents(corpus),
            _threads(threads),
        )

    @classmethod
    def resume(
        cls,
        checkpoint: str | os.PathLike,
        corpus: Corpus,
        *,
        steps: int | None = None,
        learning_rate: float | None = None,
        threads: int | None = None,
    ) -> Trainer:
        """Continues a run from a checkpoint, of `save_checkpoint` or of `soma train`, on the same
        data. `steps` prolongs it: all its steps, those that are done included. `learning_rate`
        changes the highest rate from here on.

        Raises `ValueError` if the file is not a checkpoint of this data or if a change is
        impossible, and `OSError` if it cannot be read.
        """
        if steps is not None and (not isinstance(steps, int) or steps < 0):
            raise ValueError("steps must be a whole number")
        trainer = cls.__new__(cls)
        trainer._native = _native.Trainer.resume(
            os.fspath(checkpoint), _documents(corpus), steps, learning_rate, _threads(threads)
        )
        return trainer

    @property
    def steps_done(self) -> int:
        """Completed steps."""
        return self._native.steps_done

    @property
    def recipe(self) -> Recipe:
        """The recipe that the run follows."""
        values = json.loads(self._native.recipe_json)
        return Recipe(**{**values, "seed": bytes(values["seed"])})

    @property
    def architecture(self) -> Architecture:
        """The architecture of the model."""
        return Architecture.from_json(self._native.architecture_json)

    def step(self) -> StepReport:
        """Runs one optimizer step. If the loss or the gradient is not finite, raises
        `soma.NonFinite`; the run is then as it was before, as it is after Ctrl-C."""
        return StepReport(*self._native.step())

    def save(self, path: str | os.PathLike) -> None:
        """Writes the current weights. Raises `OSError` if they cannot be written."""
        self._native.save(os.fspath(path))

    def save_checkpoint(self, path: str | os.PathLike) -> None:
        """Writes a checkpoint for `resume` and for `soma train --resume`. Raises `OSError` if it
        cannot be written; what was there is then unchanged."""
        self._native.save_checkpoint(os.fspath(path))

    def __reduce__(self):
        raise TypeError("a Trainer cannot be pickled: save a checkpoint, and resume it elsewhere")


def _documents(corpus: Corpus) -> list[tuple[bytes, bool]]:
    documents = zip(corpus.documents, corpus.ends, strict=True)
    return [(document.tobytes(), ends) for document, ends in documents]


def _recipe_json(recipe: Recipe) -> str:
    values = dataclasses.asdict(recipe)
    values["seed"] = list(recipe.seed)
    return json.dumps(values)
