"""Clients of a node's API: `Client` blocks, `AsyncClient` returns awaitables.

Methods are named as the commands: `soma model list` is `client.model.list()`. Clients hold no key.
They check weights by hash, and trust the node for everything else, unless they are told to
`verify`: then, as with `soma --verify`, what it says about the state of the chain must be proved.

What passes is waited for, as the commands do: downloads and event streams continue where they
stopped, a wait survives a node that restarts, and requests that a node refuses for now are asked
again.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import ipaddress
import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Self, TypeVar

import httpx
from blake3 import blake3

from soma import _native, types
from soma.codes import Code
from soma.errors import ApiError, WrongHash
from soma.verifier import Question, Verifier

T, U = TypeVar("T"), TypeVar("U")
Answer = T | Awaitable[T]
"""The value itself from `Client`, an awaitable of it from `AsyncClient`."""

_TIMEOUT = httpx.Timeout(45.0, connect=5.0)
_PAGE = 500
_POLL_S = 0.2
_RETRIES = 8
"""Failures in a row, without progress, after which a request is given up."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_READ_BLOCK = 1 << 20
_LAST_INDEX = 2**32 - 1
"""In a cursor: after every event of its block."""


class _Model:
    """`soma model ...`"""

    def __init__(self, client: _Api):
        self._client = client

    def list(self) -> Answer[list[types.Model]]:
        """All models, by id."""
        return self._client._all("/v1/models?", types.Model)

    def show(self, id: int) -> Answer[types.Model]:
        """A model."""
        return self._client._answer(f"/v1/models/{id}", types.Model, ("model", id))

    def specialization(self, id: int, epoch: int | None = None) -> Answer[types.Vector]:
        """A model's specialization as it is now, or as it was when the targets of `epoch`, the
        running one or the one before, were drawn."""
        chosen = "" if epoch is None else f"?epoch={epoch}"
        question = ("specialization", id, epoch)
        return self._client._answer(
            f"/v1/models/{id}/specialization{chosen}", types.Vector, question
        )

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
        if self._client.verifier and epoch is not None:
            return self._client._prove(list[types.Target], ("targets", epoch))
        chosen = "" if epoch is None else f"epoch={epoch}&"
        return self._client._all(f"/v1/targets?{chosen}", types.Target)

    def show(self, id: int) -> Answer[types.Target]:
        """A target."""
        return self._client._answer(f"/v1/targets/{id}", types.Target, ("target", id))

    def direction(self, id: int) -> Answer[types.Vector]:
        """The direction of a target."""
        return self._client._answer(f"/v1/targets/{id}/direction", types.Vector, ("direction", id))


class _Validator:
    """`soma validator ...`"""

    def __init__(self, client: _Api):
        self._client = client

    def list(self) -> Answer[list[types.Validator]]:
        """All validators, those with a seat first."""
        return self._client._get("/v1/validators", list[types.Validator])


