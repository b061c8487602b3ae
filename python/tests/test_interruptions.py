"""What happens to long work: files that change, processes that fork, people who press Ctrl-C."""

import copy
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import soma
from soma import weights
from soma.architecture import NANO

DATA = b"the quick brown fox jumps over the lazy dog; " * 20
RECIPE = soma.Recipe(steps=6, batch=1)


@pytest.fixture
def path(tmp_path):
    soma.native.init(tmp_path / "weights", "nano", soma.seed_of(1))
    return tmp_path / "weights"


@pytest.fixture
def trainer(path):
    def make(recipe=RECIPE):
        corpus = soma.Corpus()
        corpus.push(DATA)
        return soma.Trainer(path, corpus, recipe, "nano", threads=1), corpus

    return make


def test_what_happens_to_the_file_of_a_model_changes_no_score(path, tmp_path):
    model = soma.Model.from_file(path, threads=1)
    expected = model.score(DATA).loss_q32
    soma.native.init(tmp_path / "other", "nano", soma.seed_of(2))
    path.write_bytes((tmp_path / "other").read_bytes())
    assert model.score(DATA).loss_q32 == expected
    os.truncate(path, 100)
    assert model.score(DATA).loss_q32 == expected


def test_a_file_that_changes_while_a_twin_reads_it_is_an_error(path):
    file = weights.Weights(path)
    assert np.isfinite(file["embedding.weight"]).all()
    os.truncate(path, 5000)
    with pytest.raises(soma.WeightsError, match="changed"):
        dict(file)


def test_a_forked_process_scores_and_opens_as_its_parent_does(path):
    model = soma.Model.from_file(path)
    expected = model.score(DATA).loss_q32
    context = multiprocessing.get_context("fork")
    queue = context.Queue()

    def child():
        queue.put(model.score(DATA).loss_q32)
        queue.put(soma.Model.from_file(path).score(DATA).loss_q32)

    process = context.Process(target=child)
    process.start()
    assert [queue.get(timeout=60), queue.get(timeout=60)] == [expected] * 2
    process.join(20)
    assert process.exitcode == 0


def test_a_trainer_says_in_a_forked_process_that_it_belongs_to_the_other(trainer):
    run, _ = trainer()
    run.step()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()

    def child():
        try:
            run.step()
        except RuntimeError as error:
            queue.put(str(error))

    process = context.Process(target=child)
    process.start()
    assert "forked" in queue.get(timeout=60)
    process.join(20)


@pytest.mark.parametrize(
    "work",
    [
        "model.score(bytes(range(256)) * 100_000)",
        "trainer.step()",
    ],
)
def test_ctrl_c_ends_long_work_soon(path, work):
    code = f"""
        import signal, sys, soma
        signal.signal(signal.SIGINT, signal.default_int_handler)
        model = soma.Model.from_file({str(path)!r}, threads=1)
        corpus = soma.Corpus(); corpus.push(bytes(range(256)) * 10_000)
        recipe = soma.Recipe(batch=4, micro_batches=4096)
        trainer = soma.Trainer({str(path)!r}, corpus, recipe, "nano", threads=1)
        print("begun", flush=True)
        {work}
    """
    if "trainer" not in work:
        code = "\n".join(line for line in code.splitlines() if "soma.Trainer" not in line)
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    _, said = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in said and process.returncode != 0
    # More than promised, because this machine may be busy; the work itself takes minutes.
    assert time.monotonic() - begun < 10


def test_a_step_that_ctrl_c_ends_leaves_the_run_as_it_was(trainer):
    # A step of so many micro-batches takes longer than the signal.
    recipe = soma.Recipe(steps=2, batch=1, micro_batches=32)
    whole, _ = trainer(recipe)
    run, _ = trainer(recipe)
    for _ in range(recipe.steps):
        whole.step()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            threading.Timer(0.05, signal.raise_signal, [signal.SIGINT]).start()
            run.step()
    finally:
        signal.signal(signal.SIGINT, before)
    assert run.steps_done == 0
    while run.steps_done < recipe.steps:
        run.step()
    assert _saved(run) == _saved(whole)


def _saved(run):
    with tempfile.TemporaryDirectory() as folder:
        run.save(f"{folder}/weights")
        return soma.Model.from_file(f"{folder}/weights").weights_hash()


