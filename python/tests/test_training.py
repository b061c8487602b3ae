"""Training of the twins: the engine's steps, gradients and files, alone and on several devices."""

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import soma
from soma import track, training

ARCHITECTURE = {
    "embedding_dim": 32,
    "num_heads": 2,
    "num_layers": 2,
    "pwff_hidden_dim": 64,
    "vocab_size": 264,
    "max_seq_len": 64,
    "sig_reg_slices": 32,
    "sig_reg_points": 17,
    "sig_reg_t_max": 3.0,
}
TEXT = [path for path in sorted(Path(__file__).parent.glob("test_*.py")) if path.stat().st_size]


@pytest.fixture
def script(twin, tmp_path):
    """Runs a twin's training script in this process; gives the log's steps and the result."""
    (tmp_path / "arch.json").write_text(json.dumps(ARCHITECTURE))
    (tmp_path / "data").mkdir()
    for path in TEXT[:3]:
        (tmp_path / "data" / path.name).write_bytes(path.read_bytes()[:3000])
    module = importlib.import_module(f"{twin.__name__}.train")

    def run(*options, name="run"):
        common = ["--arch", tmp_path / "arch.json", "--data", tmp_path / "data", "--batch", 4]
        files = ["--log", tmp_path / f"{name}.jsonl", "-o", tmp_path / f"{name}.safetensors"]
        module.main([str(part) for part in (*common, "--warmup", 5, *files, *options)])
        return curve(tmp_path / f"{name}.jsonl")

    run.folder = tmp_path
    return run


def curve(log, name="loss"):
    return [line[name] for line in track.read(log) if name in line]


def test_a_script_takes_the_same_steps_as_the_engine(script):
    losses = script("--steps", 12, "--seed", 5)
    corpus, _ = soma.Corpus.read([script.folder / "data"]).hold_out()
    assert corpus.ends[-1] is False
    recipe = soma.Recipe(steps=12, batch=4, warmup=5, seed=soma.seed_of(5))
    corpus = soma.Corpus.read([script.folder / "data"])
    script("--steps", 12, "--seed", 5, "--val", script.folder / "data", name="whole")
    soma.native.init(script.folder / "start", ARCHITECTURE, recipe.seed)
    engine = soma.Trainer(script.folder / "start", corpus, recipe, ARCHITECTURE, threads=1)
    steps = [engine.step() for _ in range(12)]
    lines = [line for line in track.read(script.folder / "whole.jsonl") if "loss" in line]
    for step, line in zip(steps, lines, strict=True):
        for name in ("loss", "cross_entropy", "learning_rate"):
            assert line[name] == pytest.approx(getattr(step, name), abs=1e-3, rel=1e-5), name
        assert line["gradient_norm"] == pytest.approx(step.gradient_norm, rel=1e-3)
        assert line["sigreg"] == pytest.approx(step.sigreg, rel=1e-3)
    assert losses[0] > losses[-1]


def test_the_result_is_a_weights_file_with_the_engines_held_out_loss(script, capsys):
    script("--steps", 4)
    result = json.loads(capsys.readouterr().out)
    output = script.folder / "run.safetensors"
    model = soma.Model.from_file(output)
    assert result["weights_hash"] == model.weights_hash().hex()
    _, held_out = soma.Corpus.read([script.folder / "data"]).hold_out()
    value = training.cross_entropy(output, model.architecture, held_out)
    assert result["val_cross_entropy"] == value


def test_a_resumed_run_ends_like_an_uninterrupted_one(script):
    keep = ["--checkpoint", script.folder / "kept", "--checkpoint-every", 4, "--seed", 2]
    whole = script("--steps", 12, *keep, name="whole")
    newest = training.checkpoints(script.folder / "kept")[-1]
    (newest / training.PROGRESS).unlink()
    again = script("--steps", 12, *keep, "--resume", name="again")
    assert len(again) == 4, "it resumes at step 8"
    assert again == pytest.approx(whole[8:], abs=1e-6)


