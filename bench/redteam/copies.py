"""Whether changed copies of winners are recognized, and other documents are not.

For each choice of window and threshold: the share of changed copies that is refused, and the share
of natural documents that is, if all documents before them have won.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import seen
from corpus import Domain

WINDOWS = (8, 16, 32)
SHARES = (0.25, 0.5, 0.75)
CHOICES = [(window, share) for window in WINDOWS for share in SHARES]
SIZES = (256, 1024, 4096)
COPIES = 200
"""Winners of each size that are copied."""
DOCUMENTS = 500
"""Documents of a domain that may be mistaken for copies."""


def table(domains: Sequence[Domain]) -> str:
    """Both measurements."""
    head = "".join(f"{f'{window}, {share:.0%}':>9}" for window, share in CHOICES)
    pool = [piece for domain in domains for piece in domain.held_out + domain.training]
    order = np.random.default_rng(0).permutation(len(pool))
    pool = [pool[place] for place in order if len(pool[place]) == max(SIZES)]
    lines = [f"{'% refused: copies':26}{head}"]
    for size in SIZES:
        found = refused_copies([piece[:size] for piece in pool[: COPIES + 1]])
        lines += [row(f"{size}: {name}", values) for name, values in found.items()]
    lines += ["", f"{'% refused: others':26}{head}"]
    for size in SIZES:
        for domain in domains:
            documents = domain_documents(domain, size)
            if len(documents) >= 20:
                values = [mistaken(documents, *choice) for choice in CHOICES]
                lines.append(row(f"{size}: {domain.name}, {len(documents)}", values))
    return "\n".join(lines)


def row(name: str, shares: Sequence[float]) -> str:
    """A line of a table."""
    return f"{name:26}" + "".join(f"{100 * share:9.1f}" for share in shares)


def domain_documents(domain: Domain, size: int) -> list[bytes]:
    """The first bytes of a domain's pieces, each once."""
    pieces = domain.held_out + domain.training
    found = dict.fromkeys(piece[:size] for piece in pieces if len(piece) >= size)
    return list(found)[:DOCUMENTS]


def refused_copies(documents: Sequence[bytes]) -> dict[str, list[float]]:
    """The share of the copies that is refused, by the change that was made and the choice."""
    rng = np.random.default_rng(1)
    refused: dict[str, list[list[bool]]] = {}
    for winner, other in zip(documents[1:], documents, strict=False):
        for name, changed in changes(winner, other, rng).items():
            refused.setdefault(name, []).append(
                [is_seen(changed, winner, *choice) for choice in CHOICES]
            )
    return {name: np.mean(found, axis=0).tolist() for name, found in refused.items()}


def changes(winner: bytes, other: bytes, rng: np.random.Generator) -> dict[str, bytes]:
    """What somebody may do with a winner."""
    size = len(winner)
    turn = int(rng.integers(1, size))
    made = {"1 byte": substituted(winner, rng.choice(size, 1), rng)}
    for percent in (1, 2, 3, 4, 6):
        count = max(round(size * percent / 100), 1)
        made[f"{percent} % anywhere"] = substituted(
            winner, rng.choice(size, count, replace=False), rng
        )
        even = (np.arange(count) * size + size // 2) // count
        made[f"{percent} % evenly"] = substituted(winner, even, rng)
    _, first = np.unique(seen.window_hashes(winner, seen.WINDOW), return_index=True)
    pieces = first[: seen.PIECES // 2 + 1] + seen.WINDOW // 2
    return made | {
        "9 bytes, in its pieces": substituted(winner, pieces, rng),
        "rotated": winner[turn:] + winner[:turn],
        "shifted": b"abcde" + winner[:-5],
        "three quarters": winner[: 3 * size // 4] + other[: size // 4],
        "half": winner[: size // 2] + other[: size // 2],
        "in twice as much": other[: size // 2] + winner + other[size // 2 :],
        "upper case": winner.upper(),
    }


def substituted(document: bytes, places: Sequence[int], rng: np.random.Generator) -> bytes:
    """The document with other bytes in these places."""
    data = bytearray(document)
    for place in places:
        data[place] = (data[place] + int(rng.integers(1, 256))) % 256
    return bytes(data)


def is_seen(document: bytes, winner: bytes, window: int, share: float) -> bool:
    """Whether so large a share of the pieces of a document belongs to a winner."""
    sketches = (seen.sketch(data, seen.PIECES, window) for data in (document, winner))
    return seen.shared(*sketches) >= share


def mistaken(documents: Sequence[bytes], window: int, share: float) -> float:
    """The share of the documents that is refused, if those before them have won."""
    owners: dict[int, int] = {}
    refused = 0
    for number, document in enumerate(documents):
        pieces = seen.sketch(document, seen.PIECES, window).tolist()
        known = Counter(owners[piece] for piece in pieces if piece in owners)
        if known and max(known.values()) >= math.ceil(share * len(pieces)):
            refused += 1
            continue
        for piece in pieces:
            owners.setdefault(piece, number)
    return refused / max(len(documents), 1)
