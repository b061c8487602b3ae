"""The three implementations, the files between them, and the public package."""

from pathlib import Path

import numpy as np
import pytest

import soma
from soma import weights

ARCHITECTURE = soma.Architecture(
    dim=48,
    heads=3,
    layers=2,
    ffn=80,
    vocabulary=264,
    positions=64,
    sigreg_slices=24,
    sigreg_points=17,
    sigreg_t_max=3.0,
)
TEXT = Path(__file__).read_bytes()[:1000]


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory):
    """A model of `ARCHITECTURE` whose every parameter matters: norms and biases are random too."""
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    random = np.random.default_rng(7)

    def tensor(name):
        shape = dict(ARCHITECTURE.tensors())[name]
        if name.endswith("gamma"):
            return random.uniform(0.5, 1.5, shape)
        return random.normal(0, 0.2 if name.endswith("weight") else 0.1, shape)

    weights.write(path, ARCHITECTURE, tensor)
    return path


@pytest.mark.parametrize("length", [1, 63, 64, 65, 1000])
def test_twins_and_engine_agree_within_1e_4_on_data_of_any_length(twin, weights_file, length):
    seed = bytes(range(length % 7, length % 7 + 32))
    engine = soma.Model.from_file(weights_file, threads=1).score(TEXT[:length], seed)
    score = twin.Model.from_file(weights_file).score(TEXT[:length], seed)
    assert score.loss == pytest.approx(engine.loss, abs=1e-4)
    assert score.cross_entropy == pytest.approx(engine.cross_entropy, abs=1e-4)
    assert score.sigreg == pytest.approx(engine.sigreg, rel=1e-4)
    assert np.abs(score.embedding * 32767 - engine.embedding).max() < 1
    assert score.counting == engine.counting == engine.counting_q32 / 2**32
    assert score.gain == pytest.approx(engine.gain, abs=1e-4)


def test_weights_below_2_to_the_minus_40_count_as_zero_everywhere(twin, weights_file, tmp_path):
    zero = {name: values.copy() for name, values in weights.Weights(weights_file).items()}
    zero["encoder.layers.0.norm_1.gamma"][:] = zero["encoder.layers.0.norm_1.beta"][:] = 0
    # With a gain of 5e-13 instead of zero, this would make ordinary numbers.
    zero["encoder.layers.0.attention.value.weight"][:] *= 1e12
    weights.write(tmp_path / "zero", ARCHITECTURE, zero.__getitem__)
    file = (tmp_path / "zero").read_bytes()
    at = 8 + int.from_bytes(file[:8], "little") + 4 * ARCHITECTURE.vocabulary * ARCHITECTURE.dim
    gains = np.full(ARCHITECTURE.dim, 5e-13, "<f4").tobytes()
    assert not any(file[at : at + len(gains)])
    (tmp_path / "small").write_bytes(file[:at] + gains + file[at + len(gains) :])
    expected = soma.Model.from_file(tmp_path / "zero", threads=1).score(TEXT)
    engine = soma.Model.from_file(tmp_path / "small", threads=1).score(TEXT)
    assert engine.loss_q32 == expected.loss_q32
    found = twin.Model.from_file(tmp_path / "small").score(TEXT)
    assert found.loss == pytest.approx(engine.loss, abs=1e-4)


def test_another_seed_gives_another_sigreg_and_the_same_cross_entropy(twin, weights_file):
    model = twin.Model.from_file(weights_file)
    first, second = model.score(TEXT, bytes(32)), model.score(TEXT, b"\x01" * 32)
    assert first.cross_entropy == second.cross_entropy
    assert first.sigreg != second.sigreg


def test_one_seed_gives_one_file_with_every_implementation(twin, tmp_path):
    seed = soma.seed_of(3)
    soma.native.init(tmp_path / "engine", ARCHITECTURE, seed)
    twin.Model.init(ARCHITECTURE, seed).save(tmp_path / "twin")
    assert (tmp_path / "engine").read_bytes() == (tmp_path / "twin").read_bytes()


