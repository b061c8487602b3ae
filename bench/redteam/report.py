"""The results as a table and as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

COLUMNS = ("none", "centered", "gain", "fixed", "seen", "all")
"""Rules, in the order of the table."""


def kinds(results: Sequence[dict]) -> dict[str, list[dict]]:
    """The rows of each kind, over all measurements."""
    found: dict[str, list[dict]] = {}
    for result in results:
        for row in result["rows"]:
            found.setdefault(row["kind"], []).append(row)
    return found


def mean(values: Sequence[float]) -> float:
    """The mean, without what was not measured."""
    values = [value for value in values if not math.isnan(value)]
    return sum(values) / len(values) if values else math.nan


def table(results: Sequence[dict]) -> str:
    """Who wins what, the mean and the worst of all measurements, and what passes."""
    head = "".join(f"{name:>10}" for name in COLUMNS)
    lines = [f"{'% of targets won':32}{'gain':>7}{'pass %':>8}{head}{'worst':>8}"]
    for kind, rows in kinds(results).items():
        shares = "".join(
            f"{100 * mean([row['wins'][name] for row in rows]):10.0f}" for name in COLUMNS
        )
        gain, passes = mean([row["gain"] for row in rows]), mean([row["passes"] for row in rows])
        worst = max(row["wins"]["all"] for row in rows)
        lines.append(f"{kind:32}{gain:7.2f}{100 * passes:8.1f}{shares}{100 * worst:8.0f}")
    lines += ["", f"{'natural, held out':32}{'gain':>7}{'pass %':>8}{'lowest %':>10}"]
    gains: dict[str, list[list[float]]] = {}
    minimum = results[0]["gain_min"] if results else 0
    for result in results:
        for name, values in result["gains"].items():
            gains.setdefault(name, []).append(values)
    for name, runs in gains.items():
        medians = [sorted(values)[len(values) // 2] for values in runs]
        shares = [sum(value >= minimum for value in values) / len(values) for values in runs]
        lines.append(
            f"{name:32}{mean(medians):7.2f}{100 * mean(shares):8.1f}{100 * min(shares):10.1f}"
        )
    return "\n".join([*lines, "", *spread_lines(results), *owner_lines(results)])


def spread_lines(results: Sequence[dict]) -> list[str]:
    """How the recipes spread natural documents. `best` is the mean cosine of the best document."""
    fields = ("cross_entropy", "plain_cone", "centered_cone", "middle", "dimensions")
    heads = ("nats", "cone", "centered", "middle", "dims", "best plain", "best centered")
    lines = [f"{'recipe, seed':24}" + "".join(f"{head:>13}" for head in heads)]
    for result in results:
        best = result["rows"][0]["closeness"]
        values = [result["spread"][field] for field in fields] + [best["none"], best["centered"]]
        name = f"{result['setting']}, {result['seed']}"
        lines.append(f"{name:24}" + "".join(f"{value:13.3f}" for value in values))
    return lines


def owner_lines(results: Sequence[dict]) -> list[str]:
    """What an owner and a submitter win together."""
    lines = []
    for part in ("means", "weights"):
        found: dict[str, list[dict]] = {}
        for result in results:
            for outcomes in result.get("owner", {}).values():
                for outcome in outcomes[part]:
                    found.setdefault(outcome["name"], []).append(outcome)
        if not found:
            continue
        lines += ["", f"{'owner and submitter: ' + part:32}{'wins %':>8}{'worst':>8}"]
        lines[-1] += f"{'nats':>8}{'loss':>8}"
        for name, outcomes in found.items():
            wins = [outcome["wins"] for outcome in outcomes]
            line = f"{name:32}{100 * mean(wins):8.0f}{100 * max(wins):8.0f}"
            for field in ("cross_entropy", "loss"):
                values = [outcome[field] for outcome in outcomes if outcome[field] is not None]
                line += f"{mean(values):8.3f}" if values else ""
            lines.append(line)
    return lines


WIDTH, ROW, LEFT, TOP = 720, 17, 236, 46
SHOWN = (("none", "#c44e52"), ("centered", "#dd8452"), ("gain", "#4c72b0"), ("all", "#55a868"))
"""Rules in the picture, with their colors."""


def picture(results: Sequence[dict]) -> str:
    """A dot for each kind and set of rules; the line is par."""
    rows = kinds(results)
    height = TOP + ROW * len(rows) + 30

    def x(share: float) -> float:
        return LEFT + (WIDTH - LEFT - 24) * share

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{WIDTH / 2}" y="16" text-anchor="middle" font-size="13">'
        "Share of targets won against as many natural documents</text>",
    ]
    for place, (name, color) in enumerate(SHOWN):
        at = LEFT + 100 * place
        label = {"none": "no rules", "gain": "gain", "all": "all rules"}.get(name, name)
        out.append(f'<circle cx="{at}" cy="30" r="4" fill="{color}"/>')
        out.append(f'<text x="{at + 8}" y="34">{label}</text>')
    bottom = TOP + ROW * len(rows)
    for tenths in range(0, 11, 2):
        at = x(tenths / 10)
        out.append(f'<path d="M{at:.1f} {TOP - 6}V{bottom}" stroke="#dddddd"/>')
        out.append(
            f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{tenths * 10} %</text>'
        )
    out.append(f'<path d="M{x(0.5):.1f} {TOP - 6}V{bottom}" stroke="#555555"/>')
    for place, (kind, found) in enumerate(rows.items()):
        y = TOP + ROW * place + 4
        out.append(f'<text x="{LEFT - 10}" y="{y + 4}" text-anchor="end">{kind}</text>')
        for name, color in SHOWN:
            share = mean([row["wins"][name] for row in found])
            out.append(
                f'<circle cx="{x(share):.1f}" cy="{y}" r="4" fill="{color}" fill-opacity="0.85"/>'
            )
    return "\n".join([*out, "</svg>", ""])