class _Api(ABC):
    """The methods of both clients. Each may raise `ApiError`, and `httpx.HTTPError` if the node
    cannot be reached.

    With a verifier, `VerifyError` names a node that lies. The clock, the rules, parameters, prices,
    the architecture, accounts, epochs, models, specializations, targets and their directions are
    proved. The word of the node are `model.list()`, `target.list()` without an epoch, validators,
    stakes, proposals, blocks, transactions and events; in `status()`, its counts and what it says
    of itself; and that an account has no more models.
    """

    def __init__(self, url: str, verify: str | Verifier | None):
        self._options = _options(url)
        self.url = _without_login(url).rstrip("/")
        """Where the node is, without a name and a password that `url` may have."""
        is_one = verify is None or isinstance(verify, Verifier)
        self.verifier = verify if is_one else Verifier(verify)
        """What checks the node's answers, if anything does."""
        self.model = _Model(self)
        self.target = _Target(self)
        self.validator = _Validator(self)

    def status(self) -> Answer[types.Status]:
        """The state of the chain and of the node."""
        return self._answer("/v1/status", types.Status, ("status",))

    def account(self, address: str) -> Answer[types.Account]:
        """An account; an unknown one is empty."""
        return self._account(address, lambda account: account)

    def balance(self, address: str) -> Answer[int]:
        """An account's balance, in base units."""
        return self._account(address, lambda account: account.balance)

    def stakes(self, address: str) -> Answer[list[types.Stake]]:
        """An account's stakes in models and validators."""
        return self._all(f"/v1/accounts/{address}/stakes?", types.Stake)

    def governance(self) -> Answer[types.Governance]:
        """The rent price, proposals, and the running migration."""
        return self._answer("/v1/governance", types.Governance, ("governance",))

    def params(self) -> Answer[dict]:
        """The parameters in force, by name."""
        return self._answer("/v1/params", dict, ("params",))

    def architecture(self) -> Answer[dict]:
        """The architecture in force."""
        return self._answer("/v1/architecture", dict, ("architecture",))

    def epoch(self, epoch: int) -> Answer[types.Epoch]:
        """An epoch that has begun."""
        return self._answer(f"/v1/epochs/{epoch}", types.Epoch, ("epoch", epoch))

    def block(self, height: int) -> Answer[types.Block]:
        """A finalized block."""
        return self._get(f"/v1/blocks/{height}", types.Block)

    def transaction(self, hash: str) -> Answer[types.Transaction]:
        """A transaction and its outcome."""
        return self._get(f"/v1/transactions/{hash}", types.Transaction)

    def _account(self, address: str, then: Callable[[types.Account], U]) -> Answer[U]:
        path, question = f"/v1/accounts/{address}", ("account", address)
        return self._answer(path, types.Account, question, then)

    def _answer(
        self,
        path: str,
        kind: type[T],
        question: Question,
        then: Callable[[T], U] = lambda value: value,
    ) -> Answer[U]:
        """The proved answer to `question` with a verifier, what the node says at `path` without
        one; transformed by `then`."""
        return self._prove(kind, question, then) if self.verifier else self._get(path, kind, then)

    @abstractmethod
    def _prove(self, kind: type[T], question: Question, then: Callable[[T], U] = ...) -> Answer[U]:
        """The answer of proved records, transformed by `then`."""

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

    def __init__(self, url: str, *, verify: str | Verifier | None = None):
        """Sends nothing yet. `verify` is a `Verifier`, or the id of the chain for one. Raises
        `ValueError` if `url` is not that of a node."""
        super().__init__(url, verify)
        self._http = httpx.Client(**self._options)

    def send(self, transaction: bytes) -> types.Submitted:
        """Sends the bytes of a signed transaction; again, which is harmless, if the network
        fails."""
        retries = _Retries()
        while True:
            try:
                response = self._http.post("/v1/transactions", content=transaction)
                return _decode(types.Submitted, response)
            except _FAILURES as error:
                time.sleep(retries.pause(error))

    def wait(self, hash: str, timeout_s: float = 30.0) -> types.Transaction:
        """Waits until a transaction is finalized, whatever passes meanwhile. Raises
        `TimeoutError`."""
        wait = _Wait(hash, timeout_s)
        while True:
            try:
                if (found := self.transaction(hash)).state == "final":
                    return found
            except _FAILURES as error:
                wait.outlasts(error)
            time.sleep(wait.pause())

    def events(self, after: str | None = None) -> Iterator[dict]:
        """Events after a cursor, or from now on, without end. `0-0` is the start of the chain. The
        stream reconnects by itself, continues after the last event, and misses none."""
        stream = _Stream(after)
        while True:
            try:
                if stream.begins_now():
                    stream.begin(self.status())
                with self._http.stream("GET", "/v1/events", params=stream.params()) as response:
                    if not response.is_success:
                        response.read()
                        _json(response)
                    for line in response.iter_lines():
                        if event := stream.line(line):
                            yield event
                pause = _FIRST_PAUSE_S
            except _FAILURES as error:
                pause = stream.retries.pause(error)
            time.sleep(pause)

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _ask(self, path: str) -> httpx.Response:
        """An answer; asked again after a pause while the node limits this client's rate."""
        for refusals in range(_RETRIES):
            response = self._http.get(path)
            if response.status_code != httpx.codes.TOO_MANY_REQUESTS:
                return response
            time.sleep(_refusal_pause(refusals))
        return self._http.get(path)

    def _get(self, path, kind, then=lambda value: value):
        return then(_decode(kind, self._ask(path)))

    def _prove(self, kind, question, then=lambda value: value):
        asked = self.verifier._begin(self.url, question)
        while asked.path is not None:
            _hand_on(self._ask(asked.path), asked)
        return then(types.decode(kind, json.loads(asked.answer)))

    def _all(self, path, kind):
        found, query = [], f"limit={_PAGE}"
        while query:
            items, query = _page(kind, self._ask(f"{path}{query}"))
            found += items
        return found

    def _pull(self, id, path):
        with _Download(self.model.show(id), path) as file:
            retries = _Retries()
            while not file.finished():
                try:
                    with self._http.stream("GET", file.url, headers=file.headers()) as response:
                        if not response.is_success:
                            response.read()
                            file.check(response)
                        file.begin(response)
                        for block in response.iter_bytes():
                            file.write(block)
                    pause = retries.pause(None, file.received)
                except _FAILURES as error:
                    pause = retries.pause(error, file.received)
                if not file.complete():
                    time.sleep(pause)
        return path


