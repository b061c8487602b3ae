"""Weights files: safetensors in float32; BF16 and F16 are widened exactly when read.

As in the native engine, numbers below 2^-40 in magnitude are read as zero, and a file is rejected
unless it matches the architecture exactly. Tensors are read from a memory map one at a time.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from soma.architecture import Architecture, ArchitectureLike

HEADER_MAX_BYTES = 1 << 20
"""Maximum length of the header."""
METADATA_KEY = "architecture"
"""Metadata key of the architecture's JSON."""

_DTYPES = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
_SMALL = np.float32(2.0**-40)
"""Numbers of smaller magnitude count as zero, so that no product is subnormal."""


class WeightsError(ValueError):
    """The file is not a valid weights file of this architecture."""


class Weights(Mapping[str, np.ndarray]):
    """An open weights file: a mapping from tensor names to float32 values, in file order."""

    def __init__(self, path: str | os.PathLike, arch: ArchitectureLike | None = None):
        """Opens the file and checks its header. Without `arch`, the architecture comes from its
        metadata.

        Raises `WeightsError`, and `OSError` if the file cannot be read.
        """
        self.path = Path(path)
        header, self._data, start = _read(self.path)
        metadata = header.pop("__metadata__", {})
        if arch is not None:
            self.architecture = Architecture.of(arch)
        elif isinstance(metadata, dict) and METADATA_KEY in metadata:
            self.architecture = Architecture.from_json(metadata[METADATA_KEY])
        else:
            raise WeightsError("the file does not state its architecture; pass `arch`")
        self._entries = _check(header, self.architecture, len(self._data), start)

    def __getitem__(self, name: str) -> np.ndarray:
        """A tensor's values. Raises `WeightsError` if one of them is not finite."""
        dtype, shape, begin, end = self._entries[name]
        values = self._data[begin:end].view(_DTYPES[dtype]).reshape(shape)
        if dtype == "BF16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        values = values.astype(np.float32)
        if not np.isfinite(values).all():
            raise WeightsError(f"{name} contains a value that is not finite")
        return _without_small(values)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def write(
    path: str | os.PathLike, arch: ArchitectureLike, tensor: Callable[[str], np.ndarray]
) -> None:
    """Writes a weights file from `tensor(name)`, byte for byte as the native engine does.

    The file is replaced atomically. Raises `WeightsError` for a wrong shape or a value that
    is not finite.
    """
    architecture = Architecture.of(arch)
    metadata = {METADATA_KEY: architecture.to_json(), "format": "pt"}
    header: dict = {"__metadata__": metadata}
    offset = 0
    for name, shape in architecture.tensors():
        size = 4 * math.prod(shape)
        header[name] = {"data_offsets": [offset, offset + size], "dtype": "F32", "shape": shape}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path = Path(path)
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in architecture.tensors():
            values = np.ascontiguousarray(tensor(name), dtype="<f4")
            if values.shape != shape:
                raise WeightsError(f"{name} has shape {values.shape}, not {shape}")
            if not np.isfinite(values).all():
                raise WeightsError(f"{name} contains a value that is not finite")
            file.write(_without_small(values).data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _without_small(values: np.ndarray) -> np.ndarray:
    return np.where(np.abs(values) < _SMALL, np.float32(0), values)


def _read(path: Path) -> tuple[dict, np.ndarray, int]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise WeightsError("not a safetensors file: its header is truncated")
        if length > HEADER_MAX_BYTES:
            raise WeightsError(f"the header has {length} bytes, more than {HEADER_MAX_BYTES}")
        text = file.read(length)
    try:
        header = json.loads(text, object_pairs_hook=_without_duplicates)
    except WeightsError:
        raise
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"not a safetensors file: {error}") from None
    if not isinstance(header, dict):
        raise WeightsError("not a safetensors file: its header is not an object")
    if size == 8 + length:
        return header, np.empty(0, np.uint8), size
    return header, np.memmap(path, np.uint8, "r", offset=8 + length), 8 + length


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise WeightsError(f"{twice} occurs twice")
    return values


_Entry = tuple[str, tuple[int, ...], int, int]


def _check(header: dict, architecture: Architecture, size: int, start: int) -> dict[str, _Entry]:
    expected = dict(architecture.tensors())
    for name in expected:
        if name not in header:
            raise WeightsError(f"{name} is missing")
    entries = {}
    for name, entry in header.items():
        if name not in expected:
            raise WeightsError(f"{name} does not belong to the architecture")
        entries[name] = _entry(name, entry, expected[name])
        dtype, _, begin, _ = entries[name]
        if (start + begin) % _DTYPES[dtype].itemsize:
            raise WeightsError(f"{name} begins at byte {start + begin}, which is not aligned")
    end = 0
    for name, (_, _, begin, stop) in sorted(entries.items(), key=lambda item: item[1][2]):
        if begin != end:
            raise WeightsError(f"{name} begins at byte {begin}, not at {end}")
        end = stop
    if end != size:
        raise WeightsError(f"the tensors end at byte {end}, the file at {size}")
    return {name: entries[name] for name in expected}


def _entry(name: str, entry: object, shape: tuple[int, ...]) -> _Entry:
    match entry:
        case {"dtype": str(dtype), "shape": list(found), "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise WeightsError(f"{name} has a malformed entry")
    if dtype not in _DTYPES:
        raise WeightsError(f"{name} is {dtype}, not F32, BF16 or F16")
    if tuple(found) != shape:
        raise WeightsError(f"{name} has shape {found}, not {list(shape)}")
    if end - begin != math.prod(shape) * _DTYPES[dtype].itemsize or begin < 0:
        raise WeightsError(f"{name} has {end - begin} bytes, which does not match its shape")
    return dtype, shape, begin, end