def test_a_checkpoint_of_another_run_is_rejected(script):
    keep = ["--checkpoint", script.folder / "kept", "--steps", 2]
    script(*keep)
    with pytest.raises(SystemExit, match="recipe differs"):
        script(*keep, "--resume", "--lr", "0.1")


def test_the_loss_of_a_step_is_the_mean_of_its_micro_batches(script):
    script("--steps", 2, "--lr", 0)
    script("--steps", 1, "--lr", 0, "--micro-batches", 2, name="both")
    first, second = curve(script.folder / "run.jsonl", "cross_entropy")
    [both] = curve(script.folder / "both.jsonl", "cross_entropy")
    assert both == pytest.approx((first + second) / 2, abs=1e-5) and first != second


def test_training_starts_from_a_weights_file(script):
    first = script("--steps", 30, "--lr", 0.01)
    weights = script.folder / "run.safetensors"
    second = script("--steps", 1, "--from", weights, name="second")
    assert second[0] < first[0] - 0.5


def test_bf16_and_dropout_train_and_stay_close(script):
    exact = script("--steps", 6, "--seed", 4)
    half = script("--steps", 6, "--seed", 4, "--precision", "bf16", name="half")
    assert half == pytest.approx(exact, abs=0.15) and half != exact
    dropped = script("--steps", 6, "--seed", 4, "--dropout", 0.2, name="dropped")
    again = script("--steps", 6, "--seed", 4, "--dropout", 0.2, name="again")
    assert dropped == again and dropped != exact