class AsyncClient(_Api):
    """A node's API; every call returns an awaitable."""

    def __init__(self, url: str, *, verify: str | Verifier | None = None):
        """Sends nothing yet. `verify` is a `Verifier`, or the id of the chain for one. Raises
        `ValueError` if `url` is not that of a node."""
        super().__init__(url, verify)
        self._http = httpx.AsyncClient(**self._options)

    async def send(self, transaction: bytes) -> types.Submitted:
        """Sends the bytes of a signed transaction; again, which is harmless, if the network
        fails."""
        retries = _Retries()
        while True:
            try:
                response = await self._http.post("/v1/transactions", content=transaction)
                return _decode(types.Submitted, response)
            except _FAILURES as error:
                await asyncio.sleep(retries.pause(error))

    async def wait(self, hash: str, timeout_s: float = 30.0) -> types.Transaction:
        """Waits until a transaction is finalized, whatever passes meanwhile. Raises
        `TimeoutError`."""
        wait = _Wait(hash, timeout_s)
        while True:
            try:
                if (found := await self.transaction(hash)).state == "final":
                    return found
            except _FAILURES as error:
                wait.outlasts(error)
            await asyncio.sleep(wait.pause())

    async def events(self, after: str | None = None) -> AsyncIterator[dict]:
        """Events after a cursor, or from now on, without end. `0-0` is the start of the chain. The
        stream reconnects by itself, continues after the last event, and misses none."""
        stream = _Stream(after)
        while True:
            try:
                if stream.begins_now():
                    stream.begin(await self.status())
                request = self._http.stream("GET", "/v1/events", params=stream.params())
                async with request as response:
                    if not response.is_success:
                        await response.aread()
                        _json(response)
                    async for line in response.aiter_lines():
                        if event := stream.line(line):
                            yield event
                pause = _FIRST_PAUSE_S
            except _FAILURES as error:
                pause = stream.retries.pause(error)
            await asyncio.sleep(pause)

    async def close(self) -> None:
        """Closes its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def _ask(self, path: str) -> httpx.Response:
        """An answer; asked again after a pause while the node limits this client's rate."""
        for refusals in range(_RETRIES):
            response = await self._http.get(path)
            if response.status_code != httpx.codes.TOO_MANY_REQUESTS:
                return response
            await asyncio.sleep(_refusal_pause(refusals))
        return await self._http.get(path)

    async def _get(self, path, kind, then=lambda value: value):
        return then(_decode(kind, await self._ask(path)))

    async def _prove(self, kind, question, then=lambda value: value):
        asked = self.verifier._begin(self.url, question)
        while asked.path is not None:
            _hand_on(await self._ask(asked.path), asked)
        return then(types.decode(kind, json.loads(asked.answer)))

    async def _all(self, path, kind):
        found, query = [], f"limit={_PAGE}"
        while query:
            items, query = _page(kind, await self._ask(f"{path}{query}"))
            found += items
        return found

    async def _pull(self, id, path):
        file = _Download(await self.model.show(id), path)
        await asyncio.to_thread(file.__enter__)
        try:
            retries = _Retries()
            while not await asyncio.to_thread(file.finished):
                try:
                    request = self._http.stream("GET", file.url, headers=file.headers())
                    async with request as response:
                        if not response.is_success:
                            await response.aread()
                            file.check(response)
                        file.begin(response)
                        async for block in response.aiter_bytes():
                            file.write(block)
                    pause = retries.pause(None, file.received)
                except _FAILURES as error:
                    pause = retries.pause(error, file.received)
                if not file.complete():
                    await asyncio.sleep(pause)
        finally:
            file.__exit__()
        return path


_FAILURES = (httpx.TransportError, ApiError)
"""What a request may fail with and succeed later; `_is_transient` tells."""


def _is_transient(error: Exception) -> bool:
    if isinstance(error, ApiError):
        return error.status in (408, 425, 429) or error.status >= 500
    return not isinstance(error, httpx.UnsupportedProtocol)


