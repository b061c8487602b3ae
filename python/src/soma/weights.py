"""Weights files: safetensors in float32; BF16 and F16 are widened exactly when read.

As in the native engine, numbers below 2^-40 in magnitude are read as zero, and a file is rejected
unless it matches the architecture exactly. Tensors are read one at a time.
"""

from __future__ import annotations

import errno
import json
import math
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from soma.architecture import Architecture, ArchitectureLike

HEADER_MAX_BYTES = 1 << 20
"""Maximum length of the header."""
METADATA_KEY = "architecture"
"""Metadata key of the architecture's JSON."""

_DTYPES = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
_WRAPPERS = {
    "_orig_mod.": "is added by torch.compile",
    "module.": "is added by DataParallel and DistributedDataParallel",
    "_fsdp_wrapped_module.": "is added by FullyShardedDataParallel",
    "_checkpoint_wrapped_module.": "is added by activation checkpointing",
    "_forward_module.": "is added by Lightning",
}
"""Parts of names that wrappers of a model add."""
_LOOKS = [
    (b"version https://git-lfs", "it is a Git LFS pointer; fetch the file: git lfs pull"),
    (b"soma checkpoint ", "it is a training checkpoint of soma"),
    (b"\x1f\x8b", "it looks like a compressed file"),
    (b"PK\x03\x04", "it looks like a zip archive, as torch.save writes"),
    (b"\x80\x02", "it looks like a pickle of Python"),
    (b"\x80\x04\x95", "it looks like a pickle of Python"),
    (b"\x93NUMPY", "it looks like an array of numpy"),
    (b"GGUF", "it looks like a GGUF file"),
]
"""First bytes of what often lies where weights should."""
_SMALL = np.float32(2.0**-40)
"""Numbers of smaller magnitude count as zero, so that no product is subnormal."""


class WeightsError(ValueError):
    """The file is not a valid weights file of this architecture."""


class Weights(Mapping[str, np.ndarray]):
    """An open weights file: a mapping from tensor names to float32 values, in file order.

    A file that changes while it is open is an error where the change is noticed, and never ends the
    process.
    """

    def __init__(self, path: str | os.PathLike, arch: ArchitectureLike | None = None):
        """Opens the file and checks its header. Without `arch`, the architecture comes from its
        metadata.

        Raises `WeightsError`, and `OSError` if the file cannot be read.
        """
        self.path = Path(path)
        self._file, header, start, size = _read(self.path)
        self._start, self._opened = start, _identity(self._file)
        metadata = header.pop("__metadata__", {})
        if arch is not None:
            self.architecture = Architecture.of(arch)
        elif isinstance(metadata, dict) and METADATA_KEY in metadata:
            self.architecture = Architecture.from_json(metadata[METADATA_KEY])
        else:
            raise WeightsError("the file does not state its architecture; pass `arch`")
        self._entries = _check(header, self.architecture, size - start, start)

    def __getitem__(self, name: str) -> np.ndarray:
        """A tensor's values. Raises `WeightsError` if one of them is not finite, or if the file has
        changed since it was opened."""
        dtype, shape, begin, end = self._entries[name]
        data = np.empty(end - begin, np.uint8)
        self._file.seek(self._start + begin)
        read = self._file.readinto(data)
        if read != len(data) or _identity(self._file) != self._opened:
            raise WeightsError(f"{self.path} changed while it was being read")
        values = data.view(_DTYPES[dtype]).reshape(shape)
        if dtype == "BF16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        values = values.astype(np.float32)
        if not np.isfinite(values).all():
            raise WeightsError(f"{name} contains a value that is not finite")
        return _without_small(values)

    def __del__(self) -> None:
        if file := getattr(self, "_file", None):
            file.close()

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
    text = len(text).to_bytes(8, "little") + text

    def write_to(file: BinaryIO) -> None:
        file.write(text)
        for name, shape in architecture.tensors():
            values = np.ascontiguousarray(tensor(name), dtype="<f4")
            if values.shape != shape:
                raise WeightsError(f"{name} has shape {values.shape}, not {shape}")
            if not np.isfinite(values).all():
                raise WeightsError(f"{name} contains a value that is not finite")
            file.write(_without_small(values).data)

    _replace(Path(path), write_to)


