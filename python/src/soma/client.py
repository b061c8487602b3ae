"""Clients of a node's API: `Client` blocks, `AsyncClient` returns awaitables.

Methods are named as the commands: `soma model list` is `client.model.list()`. Clients hold no key.
They check weights by hash, and trust the node for everything else.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Self, TypeVar

import httpx
from blake3 import blake3

from soma import types
from soma.codes import Code

T, U = TypeVar("T"), TypeVar("U")
Answer = T | Awaitable[T]
"""The value itself from `Client`, an awaitable of it from `AsyncClient`."""

_TIMEOUT = httpx.Timeout(45.0, connect=5.0)
_PAGE = 500
_POLL_S = 0.2


class ApiError(Exception):
    """The node answered with an error. `code` is one of `soma.codes.Code`, or a newer node's."""

    def __init__(self, status: int, code: str, message: str, hint: str | None):
        super().__init__(f"{code}: {message}" + (f" ({hint})" if hint else ""))
        self.status, self.code, self.message, self.hint = status, code, message, hint


class WrongHash(Exception):
    """A file does not have the expected hash."""


class _Model:
    """`soma model ...`"""

    def __init__(self, client: _Api):
        self._client = client

    def list(self) -> Answer[list[types.Model]]:
        """All models, by id."""
        return self._client._all("/v1/models?", types.Model)

    def show(self, id: int) -> Answer[types.Model]:
        """A model."""
        return self._client._get(f"/v1/models/{id}", types.Model)

    def specialization(self, id: int, epoch: int | None = None) -> Answer[types.Vector]:
        """A model's specialization as it is now, or as it was when the targets of `epoch`, the
        running one or the one before, were drawn."""
        chosen = "" if epoch is None else f"?epoch={epoch}"
        return self._client._get(f"/v1/models/{id}/specialization{chosen}", types.Vector)

    def pull(self, id: int, path: str | os.PathLike) -> Answer[Path]:
        """Downloads a model's public weights to `path` and checks their hash; resumes an
        interrupted download. Raises `WrongHash`."""
        return self._client._pull(id, Path(path))


class _Target:
    """`soma target ...`"""

    def __init__(self, client: _Api):
        self._client = client

    def list(self, epoch: int | None = None) -> Answer[list[types.Target]]:
        """The targets of `epoch`, or of all epochs, by id."""
        chosen = "" if epoch is None else f"epoch={epoch}&"
        return self._client._all(f"/v1/targets?{chosen}", types.Target)

    def show(self, id: int) -> Answer[types.Target]:
        """A target."""
        return self._client._get(f"/v1/targets/{id}", types.Target)

    def direction(self, id: int) -> Answer[types.Vector]:
        """The direction of a target."""
        return self._client._get(f"/v1/targets/{id}/direction", types.Vector)


class _Validator:
    """`soma validator ...`"""

    def __init__(self, client: _Api):
        self._client = client

    def list(self) -> Answer[list[types.Validator]]:
        """All validators, those with a seat first."""
        return self._client._get("/v1/validators", list[types.Validator])


