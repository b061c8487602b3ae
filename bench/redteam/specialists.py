"""Trained models, one for each domain, and the scores that they give.

Weights are kept in a folder and never trained twice.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soma
from blake3 import blake3
from corpus import Domain, cut

SPECIALIZATION_DOCUMENTS = 64
"""Number of training documents that a specialization is the mean of."""
UNIT = 32767
"""Length of an embedding."""


@dataclass(frozen=True)
class Setting:
    """A recipe by name, with what differs from the demo's."""

    name: str
    changes: dict = field(default_factory=dict)

    def recipe(self, seed: int, steps: int | None) -> soma.Recipe:
        """The recipe of one run."""
        changes = {"steps": 1000, **self.changes}
        if steps:
            changes["steps"] = steps
        return soma.Recipe(seed=soma.seed_of(seed), **changes)


SETTINGS = {
    setting.name: setting
    for setting in [
        Setting("demo"),
        Setting("sigreg x4", {"sigreg_coefficient": 0.016}),
        Setting("sigreg x2", {"sigreg_coefficient": 0.008}),
        Setting("cap x4", {"sigreg_cap": 1024}),
        Setting("batch x2", {"batch": 4}),
        Setting("steps x4", {"steps": 4000}),
    ]
}
"""The recipes that can be compared."""


@dataclass(frozen=True)
class Scored:
    """What one model says about one document."""

    cross_entropy: float
    loss: float
    gain: float
    embedding: np.ndarray
    """Unit length, float64 `[dim]`."""


class Specialist:
    """One model, its specialization, and a cache of its scores."""

    def __init__(self, name: str, path: Path, seed: bytes = bytes(32)):
        self.name, self.path = name, path
        self._model = soma.Model.from_file(path, threads=1)
        self._seed = seed
        self._scores: dict[bytes, Scored] = {}
        self.specialization = np.zeros(self._model.architecture.dim)

    def score(self, document: bytes, keep: bool = True) -> Scored:
        """The score of a document; a search need not keep those it rejects."""
        found = self._scores.get(document)
        if found is None:
            score = self._model.score(document, self._seed)
            embedding = score.embedding / UNIT
            found = Scored(score.cross_entropy, score.loss, score.gain, embedding)
            if keep:
                self._scores[document] = found
        return found

    def specialize(self, documents: Sequence[bytes]) -> None:
        """Sets the specialization: the plain mean of the embeddings of `documents`."""
        self.specialization = np.mean([self.score(d, False).embedding for d in documents], axis=0)


def specialist(domain: Domain, path: Path, size: int) -> Specialist:
    """The model in a weights file, specialized on a domain's training documents of `size` bytes."""
    model = Specialist(domain.name, path)
    model.specialize(cut(domain.training, size, SPECIALIZATION_DOCUMENTS, seed=0))
    return model


def train(
    domain: Domain,
    setting: Setting,
    seed: int,
    folder: Path,
    steps: int | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Trains a specialist as `soma demo` does, unless it was trained before. Its weights file."""
    recipe = setting.recipe(seed, steps)
    corpus = soma.Corpus()
    for piece in domain.training:
        corpus.push(piece)
    identity = repr((recipe, domain.name, [d.tobytes() for d in corpus.documents])).encode()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{domain.name}-{blake3(identity).hexdigest()[:16]}.safetensors"
    if not path.exists():
        began = time.perf_counter()
        start = folder / f"start-{os.getpid()}.safetensors"
        soma.native.init(start, soma.NANO, recipe.seed)
        trainer = soma.Trainer(start, corpus, recipe, soma.NANO, threads=1)
        for _ in range(recipe.steps):
            report = trainer.step()
        trainer.save(start)
        start.rename(path)
        say(
            f"{setting.name}, {domain.name}, seed {seed}: {report.cross_entropy:.3f} nats after "
            f"{recipe.steps} steps in {time.perf_counter() - began:.0f} s"
        )
        about = {"setting": setting.name, "domain": domain.name, "seed": seed}
        path.with_suffix(".json").write_text(json.dumps(about))
    return path
