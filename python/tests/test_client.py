"""The client against a real node: the binary's own local network."""

import argparse
import asyncio
import concurrent.futures
import json
import typing
from dataclasses import fields, is_dataclass

import httpx
import pytest
from networks import local_network

import soma
from soma import client as api
from soma import types


@pytest.fixture(scope="session")
def network(tmp_path_factory):
    """A running local network: its URLs and funded keys."""
    with local_network(tmp_path_factory.mktemp("network")) as network:
        yield network


@pytest.fixture
def url(network):
    return network["urls"][0]


def test_a_client_reads_what_the_node_knows(url):
    with soma.Client(url) as client:
        status = client.status()
        assert (
            status.supply.reserve + status.supply.held == status.supply.cap - status.supply.burned
        )
        assert isinstance(status.height, int) and status.clock.epoch >= 1
        assert client.model.list() == []
        assert client.target.list() == client.target.list(status.clock.epoch) == []
        assert client.epoch(status.clock.epoch).epoch == status.clock.epoch
        assert client.params() and client.architecture()


def test_validators_stakes_and_proposals_are_read(url):
    with soma.Client(url) as client:
        seated = [one for one in client.validator.list() if one.seat is not None]
        assert seated and all(one.stake > 0 and one.status == "ready" for one in seated)
        assert client.stakes(seated[0].address)[0].pool_stake == seated[0].stake
        governance = client.governance()
        assert governance.rent_price > 0 and governance.proposals == []


def test_the_asynchronous_client_returns_the_same(url):
    async def both():
        async with soma.AsyncClient(url) as client:
            return await asyncio.gather(client.status(), client.model.list(), client.params())

    status, models, params = asyncio.run(both())
    with soma.Client(url) as client:
        assert status.chain_id == client.status().chain_id
        assert models == client.model.list() and params == client.params()


def test_funded_keys_have_balances_and_unknown_accounts_are_empty(url, network):
    with soma.Client(url) as client:
        addresses = [key["address"] for key in network["keys"].values()]
        assert any(client.balance(address) > 0 for address in addresses)
        assert client.account(addresses[0]).address == addresses[0]


def test_an_error_carries_the_nodes_code_and_hint(url):
    with soma.Client(url) as client:
        with pytest.raises(soma.ApiError) as refused:
            client.model.show(4711)
        assert refused.value.status == 404 and refused.value.code
        with pytest.raises(soma.ApiError) as refused:
            client.send(b"no transaction")
        assert 400 <= refused.value.status < 500


def test_events_arrive_from_the_beginning_of_the_chain(url):
    with soma.Client(url) as client:
        events = client.events(after="0-0")
        first = next(events)
        events.close()
        assert {"cursor", "event", "timestamp_ms"} <= first.keys()


def test_every_type_agrees_with_the_nodes_openapi_document(url):
    schemas = httpx.get(f"{url}/openapi.json").json()["components"]["schemas"]
    ours = [kind for kind in vars(types).values() if is_dataclass(kind)]
    assert len(ours) > 15
    for kind in ours:
        schema = schemas[kind.__name__]
        hints = typing.get_type_hints(kind)
        assert {field.name for field in fields(kind)} == set(schema["properties"]), kind
        for field in fields(kind):
            optional = type(None) in typing.get_args(hints[field.name])
            required = field.name in schema.get("required", [])
            assert required != optional, (kind, field.name)


def test_64_bit_numbers_are_read_from_strings_and_unknown_fields_are_ignored():
    receipt = types.decode(types.Receipt, {"fee": "18446744073709551615", "new": 1})
    assert receipt == types.Receipt(fee=2**64 - 1, rejection=None)
    for bad in ({"fee": 1.5}, {"fee": None}, {"fee": True}, [], {"fee": "1", "rejection": "no"}):
        with pytest.raises(ValueError):
            types.decode(types.Receipt, bad)


class Weights:
    """A node's answers for one model with public weights, over a real transport interface. Each of
    `faults` befalls one request for the file: an exception, a status, or the bytes after which the
    answer is interrupted."""

    def __init__(self, content, promised=None, faults=()):
        self.content = content
        self.hash = soma.sigreg.blake3(promised or content).hexdigest()
        self.requests, self.faults = [], list(faults)

    def __call__(self, request):
        if request.url.path == "/v1/models/1":
            weights = dict.fromkeys(("ciphertext_hash", "key"), "00" * 32)
            weights |= dict.fromkeys(("revealed_epoch", "first_epoch", "refresh_epoch"), 1)
            weights |= {"hash": self.hash, "size_bytes": str(len(self.content))}
            model = {"id": 1, "name": "m", "owner": "o", "commission_bps": 0, "status": "active"}
            model |= {"stake": "1", "leaving": "0", "joining": "0"}
            model |= {"weights": weights, "commits": []}
            model |= {"wins": 0, "earned": "0"}
            return httpx.Response(200, json=model)
        self.requests.append(request.headers.get("range"))
        start = int(self.requests[-1][6:-1]) if self.requests[-1] else 0
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, Exception):
            raise fault
        if fault in (404, 503):
            return httpx.Response(fault)
        rest = self.content[start:] if fault is None else interrupted(self.content[start:], fault)
        headers = {"content-range": f"bytes {start}-"} if start else {}
        return httpx.Response(206 if start else 200, content=rest, headers=headers)

    def client(self):
        client = soma.Client("http://node")
        client._http = httpx.Client(base_url="http://node", transport=httpx.MockTransport(self))
        return client