class _Api(ABC):
    """The methods of both clients. Each may raise `ApiError`, and `httpx.HTTPError` if the node
    cannot be reached."""

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        self.model = _Model(self)
        self.target = _Target(self)
        self.validator = _Validator(self)

    def status(self) -> Answer[types.Status]:
        """The state of the chain and of the node."""
        return self._get("/v1/status", types.Status)

    def account(self, address: str) -> Answer[types.Account]:
        """An account; an unknown one is empty."""
        return self._get(f"/v1/accounts/{address}", types.Account)

    def balance(self, address: str) -> Answer[int]:
        """An account's balance, in base units."""
        return self._get(f"/v1/accounts/{address}", types.Account, lambda account: account.balance)

    def stakes(self, address: str) -> Answer[list[types.Stake]]:
        """An account's stakes in models and validators."""
        return self._all(f"/v1/accounts/{address}/stakes?", types.Stake)

    def governance(self) -> Answer[types.Governance]:
        """The rent price, proposals, and the running migration."""
        return self._get("/v1/governance", types.Governance)

    def params(self) -> Answer[dict]:
        """The parameters in force, by name."""
        return self._get("/v1/params", dict)

    def architecture(self) -> Answer[dict]:
        """The architecture in force."""
        return self._get("/v1/architecture", dict)

    def epoch(self, epoch: int) -> Answer[types.Epoch]:
        """An epoch that has begun."""
        return self._get(f"/v1/epochs/{epoch}", types.Epoch)

    def block(self, height: int) -> Answer[types.Block]:
        """A finalized block."""
        return self._get(f"/v1/blocks/{height}", types.Block)

    def transaction(self, hash: str) -> Answer[types.Transaction]:
        """A transaction and its outcome."""
        return self._get(f"/v1/transactions/{hash}", types.Transaction)

    @abstractmethod
    def _get(self, path: str, kind: type[T], then: Callable[[T], U] = ...) -> Answer[U]:
        """The answer, transformed by `then`."""

    @abstractmethod
    def _all(self, path: str, kind: type[T]) -> Answer[list[T]]:
        """All items of a paged list."""

    @abstractmethod
    def _pull(self, id: int, path: Path) -> Answer[Path]:
        """Weights with a checked hash."""


class Client(_Api):
    """A node's API; every call blocks until the answer."""

    def __init__(self, url: str):
        """Sends nothing yet."""
        super().__init__(url)
        self._http = httpx.Client(base_url=self.url, timeout=_TIMEOUT)

    def send(self, transaction: bytes) -> types.Submitted:
        """Sends the bytes of a signed transaction."""
        response = self._http.post("/v1/transactions", content=transaction)
        return types.decode(types.Submitted, _json(response))

    def wait(self, hash: str, timeout_s: float = 30.0) -> types.Transaction:
        """Waits until a transaction is finalized. Raises `TimeoutError`."""
        end = time.monotonic() + timeout_s
        while (found := self.transaction(hash)).state != "final":
            if time.monotonic() > end:
                raise TimeoutError(f"transaction {hash} is not finalized after {timeout_s} s")
            time.sleep(_POLL_S)
        return found

    def events(self, after: str | None = None) -> Iterator[dict]:
        """Events after a cursor, or from now on, without end. `0-0` is the start of the chain."""
        with self._http.stream("GET", "/v1/events", params=_after(after)) as response:
            if response.is_error:
                response.read()
                _json(response)
            parser = _Events()
            for line in response.iter_lines():
                if event := parser.line(line):
                    yield event

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _get(self, path, kind, then=lambda value: value):
        return then(types.decode(kind, _json(self._http.get(path))))

    def _all(self, path, kind):
        found, query = [], f"limit={_PAGE}"
        while query:
            page = _json(self._http.get(f"{path}{query}"))
            found += types.decode(list[kind], page["items"])
            query = page["next"] and f"limit={_PAGE}&after={page['next']}"
        return found

    def _pull(self, id, path):
        file = _Download(self.model.show(id), path)
        if file.complete():
            return file.finish()
        with self._http.stream("GET", file.url, headers=file.headers()) as response:
            if response.is_error:
                response.read()
                _json(response)
            with file.open(response) as part:
                for block in response.iter_bytes():
                    part.write(block)
        return file.finish()


