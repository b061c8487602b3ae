"""The client against a real node: the binary's own local network."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import typing
from dataclasses import fields, is_dataclass
from pathlib import Path

import httpx
import pytest

import soma
from soma import client as api
from soma import types

ROOT = Path(__file__).resolve().parents[2]


def binary():
    built = [ROOT / "target" / kind / "soma" for kind in ("release", "debug")]
    found = os.environ.get("SOMA_BIN") or next((str(path) for path in built if path.exists()), None)
    return found or shutil.which("soma")


@pytest.fixture(scope="session")
def network(tmp_path_factory):
    """A running local network: its URLs and funded keys. Skipped where there is no binary."""
    if binary() is None:
        pytest.skip("no soma binary: cargo build --release, or name it in SOMA_BIN")
    folder = tmp_path_factory.mktemp("network")
    info = folder / "info.json"
    environment = {**os.environ, "SOMA_HOME": str(folder)}
    command = [binary(), "localnet", "--epoch", "manual", "--port", "0", "--info-out", str(info)]
    command += ["--state", str(folder / "state")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline(), "it says its URL when it is up"
            yield json.loads(info.read_text())
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)


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
    """A node's answers for one model with public weights, over a real transport interface; the
    first is interrupted inside the file."""

    def __init__(self, content, promised=None):
        self.content = content
        self.hash = soma.sigreg.blake3(promised or content).hexdigest()
        self.requests = []

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
        status = 206 if start else 200
        return httpx.Response(status, content=self.content[start:])

    def client(self):
        client = soma.Client("http://node")
        client._http = httpx.Client(base_url="http://node", transport=httpx.MockTransport(self))
        return client


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