def command(*parts, **environment):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    parts = [str(part) for part in parts]
    done = subprocess.run(parts, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("twin", ["torch", "flax"], indirect=True)
def test_two_devices_follow_one_for_50_steps_and_resume(script, twin):
    folder = script.folder
    one = script("--steps", 50, "--seed", 3)
    if twin.__name__ == "soma.torch":
        launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", 2]
        launch += ["--master-port", 29500 + os.getpid() % 1000, "-m", "soma.torch.train"]
        environment = {}
    else:
        launch = [sys.executable, "-m", "soma.flax.train"]
        environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    options = ["--arch", folder / "arch.json", "--data", folder / "data", "--batch", 4]
    options += ["--warmup", 5, "--steps", 50, "--seed", 3]
    options += ["--checkpoint", folder / "kept", "--checkpoint-every", 40]
    command(
        *launch, *options, "--log-file", folder / "two.jsonl", "-o", folder / "two", **environment
    )
    two = curve(folder / "two.jsonl")
    assert len(two) == 50
    assert two == pytest.approx(one, abs=1e-3)
    newest = training.checkpoints(folder / "kept")[-1]
    (newest / training.PROGRESS).unlink()
    rest = ["--resume", "--log-file", folder / "rest.jsonl", "-o", folder / "rest"]
    command(*launch, *options, *rest, **environment)
    assert curve(folder / "rest.jsonl") == pytest.approx(two[40:], abs=1e-5)
    assert soma.Model.from_file(folder / "rest").architecture.dim == 32
    # One device resumes a checkpoint of two.
    (training.checkpoints(folder / "kept")[-1] / training.PROGRESS).unlink()
    kept = ["--checkpoint", folder / "kept", "--resume"]
    alone = script("--steps", 50, "--seed", 3, *kept, name="alone")
    assert alone == pytest.approx(two[40:], abs=1e-3)


def test_padding_is_ignored_and_both_twins_have_the_same_loss():
    pytest.importorskip("torch")
    pytest.importorskip("flax")
    import jax.numpy as jnp
    import torch

    import soma.flax
    import soma.torch

    corpus = soma.Corpus()
    for length in (200, 10, 64):
        corpus.push(bytes(range(length)))
    order = soma.data.Order(corpus, bytes(32), 64)
    tokens, targets = order.micro_batch(6)
    architecture = soma.Architecture.of(ARCHITECTURE)
    model = soma.torch.Model.init(architecture, bytes(32))
    directions = soma.torch.directions(architecture, bytes(32))
    loss = soma.torch.compute_loss(
        model, torch.from_numpy(tokens), torch.from_numpy(targets), directions
    )
    wide = [
        np.pad(part, ((0, 1), (0, 9)), constant_values=fill)
        for part, fill in ((tokens, soma.tokenizer.PAD), (targets, soma.tokenizer.NO_TARGET))
    ]
    wider = soma.torch.compute_loss(model, *map(torch.from_numpy, wide), directions)
    assert wider.loss.item() == pytest.approx(loss.loss.item(), rel=1e-6)
    flax = soma.flax.compute_loss(
        soma.flax.Model.init(architecture, bytes(32)),
        jnp.asarray(tokens),
        jnp.asarray(targets),
        soma.flax.directions(architecture, bytes(32)),
    )
    for ours, theirs in zip(loss, flax, strict=True):
        assert float(theirs) == pytest.approx(ours.item(), rel=1e-5)


def test_the_engines_gradients_equal_autograd_in_float64(tmp_path):
    torch = pytest.importorskip("torch")
    import soma.torch

    architecture = soma.Architecture.of({**ARCHITECTURE, "num_layers": 1})
    corpus = soma.Corpus()
    corpus.push(TEXT[0].read_bytes()[:150])
    # Without momentum and clipping, the first moment of the first step is the gradient.
    recipe = soma.Recipe(steps=10, batch=3, beta_1=0.0, clip=1e30, weight_decay=0.0)
    soma.native.init(tmp_path / "start", architecture, bytes(32))
    trainer = soma.Trainer(tmp_path / "start", corpus, recipe, architecture, threads=1)
    report = trainer.step()
    trainer.save_checkpoint(tmp_path / "checkpoint")
    model = soma.torch.Model.from_file(tmp_path / "start").double()
    tokens, targets = soma.data.Order(corpus, recipe.seed, architecture.positions).micro_batch(3)
    directions = soma.torch.directions(architecture, recipe.directions_seed(0, 0)).double()
    loss = soma.torch.compute_loss(
        model,
        torch.from_numpy(tokens),
        torch.from_numpy(targets),
        directions,
        coefficient=recipe.sigreg_coefficient,
    )
    assert report.loss == pytest.approx(loss.loss.item(), abs=1e-5)
    loss.loss.backward()
    gradients = {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}
    first_moments = moments(tmp_path / "checkpoint", architecture)
    total = np.sqrt(sum((gradient**2).sum() for gradient in gradients.values()))
    for name, expected in gradients.items():
        difference = np.linalg.norm(first_moments[name] - expected)
        if name.endswith("key.bias"):
            # Softmax does not see it: the gradient is zero, and what is there is rounding.
            assert difference < 1e-7 * total, name
        else:
            assert difference < 1e-5 * np.linalg.norm(expected), name


def moments(checkpoint, architecture):
    """The first moments in a checkpoint of the engine, by name."""
    content = checkpoint.read_bytes()[:-32]
    start = content.index(b"\n") + 1
    length = int.from_bytes(content[start : start + 8], "little")
    lists = np.frombuffer(content[start + 8 + length :], "<f4").reshape(3, -1)
    found, at = {}, 0
    for name, shape in architecture.tensors():
        size = int(np.prod(shape))
        found[name] = lists[1, at : at + size].reshape(shape).astype(np.float64)
        at += size
    return found


def test_the_torch_loss_compiles_into_one_graph_with_the_same_gradients(tmp_path):
    torch = pytest.importorskip("torch")
    import soma.torch

    architecture = soma.Architecture.of({**ARCHITECTURE, "num_layers": 1})
    corpus = soma.Corpus()
    corpus.push(bytes(range(100)))
    order = soma.data.Order(corpus, bytes(32), architecture.positions)
    batch = [torch.from_numpy(part) for part in order.micro_batch(2)]
    model = soma.torch.Model.init(architecture, bytes(32))
    directions = soma.torch.directions(architecture, bytes(32))

    def loss(tokens, targets):
        return soma.torch.compute_loss(model, tokens, targets, directions).loss

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    parameters = list(model.parameters())
    plain, traced = (torch.autograd.grad(f(*batch), parameters) for f in (loss, compiled))
    for expected, found in zip(plain, traced, strict=True):
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6)
