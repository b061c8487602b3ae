"""The log of a training run: one JSON object per line, the format of `soma train --log`.

    run = soma.track.init("run.jsonl", config={"learning_rate": 3e-3})
    run.log({"loss": 2.1}, step=1)
    run.finish()

The log is a local text file; nothing is sent over the network. A resumed run appends to it, and
repeated steps replace earlier ones when the log is read.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self


class Run:
    """An open log, flushed after every line so that it can be followed."""

    def __init__(self, path: str | os.PathLike, config: Mapping | None = None):
        """Opens `path` for appending; a new or empty file starts with `config`.

        Raises `OSError` if it cannot be written.
        """
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        half = _ends_inside_a_line(self.path)
        self._file = self.path.open("a", encoding="utf-8")
        if half:
            # What a killed run left of its last line.
            self._file.write("\n")
        self._step, self._began = 0, time.perf_counter()
        if self._file.tell() == 0 and config is not None:
            self._write({"schema": "run/1", "config": dict(config)})

    def log(self, values: Mapping, step: int | None = None) -> None:
        """Appends a line with `step` (by default one more than the last), `values`, and the
        `seconds` since the log was opened. Numbers that are not finite become null."""
        self._step = self._step + 1 if step is None else step
        seconds = round(time.perf_counter() - self._began, 6)
        self._write({"step": self._step, **values, "seconds": seconds})

    def finish(self) -> None:
        """Closes the file. It may be called twice."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.finish()

    def _write(self, line: Mapping) -> None:
        self._file.write(json.dumps(_plain(line), allow_nan=False) + "\n")
        self._file.flush()


def _ends_inside_a_line(path: Path) -> bool:
    if not path.is_file() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


_current: Run | None = None


def init(path: str | os.PathLike, config: Mapping | None = None) -> Run:
    """Opens a log and makes it current for `log` and `finish`."""
    global _current
    finish()
    _current = Run(path, config)
    return _current


def log(values: Mapping, step: int | None = None) -> None:
    """Appends a line to the current log. Raises `RuntimeError` if there is none."""
    if _current is None:
        raise RuntimeError("call soma.track.init first")
    _current.log(values, step)


def finish() -> None:
    """Closes the current log, if any."""
    global _current
    if _current is not None:
        _current.finish()
    _current = None


def read(path: str | os.PathLike) -> list[dict]:
    """The lines of a log that have a step, ordered by step. Of several lines with the same step
    and keys (after resuming), the last wins. A truncated last line is skipped."""
    lines: dict[tuple, dict] = {}
    for text in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and "step" in line:
            lines[(line["step"], *sorted(line))] = line
    return sorted(lines.values(), key=lambda line: line["step"])


def _plain(value: object) -> object:
    """Converts numbers of any library to Python's; those that are not finite become None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, bytes):
        return value.hex()
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
