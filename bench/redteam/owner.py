"""An owner who works with a submitter: weights and specialization are made for their documents.

Everything here leaves the model's predictions, and so its wins, as good as they were.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soma
from corpus import Domain
from judge import direction, targets, win_share
from network import Network
from soma import weights
from specialists import SETTINGS, Specialist, specialist, train

BEST_OF = 32
"""Documents of either side that compete for a target."""
TARGETS = 1000
SEARCH_STEPS = 400
"""Tries of the search for a better mean."""


@dataclass
class Outcome:
    """What one way brings the two."""

    name: str
    wins: float
    """Share of targets that the owner's side wins; par is half."""
    cross_entropy: float | None = None
    loss: float | None = None


def directions(embeddings: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """Directions of embeddings from a middle, `[documents, dim]`."""
    seen = embeddings - middle
    return seen / np.maximum(np.linalg.norm(seen, axis=1, keepdims=True), 1e-12)


def embeddings(model: Specialist, documents: Sequence[bytes]) -> np.ndarray:
    """Of all documents, `[documents, dim]`."""
    return np.stack([model.score(document).embedding for document in documents])


def chosen_means(model: Specialist, documents: Sequence[bytes], seed: int) -> list[Outcome]:
    """Other means than that of the model's domain.

    The two know a private part of the domain: the third of the documents that lies closest to one
    of them. Half of it, and half of the rest, is what a mean is chosen by; the other halves compete
    with each other.
    """
    rng = np.random.default_rng(seed)
    found = embeddings(model, documents)
    order = np.argsort(-found @ found[rng.integers(len(found))])
    third = len(found) // 3
    private, public = rng.permutation(order[:third]), rng.permutation(order[third:])
    halves = [(found[part[::2]], found[part[1::2]]) for part in (private, public)]
    (known, private), (known_public, public) = halves
    honest = model.specialization
    random = direction(rng.standard_normal(found.shape[1]))
    means = {
        "mean of the domain": honest,
        "mean of the private part": known.mean(axis=0),
        "mean of the others": known_public.mean(axis=0),
        "nearly zero": honest * 1e-3,
        "half of the mean": honest / 2,
        "twice as far, at most 1": direction(honest) * min(2 * np.linalg.norm(honest), 1),
        "opposite": -direction(honest),
        "random, length 1": random,
    }
    means["searched"] = searched_mean(known, known_public, means["mean of the private part"], rng)
    drawn = targets(TARGETS, found.shape[1], seed)
    outcomes = []
    for name, middle in means.items():
        cosines = [directions(side, middle) @ drawn.T for side in (private, public)]
        outcomes.append(Outcome(name, win_share(*cosines, min(BEST_OF, len(private)), seed)[0]))
    return outcomes


def searched_mean(
    private: np.ndarray, public: np.ndarray, start: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The mean, found by random changes, from which the private documents win most."""
    drawn = targets(TARGETS // 4, len(start), int(rng.integers(1 << 30)))
    count = min(len(private), len(public))

    def wins(middle: np.ndarray) -> float:
        best = [
            (directions(side[:count], middle) @ drawn.T).max(axis=0) for side in (private, public)
        ]
        return float(np.mean(best[0] > best[1]))

    best, best_wins = start, wins(start)
    for _ in range(SEARCH_STEPS):
        step = direction(rng.standard_normal(len(start))) * rng.choice([0.02, 0.1, 0.3])
        changed = best + step
        changed /= max(np.linalg.norm(changed), 1)
        found = wins(changed)
        if found > best_wins:
            best, best_wins = changed, found
    return best


def reshape(path: Path, out: Path, documents: Sequence[bytes], scale: bool) -> None:
    """Writes weights with the same predictions, but other representations: the mean of those of
    `documents` is moved to zero; with `scale`, all components spread alike."""
    network = Network(path)
    old = dict(weights.Weights(path))
    mean_of = [network._forward(np.frombuffer(d, np.uint8))[0].mean(axis=0) for d in documents]
    middle = np.mean(mean_of, axis=0)
    factor = np.ones_like(middle)
    if scale:
        spread = np.std(mean_of, axis=0)
        factor = np.clip(np.sqrt(np.mean(spread**2)) / np.maximum(spread, 1e-6), 0.2, 5)
    new = {
        "final_norm.gamma": old["final_norm.gamma"] * factor,
        "final_norm.beta": (old["final_norm.beta"] - middle) * factor,
        "predictor.weight": old["predictor.weight"] / factor[:, None],
        "predictor.bias": old["predictor.bias"] + middle @ old["predictor.weight"],
    }
    changed = {name: value.astype(np.float32) for name, value in (old | new).items()}
    weights.write(out, soma.NANO, changed.__getitem__)


def trained_apart(path: Path, out: Path, documents: Sequence[bytes], steps: int) -> None:
    """Trains on, with SIGReg weighted sixteen times as much, so that documents spread."""
    corpus = soma.Corpus()
    for document in documents:
        corpus.push(document)
    recipe = soma.Recipe(
        steps=steps, warmup=10, learning_rate=0.001, batch=4, sigreg_coefficient=0.064
    )
    trainer = soma.Trainer(path, corpus, recipe, soma.NANO, threads=1)
    for _ in range(steps):
        trainer.step()
    trainer.save(out)


def own_source(size: int, seed: int) -> Domain:
    """Data without end that costs nothing, and that only a model trained on it understands: random
    bytes in base64."""
    rng = np.random.default_rng(seed)
    documents = [base64.b64encode(rng.bytes(3072)) for _ in range(250)]
    held_out = [base64.b64encode(rng.bytes(size))[:size] for _ in range(256)]
    return Domain("base64", documents, held_out)


def made_weights(
    model: Specialist,
    training: Sequence[bytes],
    documents: Sequence[bytes],
    folder: Path,
    steps: int,
    seed: int,
) -> list[Outcome]:
    """Weights made so that documents spread: those they win, against those that the honest weights
    win. `training` is what the owner has, `documents` what competes."""
    pieces = [document[:256] for document in training[:96]]
    made = {}
    for name, make in {
        "honest weights": None,
        "mean moved to zero": lambda out: reshape(model.path, out, pieces, scale=False),
        "and components scaled": lambda out: reshape(model.path, out, pieces, scale=True),
        "trained on with SIGReg x16": lambda out: trained_apart(model.path, out, training, steps),
    }.items():
        path = folder / f"{model.path.stem}-{name.replace(' ', '-')}.safetensors"
        if make is None:
            path = model.path
        elif not path.exists():
            make(path)
        made[name] = Specialist(name, path)
        made[name].specialize(pieces)
    drawn = targets(TARGETS, len(model.specialization), seed)
    half = np.random.default_rng(seed).permutation(len(documents))
    ours = [documents[index] for index in half[::2]]
    theirs = [documents[index] for index in half[1::2]]
    honest = made["honest weights"]
    public = directions(embeddings(honest, theirs), honest.specialization) @ drawn.T
    isotropic = targets(len(ours), len(model.specialization), seed + 1) @ drawn.T
    count = min(BEST_OF, len(ours))
    outcomes = [Outcome("limit: isotropic", win_share(isotropic, public, count, seed)[0])]
    source = own_source(len(documents[0]), seed)
    noise = specialist(source, train(source, SETTINGS["demo"], 0, folder, steps), len(documents[0]))
    found = directions(embeddings(noise, source.held_out[: len(ours)]), noise.specialization)
    wins = win_share(found @ drawn.T, public, count, seed)[0]
    outcomes.append(Outcome("a source of its own", wins))
    for name, owner in made.items():
        found = directions(embeddings(owner, ours), owner.specialization) @ drawn.T
        scores = [owner.score(document) for document in ours]
        outcomes.append(
            Outcome(
                name,
                win_share(found, public, count, seed)[0],
                float(np.mean([score.cross_entropy for score in scores])),
                float(np.mean([score.loss for score in scores])),
            )
        )
    return outcomes
