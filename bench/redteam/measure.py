"""One measurement: the models of one recipe and seed, all kinds of documents, all rules."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import generators
import numpy as np
import search as searches
from corpus import Domain
from generators import Material
from judge import Judge, Judged, Rules, direction, mark_seen, targets, win_share
from network import Network
from specialists import Specialist

NATURAL = "natural, second sample"
"""The kind that shows how far from par chance leads."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    document: int = 256
    """Bytes of a document: one chunk of `nano`."""
    natural: int = 64
    """Natural documents of each domain that compete; as many are the generators' material."""
    kind: int = 96
    """Documents of a kind."""
    best_of: int = 48
    """Documents of either side that compete for a target."""
    targets: int = 1000
    searched: int = 24
    """Documents that a search before the draw makes."""
    attacked: int = 8
    """Targets that a search after the draw attacks."""
    steps_before: int = 250
    """Scores that a search spends on a document."""
    steps_after: int = 400


@dataclass
class Row:
    """What was measured of a kind."""

    kind: str
    wins: dict[str, float]
    """Share of targets won, by rules."""
    passes: float
    """Share of the documents that have the minimum gain."""
    gain: float
    """Median gain in nats."""
    cone: tuple[float, float]
    """Length of the mean embedding, and of the mean direction from the middle."""
    closeness: dict[str, float] = field(default_factory=dict)
    """Mean cosine of the best document, by rules."""
    seen: float = 0.0
    """Share of the documents that count as seen before."""


def rule_sets(gain_min: float) -> list[Rules]:
    """No rules, each rule alone, and all."""
    return [
        Rules("none"),
        Rules("centered", centered=True),
        Rules("gain", gain_min=gain_min),
        Rules("fixed", fixed=True),
        Rules("seen", seen=True),
        Rules("centered and gain", centered=True, gain_min=gain_min),
        Rules("all", centered=True, gain_min=gain_min, fixed=True, seen=True),
    ]