class _Retries:
    """Counts failures in a row, and limits how many are retried."""

    def __init__(self) -> None:
        self._failures, self._reached = 0, 0

    def pause(self, error: Exception | None, reached: int = 0) -> float:
        """Seconds until the next attempt; the count begins again with every progress. Raises
        `error` if it will not pass, or after too many."""
        if reached > self._reached:
            self._reached, self._failures = reached, 0
        if self._failures >= _RETRIES:
            raise error or httpx.RemoteProtocolError("the node ends its answers too early")
        if error and not _is_transient(error):
            raise error
        self._failures += 1
        return min(_FIRST_PAUSE_S * 2 ** (self._failures - 1), _LONGEST_PAUSE_S)

    def progress(self) -> None:
        """The count begins again."""
        self._failures = 0


def _refusal_pause(refusals: int) -> float:
    return min(0.5 * (refusals + 1), _LONGEST_PAUSE_S)


class _Wait:
    """A wait for a transaction, up to a time limit."""

    def __init__(self, hash: str, timeout_s: float):
        self._hash, self._timeout_s = hash, timeout_s
        self._end = time.monotonic() + timeout_s

    def outlasts(self, error: Exception) -> None:
        """Raises an error that will not pass. A node that has just started may not know the
        transaction yet."""
        unknown = isinstance(error, ApiError) and error.status == httpx.codes.NOT_FOUND
        if not unknown and not _is_transient(error):
            raise error

    def pause(self) -> float:
        """Seconds until the next look. Raises `TimeoutError`."""
        if time.monotonic() > self._end:
            raise TimeoutError(
                f"transaction {self._hash} is not finalized after {self._timeout_s} s"
            )
        return _POLL_S


class _Stream:
    """An event stream that continues after its last event."""

    def __init__(self, after: str | None) -> None:
        self.retries = _Retries()
        self._after, self._data = after, []

    def begins_now(self) -> bool:
        """Whether it is not known yet where the stream begins."""
        return self._after is None

    def begin(self, status: types.Status) -> None:
        """Begins after everything that has happened by this status, so that nothing is missed if
        the first connection breaks before its first event."""
        self._after = f"{status.height}-{_LAST_INDEX}"

    def params(self) -> dict[str, str | None]:
        """The query of the next connection."""
        self._data = []
        return {"after": self._after}

    def line(self, line: str) -> dict | None:
        """The event that this line completes, if any."""
        if line.startswith("data:"):
            self._data.append(line[5:].removeprefix(" "))
        elif not line and self._data:
            text, self._data = "\n".join(self._data), []
            event = json.loads(text)
            self._after = event["cursor"]
            self.retries.progress()
            return event
        return None


class _Download:
    """A download of weights: a `.part` file beside the path until the hash is checked. Another
    process that downloads the same file is waited for."""

    def __init__(self, model: types.Model, path: Path):
        if model.weights is None:
            raise ApiError(404, Code.NO_WEIGHTS, f"model {model.id} has no public weights", None)
        # The file that a link names is replaced, not the link.
        self.path = Path(os.path.realpath(path))
        if self.path.exists() and not self.path.is_file():
            raise OSError(errno.EINVAL, "It is not a regular file", str(path))
        self.hash, self.size = model.weights.hash, model.weights.size_bytes
        self.part = self.path.with_name(f"{self.path.name}.{self.hash[:16]}.part")
        self.url = f"/v1/weights/{self.hash}"
        self.received = 0
        """Bytes received so far."""
        self._resumed = self._done = False
        self._file: BinaryIO | None = None

    def __enter__(self) -> _Download:
        while True:
            file = self.part.open("a+b")
            fcntl.flock(file, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), self.part.stat()):
                    break
            # The other process has just completed it.
            file.close()
        self._file = file
        self.received = os.fstat(file.fileno()).st_size
        self._resumed = self.received > 0
        if not self._resumed and self.path.exists() and self.path.stat().st_size == self.size:
            with self.path.open("rb") as present:
                self._done = _hash_of(present) == self.hash
        return self

    def __exit__(self, *_: object) -> None:
        # One without content is of no use later. It goes while it is locked: whoever waits for it
        # then sees that it is gone.
        if not self.received:
            self.part.unlink(missing_ok=True)
        if self._file:
            self._file.close()

    def complete(self) -> bool:
        """Whether all bytes are received."""
        return self._done or self.received >= self.size

    def headers(self) -> dict[str, str]:
        """The request headers: the range of the missing bytes."""
        return {"Range": f"bytes={self.received}-"} if self.received else {}

    def check(self, response: httpx.Response) -> None:
        """Raises the error of an answer."""
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            received = self.received
            self._restart()
            raise WrongHash(f"the node has fewer than {received} bytes of {self.hash}")
        _json(response)

    def begin(self, response: httpx.Response) -> None:
        """Starts from scratch unless the answer is the rest of the file."""
        rest = response.headers.get("content-range", "").startswith(f"bytes {self.received}-")
        if self.received and not (response.status_code == httpx.codes.PARTIAL_CONTENT and rest):
            self._restart()

    def write(self, block: bytes) -> None:
        """Appends bytes. Raises `WrongHash` if there are more than the file has."""
        if self.received + len(block) > self.size:
            self._restart()
            raise WrongHash(f"the node sends more than the {self.size} bytes of {self.hash}")
        self._file.write(block)
        self.received += len(block)

    def finished(self) -> bool:
        """Whether the file is there; one that is complete is checked first. Raises `WrongHash`, but
        not if the wrong bytes may be those of an earlier attempt: then it starts from scratch."""
        if self._done or not self.complete():
            return self._done
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.seek(0)
        found = _hash_of(self._file)
        if found == self.hash:
            self.part.replace(self.path)
            self._done = True
            return True
        resumed = self._resumed
        self._restart()
        if not resumed:
            raise WrongHash(f"{self.path} hashes to {found}, not {self.hash}")
        return False

    def _restart(self) -> None:
        self._file.truncate(0)
        self.received, self._resumed = 0, False


