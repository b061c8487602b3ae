"""Attacks the rules that decide what wins: garbage, copies and searches against natural documents.

Models are trained as `soma demo` does, one for each domain. Every kind of document competes with as
many natural held-out ones for random targets. Run `python bench/redteam --help`.

It only measures: nothing here defines a rule.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import copies
import corpus
import generators
import owner
import search as searches
from measure import Measurement, Sizes, measure
from report import picture, table
from specialists import SETTINGS, Specialist, specialist, train

SMALL = Sizes(
    natural=6,
    kind=4,
    best_of=4,
    targets=20,
    searched=2,
    attacked=1,
    steps_before=3,
    steps_after=3,
)
"""Sizes that only show that everything runs."""
OWNER_STEPS = 200
"""Steps for which an owner trains weights for the two."""


def say(text: str) -> None:
    """Progress goes to stderr."""
    print(text, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="bench/redteam",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "domains",
        nargs="*",
        metavar="NAME=PATH",
        help="a domain: a file, or a folder of files (default: four kinds of this repository's)",
    )
    add(
        "--untrained",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="natural data that no model is trained on: only its gain is measured",
    )
    add(
        "--repository",
        type=Path,
        default=corpus.ROOT,
        metavar="DIR",
        help="checkout that the default domains are taken from (default: this one)",
    )
    add("--settings", nargs="+", default=["demo"], choices=list(SETTINGS), help="recipes")
    add("--seeds", nargs="+", type=int, default=[1], help="a set of models for each")
    add("--steps", type=int, help="training steps instead of the recipe's")
    add("--kinds", nargs="*", help="generators and searches (default: all)")
    add("--gain-min", type=float, default=0.125, help="minimum gain in nats")
    add("--folder", type=Path, default=Path("target/redteam"), help="for weights and results")
    add("--copies", action="store_true", help="measure only how copies are recognized")
    add("--owner", action="store_true", help="also measure owners who work with submitters")
    add("--plot", type=Path, metavar="FILE", help="write a picture (SVG)")
    add("--small", action="store_true", help="a few documents of each kind: only a test")
    add("--table", action="store_true", help="print the results of earlier runs, measure nothing")
    return parser.parse_args()


def domain_of(text: str) -> corpus.Domain:
    """The domain of `NAME=PATH`."""
    name, _, path = text.partition("=")
    files = [Path(path)] if Path(path).is_file() else list(corpus.files_below(Path(path)))
    return corpus.domain(name, files)


def trained_domains(args: argparse.Namespace) -> list[corpus.Domain]:
    """The domains that have a model each."""
    named = [domain_of(text) for text in args.domains]
    return named or corpus.repository_domains(args.repository)


def run(args: argparse.Namespace, setting: str, seed: int) -> None:
    """One measurement; its result is a file in the folder."""
    domains = trained_domains(args)
    untrained = [domain_of(text) for text in args.untrained]
    sizes = SMALL if args.small else Sizes()
    weights = args.folder / "weights"
    specialists = [
        specialist(
            domain,
            train(domain, SETTINGS[setting], seed, weights, args.steps, say),
            sizes.document,
        )
        for domain in domains
    ]
    measurement = Measurement(domains, specialists, sizes, args.gain_min, seed, say)
    count = 3 * sizes.natural
    gains = {domain.name: measurement.understood(domain, count) for domain in domains}
    gains |= {
        f"{domain.name} (untrained)": measurement.understood(domain, count) for domain in untrained
    }
    for name, values in gains.items():
        passes = sum(gain >= args.gain_min for gain in values) / len(values)
        say(f"{name}: {len(values)} documents, {100 * passes:.1f} % pass")
    wanted = args.kinds
    kinds = [*generators.SINGLE, *generators.SAMPLED]
    kinds = [kind for kind in kinds if wanted is None or kind in wanted]
    ways = [way for way in searches.SEARCHES if wanted is None or way.name in wanted]
    result = {"setting": setting, "seed": seed, **measure(measurement, kinds, ways, gains)}
    if args.owner:
        result["owner"] = {
            domain.name: owner_of(args, measurement, domain, model)
            for domain, model in zip(domains, specialists, strict=True)
        }
    name = f"{setting.replace(' ', '-')}-{seed}.json"
    (args.folder / name).write_text(json.dumps(result, indent=1))


def owner_of(
    args: argparse.Namespace, measurement: Measurement, domain: corpus.Domain, model: Specialist
) -> dict:
    """What the owner of this model can do with a submitter."""
    sizes, seed = measurement.sizes, measurement.seed
    documents = domain.documents(sizes.document, 4 * sizes.natural, seed)
    steps = args.steps or OWNER_STEPS
    weights = args.folder / "weights"
    made = owner.made_weights(model, domain.training, documents, weights, steps, seed)
    outcomes = {"means": owner.chosen_means(model, documents, seed), "weights": made}
    for part in outcomes.values():
        for outcome in part:
            say(f"{domain.name}, {outcome.name}: {100 * outcome.wins:.0f} % won")
    return {name: [asdict(outcome) for outcome in part] for name, part in outcomes.items()}


def main() -> None:
    """Measures and prints."""
    args = arguments()
    if args.copies:
        print(copies.table([*trained_domains(args), *map(domain_of, args.untrained)]))
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    if not args.table:
        for setting in args.settings:
            for seed in args.seeds:
                run(args, setting, seed)
    results = [json.loads(path.read_text()) for path in sorted(args.folder.glob("*-*.json"))]
    print(table(results))
    if args.plot:
        args.plot.write_text(picture(results))


if __name__ == "__main__":
    main()