class Measurement:
    """The documents and models of one measurement."""

    def __init__(
        self,
        domains: Sequence[Domain],
        specialists: Sequence[Specialist],
        sizes: Sizes,
        gain_min: float,
        seed: int,
        say: Callable[[str], None],
    ):
        self.sizes, self.gain_min, self.seed, self._say = sizes, gain_min, seed, say
        self.rules = rule_sets(gain_min)
        self.judge = Judge(specialists)
        self.networks = [Network(specialist.path) for specialist in specialists]
        self.domains: dict[str, Judged] = {}
        natural, pool, winners = [], [], []
        for domain in domains:
            found = domain.documents(sizes.document, 3 * sizes.natural, seed)
            third = max(len(found) // 3, 1)
            natural += found[:third]
            pool += found[third : 2 * third]
            winners += found[2 * third :]
        self.natural = self.judge.judge(natural)
        self.pool = self.judge.judge(pool)
        self.winners = winners
        self.material = Material(
            sizes.document, pool, winners, self.networks, np.random.default_rng(seed)
        )
        dim = self.natural.plain.shape[1]
        self.targets = targets(sizes.targets, dim, seed + 1)

    def understood(self, domain: Domain, count: int) -> list[float]:
        """The gain of a domain's held-out documents."""
        return self.judge.judge(domain.documents(self.sizes.document, count, 0)).gain.tolist()

    def spread(self) -> dict[str, float]:
        """How natural documents lie under their winners, and how well these predict."""
        scores = [
            self.judge.specialists[winner].score(document)
            for document, winner in zip(self.natural.documents, self.natural.winner, strict=True)
        ]
        plain, centered = self.natural.cone()
        spectrum = np.linalg.svd(self.natural.centered, compute_uv=False) ** 2
        return {
            "cross_entropy": float(np.mean([score.cross_entropy for score in scores])),
            "plain_cone": plain,
            "centered_cone": centered,
            "middle": float(
                np.mean([np.linalg.norm(s.specialization) for s in self.judge.specialists])
            ),
            "dimensions": float(spectrum.sum() ** 2 / (spectrum**2).sum()),
        }

    def generator(self, kind: str) -> Row:
        """Measures a generator."""
        self._begin(kind)
        documents = generators.generate(kind, self.material, self.sizes.kind)
        return self.row(kind, self.judge.judge(documents))

    def _begin(self, kind: str) -> None:
        """A kind's documents do not depend on which kinds were measured before."""
        self.material.rng = np.random.default_rng([self.seed, zlib.crc32(kind.encode())])

    def second_sample(self) -> Row:
        """Measures natural documents as if they were a generator."""
        return self.row(NATURAL, self.pool)

    def row(self, kind: str, judged: Judged) -> Row:
        """Lets documents compete with as many natural ones."""
        mark_seen(judged, self.winners)
        count = min(self.sizes.best_of, len(judged), len(self.natural))
        row = self._row(kind, judged)
        for rules in self.rules:
            wins, closeness, _ = win_share(
                judged.cosines(self.targets, rules),
                self.natural.cosines(self.targets, rules),
                count,
                self.seed,
            )
            row.wins[rules.name], row.closeness[rules.name] = wins, closeness
        self._show(row)
        return row

    def search(self, search: searches.Search) -> Row:
        """Measures a search."""
        self._begin(search.name)
        return self._search_after(search) if search.after else self._search_before(search)

    def _search_before(self, search: searches.Search) -> Row:
        order = self.material.rng.permutation(len(self.pool))
        understood = [index for index in order if self.pool.gain[index] >= self.gain_min]
        starts = understood if search.gain and understood else order
        wanted = targets(self.sizes.searched, self.targets.shape[1], self.seed + 2)
        steps = self.sizes.steps_before
        found = [
            self._climb(search, index, direction, steps)
            for index, direction in zip(starts, wanted, strict=False)
        ]
        return self.row(search.name, self.judge.judge(found))

    def _search_after(self, search: searches.Search) -> Row:
        wanted = self.targets[: self.sizes.attacked]
        rules = Rules("", centered=search.centered, gain_min=self.gain_min if search.gain else None)
        starts = np.argmax(self.pool.cosines(wanted, rules), axis=0)
        found = [
            self._climb(search, index, target, self.sizes.steps_after)
            for index, target in zip(starts, wanted, strict=True)
        ]
        judged = self.judge.judge(found, fixed=False)
        mark_seen(judged, self.winners)
        row = self._row(search.name, judged)
        for rules in self.rules:
            # Each document is for one target only.
            mine = np.diag(judged.cosines(wanted, rules))
            natural = self.natural.cosines(wanted, rules).max(axis=0)
            row.wins[rules.name] = float(np.mean(mine > natural))
            finite = mine[np.isfinite(mine)]
            row.closeness[rules.name] = float(finite.mean()) if len(finite) else float("nan")
        self._show(row)
        return row

    def _climb(self, search: searches.Search, index: int, wanted: np.ndarray, steps: int) -> bytes:
        winner = self.pool.winner[index]
        return searches.climb(
            search,
            self.pool.documents[index],
            direction(wanted),
            self.judge.specialists[winner],
            self.material,
            self.networks[winner],
            self.gain_min,
            steps,
        )

    def _row(self, kind: str, judged: Judged) -> Row:
        seen = float(judged.was_seen.mean()) if judged.was_seen is not None else 0.0
        return Row(
            kind,
            {},
            float((judged.gain >= self.gain_min).mean()),
            float(np.median(judged.gain)),
            judged.cone(),
            seen=seen,
        )

    def _show(self, row: Row) -> None:
        wins = "  ".join(f"{name} {100 * share:.0f}" for name, share in row.wins.items())
        self._say(f"{row.kind}: gain {row.gain:.2f}, {100 * row.passes:.0f} % pass; {wins}")


def measure(
    measurement: Measurement,
    kinds: Sequence[str],
    ways: Sequence[searches.Search],
    gains: dict[str, list[float]],
) -> dict:
    """Everything of one recipe and seed, as JSON."""
    began = time.perf_counter()
    rows = [measurement.second_sample()]
    rows += [measurement.generator(kind) for kind in kinds]
    rows += [measurement.search(search) for search in ways]
    return {
        "sizes": asdict(measurement.sizes),
        "gain_min": measurement.gain_min,
        "spread": measurement.spread(),
        "gains": gains,
        "rows": [asdict(row) for row in rows],
        "seconds": round(time.perf_counter() - began, 1),
    }
