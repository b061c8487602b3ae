"""The bench that attacks the rules runs, and its parts are what they say."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import soma

BENCH = Path(__file__).resolve().parents[2] / "bench" / "redteam"
TEXT = b"A model wins where it understands what others do not, and a judge only counts. " * 4


@pytest.fixture(autouse=True)
def bench(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.safetensors"
    soma.native.init(path, soma.NANO, soma.seed_of(1))
    return path


def test_every_kind_and_search_is_measured_and_shown(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("prose", "code"):
        (tmp_path / name).mkdir()
        for number in range(40):
            text = " ".join(name[: length % 5] * 2 for length in rng.integers(100, size=200))
            (tmp_path / name / f"{number}.txt").write_text(text)
    picture = tmp_path / "picture.svg"
    domains = [f"{name}={tmp_path / name}" for name in ("prose", "code")]
    command = [sys.executable, BENCH, *domains, "--small", "--owner", "--steps", "1"]
    command += ["--folder", tmp_path / "out", "--plot", picture]
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    from generators import SAMPLED, SINGLE
    from search import SEARCHES

    kinds = [*SINGLE, *SAMPLED, *(search.name for search in SEARCHES)]
    result = json.loads((tmp_path / "out" / "demo-1.json").read_text())
    assert list(result["owner"]) == ["prose", "code"]
    rows = result["rows"]
    assert [row["kind"] for row in rows[1:]] == kinds
    assert len(kinds) > 30
    for kind in kinds:
        assert kind in done.stdout, kind
        assert kind in picture.read_text(), kind


def test_numpy_and_the_engine_agree_on_embeddings(weights):
    from network import Network

    engine = soma.Model.from_file(weights).score(TEXT[:200]).embedding
    # The engine adds an end to a short chunk.
    data = np.append(np.frombuffer(TEXT[:200], np.uint8), 257)
    mean = Network(weights)._forward(data)[0].mean(axis=0)
    assert engine @ mean / np.linalg.norm(engine) / np.linalg.norm(mean) > 0.9999


def test_the_gradient_says_what_a_change_of_a_byte_does(weights):
    from network import Network

    network = Network(weights)
    network._weights = {name: value.astype(float) for name, value in network._weights.items()}
    target = np.eye(network.dim)[3]
    data = TEXT[:100] + b"\xc8" + TEXT[:100]
    middle = network.embedding(TEXT[100:250]) / 2

    def closeness():
        seen = network.embedding(data) - middle
        return seen @ target / np.linalg.norm(seen)

    slopes = network.slopes(data, target, middle, 0).swaps[100]
    table = network._weights["embedding.weight"]
    before, kept, step = closeness(), table[200].copy(), 1e-3
    for byte in (65, 97, 120):
        table[200] = kept + step * (table[byte] - kept)
        assert closeness() - before == pytest.approx(step * slopes[byte], rel=0.05)
        table[200] = kept


def test_a_winner_is_recognized_after_a_change_and_other_text_is_not():
    from seen import shared, sketch

    winner = (BENCH / "judge.py").read_bytes()[:1000]
    other = (BENCH / "corpus.py").read_bytes()[:1000]
    changed = winner[500:] + winner[:499] + b"#"
    assert shared(sketch(changed, 16, 16), sketch(winner, 16, 16)) > 0.5
    assert shared(sketch(other, 16, 16), sketch(winner, 16, 16)) < 0.2


def test_two_samples_of_one_kind_win_half_of_the_targets_each():
    from judge import targets, win_share

    directions = targets(200, 16, 1) @ targets(2000, 16, 2).T
    wins, *closeness = win_share(directions[:100], directions[100:], 40, 3)
    assert wins == pytest.approx(0.5, abs=0.1)
    assert closeness[0] == pytest.approx(closeness[1], abs=0.05)
