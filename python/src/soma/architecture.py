"""The hyperparameters that a weights file, a score and a training run must agree on.

Nothing here may depend on the machine (threads, devices, batch sizes).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

_JSON_NAMES = {
    "dim": "embedding_dim",
    "heads": "num_heads",
    "layers": "num_layers",
    "ffn": "pwff_hidden_dim",
    "vocabulary": "vocab_size",
    "positions": "max_seq_len",
    "sigreg_slices": "sig_reg_slices",
    "sigreg_points": "sig_reg_points",
    "sigreg_t_max": "sig_reg_t_max",
    "sigreg_coefficient": "sig_reg_coefficient",
    "sigreg_cap": "sig_reg_cap",
}
_OPTIONAL = {"sigreg_coefficient", "sigreg_cap"}


@dataclass(frozen=True)
class Architecture:
    """Hyperparameters of a byte transformer. Attributes are named as in the Rust crate; the JSON
    names are those of the public V1 configuration."""

    dim: int
    """Width of the residual stream and length of an embedding."""
    heads: int
    """Attention heads; each is `dim / heads` wide."""
    layers: int
    """Transformer layers."""
    ffn: int
    """Hidden width of the feed-forward network."""
    vocabulary: int
    """Size of the vocabulary: 256 bytes, PAD, EOS and reserved ids."""
    positions: int
    """Length of a chunk in bytes, which is the number of positions."""
    sigreg_slices: int
    """Directions that SIGReg projects on."""
    sigreg_points: int
    """Nodes of SIGReg's integral, including both ends."""
    sigreg_t_max: float
    """Upper end of SIGReg's integral."""
    sigreg_coefficient: float = 0.02
    """Weight of SIGReg in the loss."""
    sigreg_cap: int = 16
    """Upper limit of SIGReg's factor, the number of samples, when scoring."""

    @staticmethod
    def of(arch: ArchitectureLike) -> Architecture:
        """Resolves `arch`: `"nano"`, `"v1"`, the path of a JSON file, a mapping with the same keys,
        or an `Architecture`.

        Raises `ValueError` for anything else and for values out of bounds, `OSError` if the file
        cannot be read.
        """
        if isinstance(arch, Architecture):
            return arch
        if isinstance(arch, Mapping):
            return _from_mapping(arch)
        if arch in ("nano", "v1"):
            return NANO if arch == "nano" else V1
        return _from_mapping(json.loads(Path(arch).read_text()))

    @staticmethod
    def from_json(text: str) -> Architecture:
        """Reads and validates the JSON of an architecture. Raises `ValueError`."""
        return _from_mapping(json.loads(text))

    def to_json(self) -> str:
        """The JSON, on one line, keys in alphabetical order."""
        values = {_JSON_NAMES[field.name]: getattr(self, field.name) for field in fields(self)}
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.dim // self.heads

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(math.prod(shape) for _, shape in self.tensors())

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name and shape of every tensor of a weights file, in the order in which they are
        written; the weights of linear maps are `[in, out]`."""
        dim, ffn, vocabulary = self.dim, self.ffn, self.vocabulary
        yield "embedding.weight", (vocabulary, dim)
        for layer in range(self.layers):
            prefix = f"encoder.layers.{layer}"
            yield from _norm(f"{prefix}.norm_1", dim)
            for linear in ("query", "key", "value", "output"):
                yield from _linear(f"{prefix}.attention.{linear}", dim, dim)
            yield from _norm(f"{prefix}.norm_2", dim)
            yield from _linear(f"{prefix}.pwff.linear_inner", dim, ffn)
            yield from _linear(f"{prefix}.pwff.linear_outer", ffn, dim)
        yield from _norm("final_norm", dim)
        yield from _linear("predictor", dim, vocabulary)

    def validate(self) -> Architecture:
        """Returns `self`. Raises `ValueError` if a value is out of bounds."""
        even_heads = (
            1 <= self.heads <= self.dim and self.dim % self.heads == 0 and self.head_dim % 2 == 0
        )
        bounds = [
            ("dim", 2 <= self.dim <= 1 << 16, "2 to 65536"),
            ("heads", even_heads, "a divisor of embedding_dim with an even quotient"),
            ("layers", 1 <= self.layers <= 256, "1 to 256"),
            ("ffn", 1 <= self.ffn <= 1 << 18, "1 to 262144"),
            ("vocabulary", 258 <= self.vocabulary <= 1 << 16, "258 to 65536"),
            ("positions", 2 <= self.positions <= 1 << 16, "2 to 65536"),
            ("sigreg_slices", 1 <= self.sigreg_slices <= 1 << 14, "1 to 16384"),
            ("sigreg_points", 2 <= self.sigreg_points <= 1024, "2 to 1024"),
            (
                "sigreg_t_max",
                0 < self.sigreg_t_max <= 16 and _is_whole(self.sigreg_t_max, 1000),
                "0.001 to 16 in whole thousandths",
            ),
            (
                "sigreg_coefficient",
                0 <= self.sigreg_coefficient <= 1000
                and _is_whole(self.sigreg_coefficient, 1_000_000),
                "0 to 1000 in whole millionths",
            ),
            ("sigreg_cap", 1 <= self.sigreg_cap <= 1 << 16, "1 to 65536"),
        ]
        for name, holds, bound in bounds:
            if not holds:
                value = getattr(self, name)
                raise ValueError(f"{_JSON_NAMES[name]} is {value}, but must be {bound}")
        return self


ArchitectureLike = Architecture | Mapping | str | os.PathLike


def _is_whole(value: float, parts: int) -> bool:
    """Whether `value` is exactly a whole number of 1 / `parts`."""
    return round(value * parts) / parts == value


def _norm(name: str, dim: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.gamma", (dim,)
    yield f"{name}.beta", (dim,)


def _linear(name: str, inputs: int, outputs: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (inputs, outputs)
    yield f"{name}.bias", (outputs,)


def _from_mapping(values: Mapping) -> Architecture:
    if not isinstance(values, Mapping):
        raise ValueError("not an architecture: its JSON is not an object")
    if unknown := set(values) - set(_JSON_NAMES.values()):
        raise ValueError(f"not an architecture: unknown field {min(unknown)!r}")
    numbers = {}
    for field in fields(Architecture):
        name = _JSON_NAMES[field.name]
        if name not in values and field.name in _OPTIONAL:
            continue
        if name not in values:
            raise ValueError(f"not an architecture: {name} is missing")
        value = values[name]
        whole = field.type == "int"
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            kind = "a whole number" if whole else "a number"
            raise ValueError(f"not an architecture: {name} is not {kind}")
        numbers[field.name] = value if whole else float(value)
    return Architecture(**numbers).validate()


V1 = Architecture(
    dim=2048,
    heads=8,
    layers=24,
    ffn=8192,
    vocabulary=264,
    positions=1024,
    sigreg_slices=256,
    sigreg_points=17,
    sigreg_t_max=3.0,
)
"""The architecture of the network: 1,209,684,232 parameters."""

NANO = replace(V1, dim=128, heads=4, layers=4, ffn=512, positions=256)
"""Small enough to train on a CPU in minutes: 0.86 M parameters."""