class AsyncClient(_Api):
    """A node's API; every call returns an awaitable."""

    def __init__(self, url: str):
        """Sends nothing yet."""
        super().__init__(url)
        self._http = httpx.AsyncClient(base_url=self.url, timeout=_TIMEOUT)

    async def send(self, transaction: bytes) -> types.Submitted:
        """Sends the bytes of a signed transaction."""
        response = await self._http.post("/v1/transactions", content=transaction)
        return types.decode(types.Submitted, _json(response))

    async def wait(self, hash: str, timeout_s: float = 30.0) -> types.Transaction:
        """Waits until a transaction is finalized. Raises `TimeoutError`."""
        async with asyncio.timeout(timeout_s):
            while (found := await self.transaction(hash)).state != "final":
                await asyncio.sleep(_POLL_S)
        return found

    async def events(self, after: str | None = None) -> AsyncIterator[dict]:
        """Events after a cursor, or from now on, without end. `0-0` is the start of the chain."""
        async with self._http.stream("GET", "/v1/events", params=_after(after)) as response:
            if response.is_error:
                await response.aread()
                _json(response)
            parser = _Events()
            async for line in response.aiter_lines():
                if event := parser.line(line):
                    yield event

    async def close(self) -> None:
        """Closes its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def _get(self, path, kind, then=lambda value: value):
        return then(types.decode(kind, _json(await self._http.get(path))))

    async def _all(self, path, kind):
        found, query = [], f"limit={_PAGE}"
        while query:
            page = _json(await self._http.get(f"{path}{query}"))
            found += types.decode(list[kind], page["items"])
            query = page["next"] and f"limit={_PAGE}&after={page['next']}"
        return found

    async def _pull(self, id, path):
        file = _Download(await self.model.show(id), path)
        if file.complete():
            return await asyncio.to_thread(file.finish)
        async with self._http.stream("GET", file.url, headers=file.headers()) as response:
            if response.is_error:
                await response.aread()
                _json(response)
            with file.open(response) as part:
                async for block in response.aiter_bytes():
                    part.write(block)
        return await asyncio.to_thread(file.finish)


class _Events:
    """Parses the lines of an event stream."""

    def __init__(self) -> None:
        self._data: list[str] = []

    def line(self, line: str) -> dict | None:
        """The event that this line completes, if any."""
        if line.startswith("data:"):
            self._data.append(line[5:].removeprefix(" "))
        elif not line and self._data:
            text, self._data = "\n".join(self._data), []
            return json.loads(text)
        return None


class _Download:
    """A download of weights: a `.part` file beside the path until the hash is checked."""

    def __init__(self, model: types.Model, path: Path):
        if model.weights is None:
            raise ApiError(404, Code.NO_WEIGHTS, f"model {model.id} has no public weights", None)
        self.path, self.hash, self.size = path, model.weights.hash, model.weights.size_bytes
        self.part = path.with_name(f"{path.name}.{self.hash[:16]}.part")
        self.url = f"/v1/weights/{self.hash}"

    def received(self) -> int:
        """Bytes received so far."""
        return self.part.stat().st_size if self.part.exists() else 0

    def complete(self) -> bool:
        """Whether all bytes are received."""
        return self.received() >= self.size

    def headers(self) -> dict[str, str]:
        """The request headers: the range of the missing bytes."""
        return {"Range": f"bytes={self.received()}-"} if self.received() else {}

    def open(self, response: httpx.Response):
        """The file for the answer's bytes, emptied if the node sends the whole file."""
        return self.part.open("ab" if response.status_code == 206 else "wb")

    def finish(self) -> Path:
        """Checks the hash and renames the file. Raises `WrongHash`."""
        hasher = blake3(max_threads=blake3.AUTO)
        hasher.update_mmap(self.part)
        if hasher.hexdigest() != self.hash:
            self.part.unlink()
            raise WrongHash(f"{self.path} hashes to {hasher.hexdigest()}, not {self.hash}")
        self.part.replace(self.path)
        return self.path


def _after(cursor: str | None) -> dict[str, str]:
    return {} if cursor is None else {"after": cursor}


def _json(response: httpx.Response) -> object:
    """The body of an answer; raises `ApiError` if it is an error."""
    if response.is_success:
        return response.json()
    try:
        problem = response.json()
        raise ApiError(
            response.status_code, problem["code"], problem["message"], problem.get("hint")
        )
    except (ValueError, KeyError, TypeError):
        text = response.text[:200] or response.reason_phrase
        raise ApiError(response.status_code, Code.HTTP_ERROR, text, None) from None