def check_output(path: str | os.PathLike) -> None:
    """Raises `OSError` if `path` cannot be written, before the work whose result goes there."""
    path = Path(os.path.realpath(path))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if _is_stream(path):
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    else:
        with tempfile.TemporaryFile(dir=path.parent):
            pass


def _is_stream(path: Path) -> bool:
    """Whether it is a device, a pipe or a socket, which is written to and never replaced."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _replace(path: Path, write_to: Callable[[BinaryIO], None]) -> None:
    """Replaces a file atomically: the one that a link names, if `path` is one."""
    path = Path(os.path.realpath(path))
    if _is_stream(path):
        with path.open("wb") as file:
            write_to(file)
        return
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with part.open("xb") as file:
            write_to(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _without_small(values: np.ndarray) -> np.ndarray:
    return np.where(np.abs(values) < _SMALL, np.float32(0), values)


def _read(path: Path) -> tuple[BinaryIO, dict, int, int]:
    """The open file, its header, where the data begins, and its size."""
    kind = path.stat().st_mode
    if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
        raise OSError(errno.EINVAL, "It is a device or a pipe, not a file", str(path))
    file = path.open("rb")
    size = os.fstat(file.fileno()).st_size
    try:
        header, length = _header(file, size)
    except WeightsError:
        file.seek(0)
        look = _look(file.read(512))
        file.close()
        if look:
            raise WeightsError(f"not a safetensors file: {look}") from None
        raise
    return file, header, 8 + length, size


def _header(file: BinaryIO, size: int) -> tuple[dict, int]:
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > size - 8:
        raise WeightsError("not a safetensors file: its header is truncated")
    if length > HEADER_MAX_BYTES:
        raise WeightsError(f"the header has {length} bytes, more than {HEADER_MAX_BYTES}")
    text = file.read(length)
    if not text.startswith(b"{"):
        raise WeightsError("not a safetensors file: its header is not an object")
    try:
        header = json.loads(text, object_pairs_hook=_without_duplicates)
    except WeightsError:
        raise
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"not a safetensors file: {error}") from None
    return header, length


def _look(start: bytes) -> str | None:
    """What a file that begins like this looks like, if it is known."""
    for signature, look in _LOOKS:
        if start.startswith(signature):
            return look
    text = start.strip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it looks like an HTML page; download the file itself, not the page about it"
    if not text or any(byte < 32 and byte not in b"\t\n\f\r" for byte in start):
        return None
    return "it looks like JSON" if text[:1] in (b"{", b"[") else "it looks like a text file"


def _identity(file: BinaryIO) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns


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
            raise WeightsError(_missing(name, header))
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


def _missing(name: str, header: dict) -> str:
    """Why a tensor is not there: perhaps under the name that a wrapper gave it."""
    for found in header:
        bare, extra = found, ""
        for part in _WRAPPERS:
            if part in bare:
                bare, extra = bare.replace(part, ""), extra or part
        if bare != name and found.endswith(f".{name}"):
            bare, extra = name, found[: -len(name)]
        if bare == name:
            source = _WRAPPERS.get(extra, "does not belong to it")
            return f"{name} is named {found}: `{extra}` {source}; save the model inside it"
    return f"{name} is missing"


def _entry(name: str, entry: object, shape: tuple[int, ...]) -> _Entry:
    match entry:
        case {"dtype": str(dtype), "shape": list(found), "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise WeightsError(f"{name} has a malformed entry")
    # To Python, true is a number.
    if any(isinstance(number, bool) for number in (*found, begin, end)):
        raise WeightsError(f"{name} has a malformed entry")
    if dtype not in _DTYPES:
        raise WeightsError(f"{name} is {dtype}, not F32, BF16 or F16")
    if tuple(found) != shape:
        raise WeightsError(f"{name} has shape {found}, not {list(shape)}")
    if end - begin != math.prod(shape) * _DTYPES[dtype].itemsize or begin < 0:
        raise WeightsError(f"{name} has {end - begin} bytes, which does not match its shape")
    return dtype, shape, begin, end
