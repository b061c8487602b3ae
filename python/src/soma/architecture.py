"""The hyperparameters that a weights file, a score and a training run must agree on.

Presets, bounds and tensors come from the native engine. Nothing here may depend on the machine
(threads, devices, batch sizes).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from soma import _native

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
        if not isinstance(arch, str | os.PathLike):
            raise ValueError(f"not an architecture: {arch!r}")
        # From bytes: it knows UTF-16, too, and the mark that editors may have put before the text.
        return _from_mapping(json.loads(_native.read_data(Path(arch))))

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
        for name, shape in _native.tensors(self.to_json()):
            yield name, tuple(shape)

    def validate(self) -> Architecture:
        """Returns `self`. Raises `ValueError` if a value is out of bounds."""
        _native.check_architecture(self.to_json())
        return self


ArchitectureLike = Architecture | Mapping | str | os.PathLike


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


V1 = Architecture.from_json(_native.preset("v1"))
"""The architecture of the network: 1,209,684,232 parameters."""

NANO = Architecture.from_json(_native.preset("nano"))
"""Small enough to train on a CPU in minutes: 0.86 M parameters."""