def interrupted(content, after):
    yield content[:after]
    raise httpx.RemoteProtocolError("the peer closed the connection")


@pytest.fixture
def impatient(monkeypatch):
    """Retries without pauses."""
    monkeypatch.setattr(api, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(api, "_LONGEST_PAUSE_S", 0.002)


def test_a_pull_outlasts_every_passing_fault(tmp_path, impatient):
    faults = [1000, httpx.ConnectError("refused"), 503, httpx.ReadTimeout("silent"), 0, 5000]
    node = Weights(bytes(range(256)) * 100, faults=faults)
    assert node.client().model.pull(1, tmp_path / "w").read_bytes() == node.content
    assert node.requests == [None, *["bytes=1000-"] * 5, "bytes=6000-"]
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


def test_a_pull_gives_up_after_many_faults_without_progress_and_keeps_what_it_has(
    tmp_path, impatient
):
    node = Weights(bytes(20_000), faults=[1000, *[503] * 20])
    with pytest.raises(soma.ApiError):
        node.client().model.pull(1, tmp_path / "w")
    assert len(node.requests) <= 10
    node = Weights(bytes(20_000))
    assert node.client().model.pull(1, tmp_path / "w").read_bytes() == node.content
    assert node.requests == ["bytes=1000-"]
    gone = Weights(bytes(1000), faults=[404])
    with pytest.raises(soma.ApiError):
        gone.client().model.pull(1, tmp_path / "x")
    assert len(gone.requests) == 1 and not list(tmp_path.glob("x*"))


def test_wrong_bytes_of_an_earlier_attempt_are_fetched_again(tmp_path):
    node = Weights(bytes(range(256)) * 10)
    (tmp_path / f"w.{node.hash[:16]}.part").write_bytes(bytes(1000))
    assert node.client().model.pull(1, tmp_path / "w").read_bytes() == node.content
    assert node.requests == ["bytes=1000-", None]


def test_a_pull_to_a_link_replaces_what_it_names_and_never_a_device(tmp_path):
    (tmp_path / "link").symlink_to("real")
    node = Weights(b"content")
    node.client().model.pull(1, tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_bytes() == b"content"
    with pytest.raises(OSError, match="regular"):
        node.client().model.pull(1, "/dev/null")


def test_several_that_pull_one_file_share_it(tmp_path):
    node = Weights(bytes(range(256)) * 1000)
    pull = lambda _: node.client().model.pull(1, tmp_path / "w").read_bytes()  # noqa: E731
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert set(pool.map(pull, range(4))) == {node.content}
    assert len(node.requests) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


class Restarting:
    """A node that delivers events, and restarts in between."""

    def __init__(self, outages):
        self.outages, self.asked = list(outages), []

    def __call__(self, request):
        self.asked.append(request.url.params.get("after"))
        outage = self.outages.pop(0) if self.outages else None
        if isinstance(outage, Exception):
            raise outage
        if outage == 503:
            return httpx.Response(503)
        first = 1 + int((self.asked[-1] or "0-0").split("-")[0])
        events = [{"cursor": f"{height}-0", "event": {}} for height in (first, first + 1)]
        lines = [f": comment\ndata: {json.dumps(event)}\n\n".encode() for event in events]
        half = lines[0] + lines[1][:20]
        sent = 5 if outage == "silent" else len(half)
        content = half if outage == "end" else interrupted(half, sent)
        return httpx.Response(200, content=content)

    def client(self, height):
        """A client of the node, which tells its height once."""
        client, heights = soma.Client("http://node"), iter([argparse.Namespace(height=height)])
        client._http = httpx.Client(base_url="http://node", transport=httpx.MockTransport(self))
        client.status = lambda: next(heights)
        return client


def test_events_continue_after_their_cursor_when_the_node_restarts(impatient):
    node = Restarting(["end", httpx.ConnectError("refused"), 503, "interrupted"])
    events = node.client(height=0).events()
    assert [next(events)["cursor"] for _ in range(4)] == ["1-0", "2-0", "3-0", "4-0"]
    assert node.asked == ["0-4294967295", "1-0", "1-0", "1-0", "2-0", "3-0"]
    dead = Restarting([httpx.ConnectError("refused")] * 20)
    with pytest.raises(httpx.ConnectError):
        next(dead.client(height=0).events())


def test_events_from_now_on_miss_none_though_the_first_connection_breaks_before_one(impatient):
    node = Restarting(["silent", 503, httpx.ReadError("reset")])
    assert next(node.client(height=7).events())["cursor"] == "8-0"
    assert node.asked == ["7-4294967295"] * 4

    async def first(node):
        client = soma.AsyncClient("http://node")
        transport = httpx.MockTransport(node)
        client._http = httpx.AsyncClient(base_url="http://node", transport=transport)
        heights = iter([argparse.Namespace(height=7)])

        async def status():
            return next(heights)

        client.status = status
        async for event in client.events():
            return event

    node = Restarting([httpx.ConnectError("refused"), 503, "end"])
    assert asyncio.run(first(node))["cursor"] == "8-0"
    assert node.asked == ["7-4294967295"] * 3


def answering(answer):
    client = soma.Client("http://bob:secret@node")
    client._http = httpx.Client(base_url=client.url, transport=httpx.MockTransport(answer))
    return client


def test_waiting_outlasts_a_node_that_restarts(impatient, monkeypatch):
    monkeypatch.setattr(api, "_POLL_S", 0.001)
    final = {"hash": "00", "state": "final", "height": "1", "receipt": None}
    answers = [httpx.ConnectError("refused"), 503, 404, 429, final]

    def answer(request):
        now = answers.pop(0)
        if isinstance(now, Exception):
            raise now
        return httpx.Response(now) if isinstance(now, int) else httpx.Response(200, json=now)

    monkeypatch.setattr(api, "_refusal_pause", lambda _: 0.001)
    monkeypatch.setattr(types, "decode", lambda kind, value: argparse.Namespace(**value))
    assert answering(answer).wait("00").state == "final"
    with pytest.raises(TimeoutError):
        answering(lambda request: httpx.Response(503)).wait("00", timeout_s=0.01)
    with pytest.raises(soma.ApiError):
        answering(lambda request: httpx.Response(400)).wait("00")


def test_an_answer_from_elsewhere_says_what_it_is():
    page = answering(lambda request: httpx.Response(200, text="<html>sign in</html>"))
    with pytest.raises(soma.ApiError, match="does not answer like a soma node") as error:
        page.status()
    assert error.value.code == "not_a_node"
    other = answering(lambda request: httpx.Response(200, json={"some": "json"}))
    for call in (other.status, other.model.list):
        with pytest.raises(soma.ApiError, match="does not answer like a soma node"):
            call()
    to = {"location": "http://bob:secret@elsewhere/v1/status"}
    moved = answering(lambda request: httpx.Response(301, headers=to))
    with pytest.raises(soma.ApiError, match="names http://elsewhere/v1/status") as error:
        moved.status()
    assert (error.value.status, error.value.code) == (301, "redirect_refused")


def test_what_a_node_says_controls_no_terminal():
    problem = {"code": "x", "message": "\x1b[2Jmessage\u202e\x9b1m"}
    node = answering(lambda request: httpx.Response(400, json=problem))
    with pytest.raises(soma.ApiError) as error:
        node.status()
    assert str(error.value) == "x: \\x1b[2Jmessage\\u202e\\x9b1m"


def test_no_password_is_shown_and_no_proxy_comes_between_a_client_and_its_machine(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    client = soma.Client("http://bob:secret@127.0.0.1:1/")
    assert client.url == "http://127.0.0.1:1"
    for url in ("http://localhost:1", "http://[::1]:1", "http://127.9.9.9:1"):
        assert not soma.Client(url)._http._mounts
    assert soma.Client("http://example.org")._http._mounts
    for url in ("nonsense", "ftp://host", "http://", "bob:secret@host"):
        with pytest.raises(ValueError, match="not the URL of a node") as error:
            soma.Client(url)
        assert "secret" not in str(error.value)


def test_an_interrupted_pull_is_resumed(tmp_path):
    node = Weights(bytes(range(256)) * 100)
    part = tmp_path / f"w.{node.hash[:16]}.part"
    part.write_bytes(node.content[:1000])
    assert node.client().model.pull(1, tmp_path / "w").read_bytes() == node.content
    assert node.requests == ["bytes=1000-"] and not part.exists()


def test_weights_with_a_wrong_hash_are_never_stored_under_their_name(tmp_path):
    with pytest.raises(api.WrongHash):
        Weights(b"something else", promised=b"what was revealed").client().model.pull(
            1, tmp_path / "w"
        )
    assert list(tmp_path.iterdir()) == []
