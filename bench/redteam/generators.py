"""Documents that nobody wrote, or that were written for something else: each kind is a function.

A generator knows everything that is public: natural documents, and the models. It does not know
targets.
"""

from __future__ import annotations

import base64
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from network import Network

LETTERS = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", np.uint8)


@dataclass
class Material:
    """What a generator works with."""

    size: int
    """Bytes of a document."""
    pool: Sequence[bytes]
    """Natural documents of this size, none of which competes itself."""
    winners: Sequence[bytes]
    """Natural documents that have won before."""
    networks: Sequence[Network]
    rng: np.random.Generator

    def pick(self) -> bytes:
        """A random natural document."""
        return self.pool[self.rng.integers(len(self.pool))]

    def span(self, length: int) -> bytes:
        """A random part of a natural document."""
        document = self.pick()
        start = self.rng.integers(max(len(document) - length, 0) + 1)
        return document[start : start + length]

    def noise(self, length: int) -> bytes:
        """Random bytes."""
        return self.rng.bytes(length)

    def choices(self, alphabet, length: int) -> bytes:
        """Random choices from an array of bytes."""
        return self.rng.choice(alphabet, length).astype(np.uint8).tobytes()

    @cached_property
    def words(self) -> list[bytes]:
        """All words of the pool, each as often as it occurs."""
        return [word for document in self.pool for word in document.split()]

    def word(self) -> bytes:
        """A random word."""
        return self.words[self.rng.integers(len(self.words))]

    @cached_property
    def markov(self) -> dict[bytes, tuple[np.ndarray, np.ndarray]]:
        """What follows 1 to 3 bytes in the pool, with its frequency."""
        following: dict[bytes, Counter] = defaultdict(Counter)
        for document in self.pool:
            for order in (1, 2, 3):
                for end in range(order, len(document)):
                    following[document[end - order : end]][document[end]] += 1
        return {
            context: (
                np.fromiter(counts, np.uint8),
                np.fromiter(counts.values(), float) / counts.total(),
            )
            for context, counts in following.items()
        }

    @cached_property
    def program(self) -> bytes:
        """Machine code: the middle of this interpreter, or of a library that it was built with."""
        path = Path(sys.executable).resolve()
        found = [path, *sorted(Path(np.__file__).parents[1].glob("numpy.libs/*.so*"))]
        data = max((file.read_bytes() for file in found[:4]), key=len)
        return data[len(data) // 4 : len(data) * 3 // 4]


def repeated(piece: bytes, size: int) -> bytes:
    """A piece repeated up to a size."""
    return (piece * (size // max(len(piece), 1) + 1))[:size]


def small_alphabet(m: Material) -> bytes:
    """Random choices from 1 to 8 byte values."""
    return m.choices(np.frombuffer(m.noise(m.rng.integers(1, 9)), np.uint8), m.size)


def few_letters(m: Material) -> bytes:
    """Random choices from 1 to 8 letters."""
    return m.choices(m.rng.choice(LETTERS, m.rng.integers(1, 9)), m.size)


def words_shuffled(m: Material) -> bytes:
    """The words of a document in random order."""
    words = m.pick().split()
    m.rng.shuffle(words)
    return b" ".join(words)


def slots(m: Material) -> bytes:
    """A template, one natural line, again and again with other words in two places."""
    line = (m.span(48).replace(b"\n", b" ") + b"\n").split(b" ")
    places = m.rng.integers(len(line), size=2)
    out = b""
    while len(out) < m.size:
        for place in places:
            line[place] = m.word()[:12]
        out += b" ".join(line)
    return out


def markov(order: int) -> Callable[[Material], bytes]:
    """Text in which each byte follows the last `order` as in natural documents."""

    def text(m: Material) -> bytes:
        out = bytearray(m.span(order))
        while len(out) < m.size:
            following = m.markov.get(bytes(out[-order:]))
            if following is None:
                out += m.span(order)
            else:
                out.append(m.rng.choice(following[0], p=following[1]))
        return bytes(out)

    return text


def mosaic(m: Material) -> bytes:
    """Pieces of 16 to 64 bytes from different documents."""
    out = b""
    while len(out) < m.size:
        out += m.span(m.rng.integers(16, 65))
    return out


def mutated_winner(m: Material) -> bytes:
    """A winner of an earlier epoch with one byte in fifty changed."""
    data = bytearray(m.winners[m.rng.integers(len(m.winners))])
    for place in m.rng.choice(len(data), max(len(data) // 50, 1), replace=False):
        data[place] = m.rng.integers(32, 127)
    return bytes(data)


def padded(m: Material) -> bytes:
    """A quarter of a document, then one byte up to the end."""
    pad = m.rng.choice(np.frombuffer(b" \n\0=-.", np.uint8), 1).tobytes()
    return m.span(m.size // 4) + pad * m.size


def substituted(m: Material) -> bytes:
    """A document in a simple cipher: each letter always stands for the same other one."""
    letters = LETTERS.tobytes()
    key = bytes(m.rng.permutation(LETTERS))
    return m.pick().translate(bytes.maketrans(letters + letters.upper(), key + key.upper()))


def numbers(m: Material) -> bytes:
    """Consecutive numbers."""
    start, separator = int(m.rng.integers(10**6)), (" ", ", ", "\n")[m.rng.integers(3)]
    return separator.join(str(start + i) for i in range(m.size)).encode()


def machine_code(m: Material) -> bytes:
    """Machine code of a program."""
    start = m.rng.integers(len(m.program) - m.size)
    return m.program[start : start + m.size]


def sampled(m: Material, count: int, temperature: float) -> list[bytes]:
    """Text sampled from the models, each of which writes its share."""
    out = []
    for number, network in enumerate(m.networks):
        share = count * (number + 1) // len(m.networks) - count * number // len(m.networks)
        if share:
            prompts = [np.frombuffer(m.span(2), np.uint8) for _ in range(share)]
            length = min(m.size, network.positions)
            data = network.sample(np.stack(prompts), length, m.rng, temperature)
            out += [repeated(row.tobytes(), m.size) for row in data]
    return out


SINGLE: dict[str, Callable[[Material], bytes]] = {
    "random bytes": lambda m: m.noise(m.size),
    "a byte repeated": lambda m: m.noise(1) * m.size,
    "two bytes repeated": lambda m: repeated(m.noise(2), m.size),
    "1 to 8 byte values": small_alphabet,
    "1 to 8 letters": few_letters,
    "noise repeated": lambda m: repeated(m.noise(m.rng.integers(8, 100)), m.size),
    "a word repeated": lambda m: repeated(m.word() + b" ", m.size),
    "a piece repeated": lambda m: repeated(m.span(m.rng.integers(16, 65)), m.size),
    "a half twice": lambda m: repeated(m.span(m.size // 2), m.size),
    "words shuffled": words_shuffled,
    "template with slots": slots,
    "Markov text, order 1": markov(1),
    "Markov text, order 2": markov(2),
    "Markov text, order 3": markov(3),
    "mosaic of pieces": mosaic,
    "two halves": lambda m: m.span(m.size // 2) + m.span(m.size),
    "winner, 2 % changed": mutated_winner,
    "reversed": lambda m: m.pick()[::-1],
    "upper case": lambda m: m.pick().upper(),
    "simple cipher": substituted,
    "compressed": lambda m: zlib.compress(b"".join(m.pick() for _ in range(8)), 9),
    "padded": padded,
    "machine code": machine_code,
    "base64": lambda m: base64.b64encode(m.noise(m.size)),
    "hexadecimal": lambda m: m.noise(m.size).hex().encode(),
    "consecutive numbers": numbers,
    "UTF-16": lambda m: m.pick().decode("latin-1").encode("utf-16-le"),
}
"""Every kind that is made one by one."""
SAMPLED = {f"sampled at {temperature}": temperature for temperature in (0.5, 1.0, 1.5)}
"""Text sampled from the models, by temperature."""


def generate(kind: str, material: Material, count: int) -> list[bytes]:
    """`count` documents of a kind, all of the material's size."""
    if kind in SAMPLED:
        return sampled(material, count, SAMPLED[kind])
    make = SINGLE[kind]
    return [repeated(make(material), material.size) for _ in range(count)]
