"""The loss of counting, in Python and in the engine."""

from pathlib import Path

import numpy as np
import pytest

import soma
from soma import counting

RANDOM = np.random.default_rng(3)
NATURAL = Path(__file__).read_bytes()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "nano"
    soma.native.init(path, "nano", soma.seed_of(1))
    return soma.Model.from_file(path, threads=1)


@pytest.mark.parametrize(
    "data",
    [
        b"a",
        b"ab",
        b"a" * 1000,
        bytes(range(256)),
        NATURAL[:255],
        NATURAL[:256],
        NATURAL[:1500],
        RANDOM.bytes(700),
        bytes(RANDOM.choice(list(b"abc"), 700).tolist()),
    ],
)
def test_python_and_the_engine_count_alike_to_the_last_bit(model, data):
    score = model.score(data)
    assert score.counting_q32 == counting.counting_q32(data, 256)
    assert score.gain == score.gain_q32 / 2**32
    assert score.gain == pytest.approx(score.counting - score.cross_entropy, abs=1e-9)


def test_chunks_are_counted_separately():
    assert counting.counting_q32(b"abcd", 2) == counting.counting_q32(b"ab", 2)
    assert counting.counting_q32(b"abcd", 4) != counting.counting_q32(b"abcd", 5)


def test_nothing_is_not_counted():
    with pytest.raises(ValueError, match="empty"):
        counting.counting_q32(b"", 256)
