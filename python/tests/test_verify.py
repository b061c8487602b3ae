"""What a client that verifies believes of a node that lies: nothing about the state."""

import asyncio
import json
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import httpx
import pytest
from networks import ROOT, binary, command, local_network

import soma
from soma.codes import Code

ARCHITECTURE = """{"embedding_dim": 32, "num_heads": 2, "num_layers": 1, "pwff_hidden_dim": 64,
    "vocab_size": 264, "max_seq_len": 64,
    "sig_reg_slices": 16, "sig_reg_points": 17, "sig_reg_t_max": 3.0}"""


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A local network in epoch 2, with a model and its targets."""
    folder = tmp_path_factory.mktemp("network")
    architecture, weights = str(folder / "arch.json"), str(folder / "owl.safetensors")
    (folder / "arch.json").write_text(ARCHITECTURE)
    with local_network(folder, "--arch", architecture) as info:
        run = lambda *arguments: command(folder, info, *arguments)  # noqa: E731

        def turn_to(epoch, phase):
            while (clock := run("status")["clock"])["epoch"] != epoch or clock["phase"] != phase:
                run("localnet", "next")

        key = ("--key", "account-1")
        run("model", "init", "--arch", architecture, "--seed", "1", "-o", weights)
        run("model", "register", "owl", "--stake", "10", *key)
        domain = [str(ROOT / name) for name in ("STYLE.md", "CONTRIBUTING.md")]
        run("model", "commit", weights, *key, "--domain", *domain)
        turn_to(2, "reveal")
        run("model", "reveal", *key)
        turn_to(2, "compete")
        yield SimpleNamespace(
            url=info["urls"][0],
            chain=info["chain_id"],
            genesis=info["genesis"],
            owner=info["keys"]["account-1"]["address"],
            nobody=info["keys"]["validator-1"]["address"],
            folder=folder,
        )


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A folder of data for each test."""
    monkeypatch.setenv("SOMA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


class Liar:
    """A proxy before a node, which answers as `lie` says: it gets the path and the status and JSON
    of the node's answer, and returns those that the client gets."""

    def __init__(self, node):
        self.asked, self.lie = [], lambda path, status, answer: (status, answer)
        liar = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                liar.asked.append(self.path)
                said = httpx.get(f"{node}{self.path}", trust_env=False)
                status, answer = liar.lie(self.path, said.status_code, said.json())
                body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def changes_records(self, at):
        """Changes byte `at` of every record but those that every answer needs, and proves it as
        before."""
        always = set()

        def lie(path, status, answer):
            if path.startswith("/v1/proof"):
                keys = path.partition("keys=")[2].split(",")
                if len(keys) == 5:
                    always.update(keys)
                for index, key in enumerate(keys):
                    proof = bytearray.fromhex(answer["records"][index])
                    length = int.from_bytes(proof[1:5], "little")
                    if key not in always and proof[0] == 1 and at < length:
                        proof[5 + at] ^= 1
                        answer["records"][index] = proof.hex()
            return status, answer

        self.lie = lie


@pytest.fixture
def liar(network):
    with Liar(network.url) as liar:
        yield liar


@contextmanager
def refused(url, code):
    """A lie, with the code of the command line and the name of the node."""
    with pytest.raises(soma.VerifyError) as error:
        yield error
    assert error.value.code == code and error.value.code in set(Code)
    assert error.value.url == url and url in str(error.value)


def everything(client, owner):
    """Everything that is proved."""
    status = client.status()
    return [
        *(status.chain_id, status.clock.epoch, status.rules),
        *(client.params(), client.architecture(), client.governance(), client.epoch(2)),
        *(client.balance(owner), client.account(owner).models, client.account(owner).nonce),
        *(client.model.show(1), client.model.specialization(1, 2)),
        *(client.target.list(2), client.target.show(1), client.target.direction(1)),
    ]


def test_what_an_honest_node_proves_is_what_it_says(network, liar):
    with soma.Client(liar.url, verify=network.chain) as client, soma.Client(network.url) as honest:
        proved = everything(client, network.owner)
        assert any(path.startswith("/v1/proof") for path in liar.asked)
        liar.asked.clear()
        assert proved == everything(honest, network.owner)
        assert proved[8] == [1] and len(proved[12]) == 4
        assert client.balance(network.nobody) == 0 == client.account(network.nobody).nonce
        status = client.status()
        assert client.block(status.height).state_root == status.state_root
        for missing, code in (
            (lambda: client.model.show(99), Code.MODEL_NOT_FOUND),
            (lambda: client.target.show(99), Code.TARGET_NOT_FOUND),
            (lambda: client.epoch(99), Code.EPOCH_NOT_FOUND),
        ):
            with pytest.raises(soma.ApiError) as error:
                missing()
            assert (error.value.status, error.value.code) == (404, code)


def test_the_asynchronous_client_proves_the_same_for_many_questions_at_once(network, liar):
    async def ask():
        async with soma.AsyncClient(liar.url, verify=network.chain) as client:
            questions = [client.balance(network.owner), client.model.show(1), client.target.list(2)]
            return await asyncio.gather(*questions, client.target.show(1))

    balance, model, targets, target = asyncio.run(ask())
    with soma.Client(network.url) as honest:
        assert balance == honest.balance(network.owner) and model == honest.model.show(1)
        assert targets == honest.target.list(2) and target == targets[0]

    async def ask_a_liar():
        async with soma.AsyncClient(liar.url, verify=network.chain) as client:
            await client.balance(network.owner)

    liar.changes_records(3)
    with refused(liar.url, Code.ANSWER_UNPROVED):
        asyncio.run(ask_a_liar())


def test_what_a_node_says_without_a_proof_counts_for_nothing(network, liar):
    def lie(path, status, answer):
        if path.startswith("/v1/accounts/"):
            answer |= {"balance": "7", "nonce": "9", "models": [1, 2, 3]}
        if path.startswith("/v1/models/"):
            answer |= {"stake": "7"}
        if path.startswith("/v1/status"):
            answer["clock"]["epoch"] = 77
        return status, answer

    liar.lie = lie
    with soma.Client(network.url) as honest, soma.Client(liar.url) as credulous:
        assert credulous.balance(network.owner) == 7 == credulous.model.show(1).stake
        client = soma.Client(liar.url, verify=network.chain)
        assert client.balance(network.owner) == honest.balance(network.owner)
        assert client.account(network.nobody).models == []
        assert client.account(network.owner).models == [1]
        assert client.model.show(1).stake == 10 * 10**9
        assert client.status().clock.epoch == 2


def test_every_lie_about_a_record_is_refused_and_names_the_node(network, liar):
    client = soma.Client(liar.url, verify=network.chain)
    for at in (0, 3, 12):
        liar.changes_records(at)
        for ask in (
            lambda: client.balance(network.owner),
            lambda: client.account(network.owner),
            lambda: client.model.show(1),
            lambda: client.model.specialization(1, 2),
            lambda: client.target.show(1),
            lambda: client.target.list(2),
            lambda: client.target.direction(1),
            lambda: client.epoch(2),
        ):
            with refused(liar.url, Code.ANSWER_UNPROVED):
                ask()


def test_a_proof_that_is_cut_withheld_or_of_another_block_is_refused(network, liar):
    client = soma.Client(liar.url, verify=network.chain)

    def proofs(change):
        def lie(path, status, answer):
            return change(status, answer) if path.startswith("/v1/proof") else (status, answer)

        return lie

    proof = {}
    liar.lie = proofs(lambda status, answer: (proof.update(answer), (status, answer))[1])
    client.params()
    liar.lie = proofs(lambda status, answer: (status, answer | {"records": answer["records"][1:]}))
    with refused(liar.url, Code.ANSWER_UNPROVED):
        client.params()
    liar.lie = proofs(lambda status, answer: (status, answer | {"header": answer["header"][:100]}))
    with refused(liar.url, Code.ANSWER_UNPROVED):
        client.params()
    while height(network) == int(proof["height"]):
        time.sleep(0.05)
    old = {"certificate": proof["certificate"]}
    liar.lie = proofs(lambda status, answer: (status, answer | old))
    with refused(liar.url, Code.BLOCK_NOT_CERTIFIED):
        client.params()
    # A model that is there, and of which the node says that it is not.
    gone = {"code": "model_not_found", "message": "there is no model 1"}
    liar.lie = proofs(lambda status, answer: (404, gone))
    with refused(liar.url, Code.ANSWER_UNPROVED):
        client.model.show(1)
    for nonsense in (b"<html>sign in</html>", b"{}", b"[]"):
        liar.lie = proofs(lambda status, answer, nonsense=nonsense: (status, nonsense))
        with pytest.raises(soma.ApiError, match="does not answer like a soma node") as error:
            client.params()
        assert error.value.code == Code.NOT_A_NODE
    liar.lie = proofs(lambda status, answer: (503, {"code": "busy", "message": "busy"}))
    with pytest.raises(soma.ApiError) as error:
        client.params()
    assert error.value.status == 503


def height(network):
    with soma.Client(network.url) as client:
        return client.status().height


def test_a_state_of_another_time_is_refused(network, liar):
    client = soma.Client(liar.url, verify=soma.Verifier(network.chain, age_max_s=0.0))
    with refused(liar.url, Code.BLOCK_OF_ANOTHER_TIME):
        client.params()


def test_a_node_of_another_chain_is_refused_from_every_beginning(network, liar, tmp_path):
    client = soma.Client(liar.url, verify="00" * 32)
    with refused(liar.url, Code.OTHER_CHAIN):
        client.status()
    # A node that lies about its genesis, too.
    genesis = json.loads((network.folder / "localnet" / "genesis.json").read_text())
    genesis["timestamp_ms"] = "1"
    liar.lie = lambda path, status, answer: (status, genesis if "genesis" in path else answer)
    client = soma.Client(liar.url, verify=network.chain)
    with refused(liar.url, Code.OTHER_CHAIN):
        client.status()
    # The same chain but for its start: its own committee has not certified these blocks.
    (tmp_path / "genesis.json").write_text(json.dumps(genesis))
    other = soma.Verifier(genesis=tmp_path / "genesis.json")
    assert other.chain != network.chain
    with refused(liar.url, Code.BLOCK_NOT_CERTIFIED):
        soma.Client(liar.url, verify=other).status()


def test_a_verifier_begins_with_a_genesis_or_a_checkpoint_and_asks_no_node_for_it(
    network, liar, tmp_path
):
    verifier = soma.Verifier(genesis=network.genesis)
    assert verifier.chain == network.chain
    soma.Client(liar.url, verify=verifier).status()
    checkpoint = tmp_path / "checkpoint"
    verifier.save(checkpoint)
    again = soma.Verifier(checkpoint=checkpoint)
    assert again.chain == network.chain
    expected = soma.Client(network.url).balance(network.owner)
    assert soma.Client(liar.url, verify=again).balance(network.owner) == expected
    assert "/v1/genesis" not in liar.asked
    assert soma.Verifier(network.chain, genesis=network.genesis, checkpoint=checkpoint)


def test_a_beginning_that_does_not_match_is_refused(network, tmp_path):
    checkpoint, other = tmp_path / "checkpoint", "00" * 32
    with pytest.raises(ValueError, match="nothing is verified yet"):
        soma.Verifier(network.chain).save(checkpoint)
    soma.Verifier(genesis=network.genesis).save(checkpoint)
    with pytest.raises(
        soma.VerifyError, match=f"of chain {network.chain}, not of {other}"
    ) as error:
        soma.Verifier(other, checkpoint=checkpoint)
    assert error.value.code == Code.BAD_CHECKPOINT and error.value.url is None
    damaged = tmp_path / "damaged"
    for content in ("", "00" * 40, checkpoint.read_text()[:-20], "text", "\0"):
        damaged.write_text(content)
        with pytest.raises(soma.VerifyError, match="is not a checkpoint") as error:
            soma.Verifier(network.chain, checkpoint=damaged)
        assert error.value.code == Code.BAD_CHECKPOINT
        with pytest.raises(soma.VerifyError) as error:
            soma.Verifier(genesis=damaged)
        assert error.value.code == Code.INVALID_GENESIS
    with pytest.raises(soma.VerifyError, match="it is that of chain") as error:
        soma.Verifier(other, genesis=network.genesis)
    assert error.value.code == Code.INVALID_GENESIS
    with pytest.raises(FileNotFoundError):
        soma.Verifier(checkpoint=tmp_path / "nothing")
    for wrong in ({}, {"chain": "12"}, {"chain": other, "age_max_s": -1.0}):
        with pytest.raises(ValueError):
            soma.Verifier(**wrong)
    with pytest.raises(ValueError):
        soma.Client(network.url, verify=network.chain).balance("nobody")


def test_what_is_verified_is_kept_where_the_commands_keep_it(network, liar, home):
    kept = home / "verified" / network.chain
    soma.Client(liar.url, verify=network.chain).status()
    assert "/v1/genesis" in liar.asked and kept.exists()
    mine = kept.read_bytes()
    kept.unlink()
    asked = ["balance", network.owner, "--url", network.url, "--verify", "--chain", network.chain]
    subprocess.run([binary(), *asked], check=True, capture_output=True)
    assert kept.read_bytes() == mine
    liar.asked.clear()
    soma.Client(liar.url, verify=network.chain).status()
    assert "/v1/genesis" not in liar.asked
    for unkept in (soma.Verifier(network.chain, keep=False), soma.Verifier(checkpoint=kept)):
        kept.unlink(missing_ok=True)
        soma.Client(liar.url, verify=unkept).status()
        assert not kept.exists()
        kept.write_bytes(mine)
    elsewhere = home / "elsewhere"
    verifier = soma.Verifier(network.chain, keep=elsewhere)
    soma.Client(liar.url, verify=verifier).status()
    assert elsewhere.read_bytes() == mine


def test_a_lie_ends_the_command_line_with_the_same_code(network, liar):
    liar.changes_records(3)
    asked = ["balance", network.owner, "--url", liar.url, "--verify", "--chain", network.chain]
    done = subprocess.run([binary(), *asked], capture_output=True, text=True)
    with pytest.raises(soma.VerifyError) as error:
        soma.Client(liar.url, verify=network.chain).balance(network.owner)
    assert (
        done.returncode == 7 and f"error[{error.value.code}]: {error.value.message}" in done.stderr
    )
