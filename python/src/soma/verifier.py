"""What a client needs to believe no node: a chain that it knows, and what it has verified of it.

The rules are those of `soma --verify`, in `soma._native`; nothing is checked here.
"""

from __future__ import annotations

import os
from pathlib import Path

from soma import _native

Question = tuple[str | int | None, ...]
"""What is asked for, a method of `_native.Verifier`, and its arguments."""


class Verifier:
    """Checks what nodes of one chain say, for any number of clients and threads.

    It begins with what you name, and all of it must be of one chain:

    - `chain`, the id of the chain, from somebody whom you trust. The genesis is asked for.
    - `genesis`, the file of the genesis.
    - `checkpoint`, a file that another verifier has saved, which you trust like the genesis. So you
      need not believe committees that left office before it.

    What it verifies is kept for the next process, in the file `keep`, or, with `True`, where
    `soma --verify` keeps it: in `verified` of `SOMA_HOME`. That is the default without a
    checkpoint; with one, nothing is kept.

    `age_max_s` is by how much a block may be off this machine's clock.

    Raises `VerifyError` for a malformed genesis or checkpoint and for one of another chain,
    `ValueError`, and `OSError`.
    """

    def __init__(
        self,
        chain: str | None = None,
        *,
        genesis: str | os.PathLike | None = None,
        checkpoint: str | os.PathLike | None = None,
        keep: bool | str | os.PathLike | None = None,
        age_max_s: float = 120.0,
    ):
        if keep is None:
            keep = checkpoint is None
        home = _home() if keep is True else None
        file = None if isinstance(keep, bool) else Path(keep)
        self._native = _native.Verifier(chain, genesis, checkpoint, file, home, age_max_s)

    @property
    def chain(self) -> str:
        """The id of the chain."""
        return self._native.chain

    def save(self, path: str | os.PathLike) -> None:
        """Writes a checkpoint: the committees that decide from now on. Raises `ValueError` if
        nothing has been asked yet, `OSError`."""
        if not self._native.save(path):
            raise ValueError("nothing is verified yet; ask a node first")

    def _begin(self, url: str, question: Question) -> _native.Conversation:
        """Begins to ask the node at `url`."""
        name, *arguments = question
        return getattr(self._native, name)(url, *arguments)


def _home() -> Path:
    """The folder in which the commands keep their data."""
    if home := os.environ.get("SOMA_HOME"):
        return Path(home)
    data = Path(os.environ.get("XDG_DATA_HOME", ""))
    return (data if data.is_absolute() else Path.home() / ".local" / "share") / "soma"
