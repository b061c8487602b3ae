"""Twins and engine against the answers of the public implementation in float64."""

import numpy as np
import pytest

import soma
from soma import tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def relative_error(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def forward(twin, model, data):
    """Representations and logits of all chunks, `[positions, ...]` each."""
    outputs = []
    for tokens in tokenizer.chunks(data, model.architecture.positions):
        if twin.__name__ == "soma.torch":
            import torch

            with torch.no_grad():
                pair = model(torch.from_numpy(tokens[None]))
        else:
            pair = model(tokens[None])
        outputs.append([np.asarray(part)[0] for part in pair])
    return [np.concatenate(parts) for parts in zip(*outputs, strict=True)]


def test_a_twin_gives_the_public_representations_logits_and_losses(twin, vector):
    model = twin.Model.from_file(vector.weights, vector.arch)
    representations, logits = forward(twin, model, vector.data)
    assert relative_error(representations, vector.expected["representations"]) < 1e-4
    assert relative_error(logits, vector.expected["logits"]) < 1e-4
    score = model.score(vector.data)
    assert score.cross_entropy == pytest.approx(vector.expected["cross_entropy"][0], abs=1e-5)
    mean = vector.expected["embedding_mean"]
    assert np.abs(score.embedding - mean / np.linalg.norm(mean)).max() < 1e-5


def test_a_twin_gives_the_defined_sigreg_for_the_same_directions(twin, vector):
    architecture = soma.Architecture.of(vector.arch)
    noise = vector.expected["noise"]
    directions = noise / np.linalg.norm(noise, axis=0)
    rows = vector.expected["representations"]
    lengths = [len(t) for t in tokenizer.chunks(vector.data, architecture.positions)]
    chunks = np.split(rows, np.cumsum(lengths)[:-1])
    if twin.__name__ == "soma.torch":
        from torch import from_numpy as array

        from soma.torch.loss import sigreg
    else:
        from jax.numpy import asarray as array

        from soma.flax.loss import sigreg
    for chunk, expected in zip(chunks, vector.expected["sigreg_per_chunk"], strict=True):
        found = sigreg(architecture, array(chunk), array(directions), cap=1 << 30)
        assert float(found) == pytest.approx(expected, rel=1e-5)


def test_the_engine_gives_the_public_cross_entropy_and_embedding(vector):
    score = soma.Model.from_file(vector.weights, vector.arch, threads=1).score(vector.data)
    assert score.cross_entropy == pytest.approx(vector.expected["cross_entropy"][0], abs=1e-5)
    mean = vector.expected["embedding_mean"]
    assert np.abs(score.embedding - 32767 * mean / np.linalg.norm(mean)).max() < 1
    assert score.embedding.dtype == np.int16
    assert score.loss_q32 == round(score.loss * 2**32)
    assert score.gain_q32 == score.counting_q32 - round(score.cross_entropy * 2**32)
    assert len(score.trace) == 32
