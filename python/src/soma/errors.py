"""Errors of nodes and of answers that are not believed. Each has a code of `soma.codes.Code`."""

from __future__ import annotations


class ApiError(Exception):
    """The node answered with an error, or it is proved that what was asked for does not exist.
    `code` is one of `soma.codes.Code`, or a newer node's."""

    def __init__(self, status: int, code: str, message: str, hint: str | None):
        super().__init__(_harmless(f"{code}: {message}" + (f" ({hint})" if hint else "")))
        self.status, self.code, self.message, self.hint = status, code, message, hint


class VerifyError(Exception):
    """A node does not prove what it says, or is one of another chain: `url` is the node. Or a file
    is not what a verifier can begin with: `url` is `None`.

    `code` is that with which `soma --verify` ends: `answer_unproved`, `block_not_certified`,
    `block_of_another_time`, `rules_unknown`, `other_chain`; of files, `bad_checkpoint` and
    `invalid_genesis`. Nothing of the answer was used.
    """

    def __init__(self, code: str, message: str, url: str | None):
        super().__init__(_harmless(f"{code}: {message}"))
        self.code, self.message, self.url = code, message, url


class WrongHash(Exception):
    """A file does not have the expected hash."""


def _harmless(text: str) -> str:
    """The text with everything written out that could control a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)