def _hash_of(file: BinaryIO) -> str:
    hasher = blake3(max_threads=blake3.AUTO)
    while block := file.read(_READ_BLOCK):
        hasher.update(block)
    return hasher.hexdigest()


def _options(url: str) -> dict:
    """How to connect to a node. Raises `ValueError` if `url` is not that of one."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise ValueError(f"not the URL of a node: {_without_login(str(url))}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"not the URL of a node: {_without_login(str(url))}")
    options = {"base_url": url.rstrip("/"), "timeout": _TIMEOUT}
    # No proxy can reach this machine for us.
    return {**options, "trust_env": not _is_this_machine(parsed.host)}


def _is_this_machine(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        name = host.removesuffix(".")
        return name == "localhost" or name.endswith(".localhost")
    mapped = getattr(address, "ipv4_mapped", None)
    return any(form.is_loopback or form.is_unspecified for form in (address, mapped) if form)


def _without_login(url: str) -> str:
    """A URL, or what was given for one, without the name and the password in it."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _page(kind: type[T], response: httpx.Response) -> tuple[list[T], str | None]:
    """The items of a page, and the query of the next one."""
    page = _json(response)
    try:
        items, after = types.decode(list[kind], page["items"]), page["next"]
    except (ValueError, KeyError, TypeError):
        raise _not_a_node(response) from None
    return items, f"limit={_PAGE}&after={after}" if after and items else None


def _decode(kind: type[T], response: httpx.Response) -> T:
    """The value in an answer; raises `ApiError`."""
    answer = _json(response)
    try:
        return types.decode(kind, answer)
    except (ValueError, KeyError, TypeError):
        raise _not_a_node(response) from None


def _not_a_node(response: httpx.Response) -> ApiError:
    url = _without_login(str(response.request.url))
    message = f"{url} does not answer like a soma node"
    return ApiError(response.status_code, Code.NOT_A_NODE, message, "check the URL")


def _hand_on(response: httpx.Response, asked: _native.Conversation) -> None:
    """Tells a question what the node said. Raises `VerifyError`, `ApiError`."""
    missing = response.status_code == httpx.codes.NOT_FOUND
    if not missing and not response.is_success:
        _json(response)
    try:
        asked.hear(None if missing else response.content)
    except ValueError:
        raise _not_a_node(response) from None


def _json(response: httpx.Response) -> object:
    """The body of an answer; raises `ApiError` if it is an error."""
    if response.is_success:
        try:
            return response.json()
        except ValueError:
            raise _not_a_node(response) from None
    status = response.status_code
    if location := response.headers.get("location"):
        url, location = _without_login(str(response.request.url)), _without_login(location)
        message = f"{url} answers {status} {response.reason_phrase}, and names {location}"
        hint = "if that is the node, use its URL, without the path"
        raise ApiError(status, Code.REDIRECT_REFUSED, message, hint)
    try:
        problem = response.json()
        raise ApiError(status, problem["code"], problem["message"], problem.get("hint"))
    except (ValueError, KeyError, TypeError):
        text = response.text[:200] or response.reason_phrase
        raise ApiError(status, Code.HTTP_ERROR, text, None) from None