def test_a_checkpoint_continues_the_run_and_can_prolong_it(trainer, tmp_path):
    whole, corpus = trainer()
    for _ in range(6):
        whole.step()
    first, _ = trainer()
    for _ in range(2):
        first.step()
    first.save_checkpoint(tmp_path / "checkpoint")
    second = soma.Trainer.resume(tmp_path / "checkpoint", corpus, threads=1)
    assert (second.steps_done, second.recipe, second.architecture) == (2, first.recipe, NANO)
    while second.steps_done < second.recipe.steps:
        second.step()
    assert _saved(second) == _saved(whole)
    longer = soma.Trainer.resume(tmp_path / "checkpoint", corpus, steps=9, learning_rate=1e-4)
    assert (longer.recipe.steps, longer.recipe.learning_rate) == (9, 1e-4)
    other = soma.Corpus()
    other.push(b"something else")
    for wrong in (
        lambda: soma.Trainer.resume(tmp_path / "checkpoint", other),
        lambda: soma.Trainer.resume(tmp_path / "checkpoint", corpus, steps=1),
        lambda: soma.Trainer.resume(tmp_path / "checkpoint", corpus, steps=-1),
    ):
        with pytest.raises(ValueError):
            wrong()
    with pytest.raises(FileNotFoundError):
        soma.Trainer.resume(tmp_path / "missing", corpus)
    with pytest.raises(TypeError, match="checkpoint"):
        pickle.dumps(first)


def test_a_corpus_that_was_split_trains_as_in_the_command(trainer, path):
    _, corpus = trainer()
    kept, _ = corpus.hold_out()
    soma.Trainer(path, kept, soma.Recipe(steps=1, batch=1), "nano", threads=1).step()
    nothing = soma.Corpus()
    nothing.push(b"ab")
    with pytest.raises(ValueError, match="predict"):
        soma.Trainer(path, nothing.hold_out()[0], soma.Recipe(steps=1), "nano")


def test_a_pickled_model_is_the_same_model_or_an_error(path):
    model = soma.Model.from_file(path, threads=1)
    expected = model.score(DATA).loss_q32
    pickled = pickle.dumps(model)
    assert len(pickled) < 2000, "it holds the path, not the weights"
    for again in (pickle.loads(pickled), copy.deepcopy(model), copy.copy(model)):
        assert again.score(DATA).loss_q32 == expected
    soma.native.init(path, "nano", soma.seed_of(3))
    with pytest.raises(soma.WeightsError, match="no longer"):
        pickle.loads(pickled)


@pytest.mark.parametrize(
    ("call", "naming"),
    [
        (lambda _: soma.seed_of(-1), "whole number"),
        (lambda _: soma.seed_of("7"), "whole number"),
        (lambda _: soma.seed_of(1 << 64), "whole number"),
        (lambda _: soma.seed_of(True), "whole number"),
        (lambda path: soma.Model.from_file(path, threads=-1), "threads"),
        (lambda path: soma.Model.from_file(path, threads=10**9), "threads"),
        (lambda path: soma.Model.from_file(path, threads="2"), "threads"),
        (lambda path: soma.Model.from_file(path).score(DATA, 7), "32 bytes"),
        (lambda path: soma.Model.from_file(path).score(DATA, b"short"), "32 bytes"),
        (lambda path: soma.Model.from_file(path).score(b""), "empty"),
        (lambda path: soma.native.init(path, "nano", 7), "32 bytes"),
    ],
)
def test_a_wrong_argument_is_a_value_error_that_says_what_is_right(path, call, naming):
    with pytest.raises(ValueError, match=naming):
        call(path)


def test_an_output_never_replaces_a_link_or_a_pipe(path, tmp_path):
    values = weights.Weights(path)
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    weights.write(tmp_path / "link", NANO, values.__getitem__)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == path.read_bytes()
    os.mkfifo(tmp_path / "pipe")
    weights.check_output(tmp_path / "pipe")
    for write in (
        lambda to: weights.write(to, NANO, values.__getitem__),
        lambda to: soma.native.init(to, "nano", soma.seed_of(1)),
    ):
        with ThreadPoolExecutor() as pool:
            read = pool.submit((tmp_path / "pipe").read_bytes)
            write(tmp_path / "pipe")
            assert read.result(timeout=60) == path.read_bytes()
        assert (tmp_path / "pipe").is_fifo()
    with pytest.raises(IsADirectoryError):
        weights.check_output(tmp_path)
    with pytest.raises(FileNotFoundError):
        weights.check_output(tmp_path / "missing" / "weights")


@pytest.mark.parametrize("read", [soma.Model.from_file, weights.Weights])
def test_a_file_of_another_kind_is_told(read, tmp_path):
    for content, words in [
        (b"<!DOCTYPE html><title>403</title>", "HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b'{"error":"Repository not found"}', "JSON"),
        (b"PK\x03\x04 and so on", "torch.save"),
    ]:
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(soma.WeightsError, match=words):
            read(tmp_path / "file", "nano")
    with pytest.raises(IsADirectoryError):
        read(tmp_path, "nano")