def test_a_twin_saves_what_it_loaded(twin, weights_file, tmp_path):
    saved = tmp_path / "saved"
    twin.Model.from_file(weights_file).save(saved)
    assert saved.read_bytes() == weights_file.read_bytes()
    assert soma.Model.from_file(saved, threads=1).architecture == ARCHITECTURE


def test_files_are_interchangeable_with_the_public_package(twin, weights_file, tmp_path):
    public = pytest.importorskip("soma_models.v1.configs")
    config = public.ModelConfig(
        dropout_rate=0.0,
        embedding_dim=ARCHITECTURE.dim,
        pwff_hidden_dim=ARCHITECTURE.ffn,
        num_layers=ARCHITECTURE.layers,
        num_heads=ARCHITECTURE.heads,
    )
    if twin.__name__ == "soma.torch":
        from soma_models.v1.torch import Model

        model = Model.load(weights_file, config)
    else:
        from flax import nnx
        from soma_models.v1.flax import Model

        model = Model.load(weights_file, config, nnx.Rngs(0))
    model.save(tmp_path / "theirs")
    theirs, ours = (
        weights.Weights(path, ARCHITECTURE) for path in (tmp_path / "theirs", weights_file)
    )
    assert all(np.array_equal(theirs[name], ours[name]) for name in ours)
    assert soma.Model.from_file(tmp_path / "theirs", ARCHITECTURE, threads=1).score(TEXT)


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_every_implementation_widens_half_precision_exactly(twin, weights_file, tmp_path, dtype):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    kind = {"BF16": torch.bfloat16, "F16": torch.float16}[dtype]
    half = {name: values.to(kind) for name, values in load_file(weights_file).items()}
    save_file(half, tmp_path / "half")
    engine = soma.Model.from_file(tmp_path / "half", ARCHITECTURE, threads=1).score(TEXT)
    model = twin.Model.from_file(tmp_path / "half", ARCHITECTURE)
    assert model.score(TEXT).loss == pytest.approx(engine.loss, abs=1e-4)
    model.save(tmp_path / "wide")
    wide = load_file(tmp_path / "wide")
    assert all(torch.equal(wide[name], half[name].float()) for name in half)


def test_a_model_without_a_finite_score_is_an_error_everywhere(twin, weights_file, tmp_path):
    file = weights.Weights(weights_file)
    broken = {name: values.copy() for name, values in file.items()}
    broken["predictor.weight"][:] = 3e38
    weights.write(tmp_path / "broken", ARCHITECTURE, broken.__getitem__)
    with pytest.raises(soma.NonFinite):
        twin.Model.from_file(tmp_path / "broken").score(TEXT)
    with pytest.raises(soma.NonFinite):
        soma.Model.from_file(tmp_path / "broken", threads=1).score(TEXT)


def test_a_zero_embedding_is_an_error_everywhere(twin, weights_file, tmp_path):
    zero = {name: values.copy() for name, values in weights.Weights(weights_file).items()}
    zero["final_norm.gamma"][:] = zero["final_norm.beta"][:] = 0
    weights.write(tmp_path / "zero", ARCHITECTURE, zero.__getitem__)
    with pytest.raises(soma.ZeroEmbedding):
        twin.Model.from_file(tmp_path / "zero").score(TEXT)
    with pytest.raises(soma.ZeroEmbedding):
        soma.Model.from_file(tmp_path / "zero", threads=1).score(TEXT)


def test_every_implementation_rejects_empty_data_and_seeds_of_the_wrong_length(twin, weights_file):
    for model in twin.Model.from_file(weights_file), soma.Model.from_file(weights_file, threads=1):
        with pytest.raises(ValueError, match=r"empty|nothing"):
            model.score(b"")
        with pytest.raises(ValueError, match="32 bytes"):
            model.score(TEXT, b"short")
