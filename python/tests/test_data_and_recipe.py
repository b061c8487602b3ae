"""The order of the data, the recipe, and the log of a run."""

import dataclasses
import json
import os

import numpy as np
import pytest

import soma
from soma import _native, data, track, training
from soma.tokenizer import EOS, NO_TARGET, PAD


def corpus(*documents):
    made = soma.Corpus()
    for document in documents:
        made.push(document)
    return made


def test_an_epoch_shows_every_byte_once_and_every_target_is_the_next_byte():
    made = corpus(bytes(range(251)))
    order = data.Order(made, b"\x07" * 32, 16)
    seen = []
    while order.position[0] == 0:
        tokens, targets = (part[0] for part in order.micro_batch(1))
        if order.position[0] == 0:
            for token, target in zip(tokens, targets, strict=True):
                following = EOS if token == 250 else token + 1
                assert target in (following, NO_TARGET)
                if target == NO_TARGET:
                    assert token in (PAD, EOS, 250)
            seen += [token for token in tokens if token < 256]
    assert sorted(seen) == list(range(251))


def test_the_order_continues_from_any_position_and_changes_with_the_seed():
    made = corpus(bytes(i % 256 for i in range(1000)), b"short")

    def draw(seed, position, count):
        order = data.Order(made, bytes([seed] * 32), 32, position)
        return np.concatenate([order.micro_batch(1)[0] for _ in range(count)]), order.position

    whole, _ = draw(1, (0, 0), 100)
    first, position = draw(1, (0, 0), 41)
    rest, _ = draw(1, position, 59)
    assert np.array_equal(whole, np.concatenate([first, rest]))
    assert not np.array_equal(whole, draw(2, (0, 0), 100)[0])


def test_the_last_tenth_rounded_up_is_held_out_across_documents():
    everything = bytes(range(105))
    kept, held_out = corpus(everything[:90], everything[90:96], everything[96:]).hold_out()
    assert (len(kept), len(held_out)) == (94, 11)
    assert held_out.documents[0].tobytes() == everything[94:96]
    assert kept.ends == [True, False], "a cut document must not teach EOS at the cut"


def test_hidden_files_are_skipped_and_folders_are_read_in_order(tmp_path):
    for name, content in (("b", b"2"), ("a/c", b"1"), (".git/x", b"no"), ("empty", b"")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    read = soma.Corpus.read([tmp_path])
    assert [document.tobytes() for document in read.documents] == [b"1", b"2"]


def test_links_are_followed_and_ignore_files_mean_nothing(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real/a").write_bytes(b"1")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/.ignore").write_text("*")
    for name, to in (("a", "../real/a"), ("folder", "../real"), ("circle", ".")):
        (tmp_path / "data" / name).symlink_to(to)
    read = soma.Corpus.read(tmp_path / "data")
    assert [document.tobytes() for document in read.documents] == [b"1", b"1"]
    assert read.left_out == []


def test_what_cannot_be_read_is_left_out_and_the_rest_is_read(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "gone").symlink_to("nowhere")
    with (tmp_path / "vast").open("wb") as file:
        file.truncate(1 << 42)
    with pytest.warns(UserWarning) as told:
        read = soma.Corpus.read([tmp_path, "/dev/zero"])
    assert [document.tobytes() for document in read.documents] == [b"1"]
    assert sorted(path.name for path in read.left_out) == ["gone", "vast", "zero"]
    assert len(told) == 3
    for path, error in (("gone", FileNotFoundError), ("vast", MemoryError)):
        with pytest.warns(UserWarning), pytest.raises(error):
            soma.Corpus.read([tmp_path / path])
    with pytest.warns(UserWarning), pytest.raises(OSError, match="a device"):
        soma.Corpus.read(["/dev/zero"])


def test_names_that_are_not_text_are_data_too(tmp_path):
    path = os.fsencode(tmp_path) + b"/b\xff"
    try:
        with open(path, "wb") as file:
            file.write(b"2")
    except OSError:
        pytest.skip("names of this file system are Unicode")
    (tmp_path / "a").write_bytes(b"1")
    read = soma.Corpus.read([tmp_path])
    assert [document.tobytes() for document in read.documents] == [b"1", b"2"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_an_architecture_is_read_as_its_writer_sees_it(tmp_path, encoding):
    nano = soma.Architecture.of("nano")
    (tmp_path / "arch.json").write_text(nano.to_json(), encoding=encoding)
    assert soma.Architecture.of(tmp_path / "arch.json") == nano


def test_the_default_recipe_equals_the_engines_in_every_field():
    ours = dataclasses.asdict(soma.Recipe())
    assert {**ours, "seed": list(ours["seed"])} == json.loads(_native.default_recipe())


def test_a_log_of_json_lines_survives_resuming_and_truncation(tmp_path):
    path = tmp_path / "runs" / "log.jsonl"
    soma.track.init(path, config={"seed": b"\x01", "lr": np.float32(0.5)})
    soma.track.log({"loss": np.float64(2)}, step=1)
    soma.track.log({"loss": float("nan")})
    soma.track.finish()
    with track.Run(path, config={"ignored": "not new"}) as run:
        run.log({"loss": 1.5}, step=2)
    with path.open("a") as file:
        file.write('{"step": 3, "lo')
    with track.Run(path) as run:
        run.log({"loss": 1.0}, step=3)
    assert track.read(path)[-1]["loss"] == 1.0
    with path.open("a") as file:
        file.write('{"step": 4, "lo')
    whole = [line for line in path.read_text().splitlines() if line.endswith("}")]
    lines = [json.loads(line) for line in whole]
    assert lines[0] == {"schema": "run/1", "config": {"seed": "01", "lr": 0.5}}
    assert [line.get("loss") for line in lines[1:]] == [2.0, None, 1.5, 1.0]
    read = [(line["step"], line["loss"]) for line in track.read(path)]
    assert read == [(1, 2.0), (2, 1.5), (3, 1.0)]


def test_logging_before_init_is_an_error():
    with pytest.raises(RuntimeError, match="init"):
        soma.track.log({"loss": 1})


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ("--arch nano --data absent", "file_not_found"),
        ("--arch nano --data /dev/zero", "not_a_file"),
        ("--arch absent --data data", "file_not_found"),
        ("--arch data --data data", "usage"),
        ("--from data --data data", "usage"),
        ("--data data", "usage"),
        ("--arch nano --data void", "empty_data"),
        ("--arch nano --data data -o absent/w", "file_not_found"),
        ("--arch nano --data data --log .", "not_a_file"),
    ],
)
def test_a_training_script_says_in_one_line_what_is_wrong(options, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").write_text("neither weights nor an architecture")
    (tmp_path / "void").touch()
    args = training.parser("script").parse_args(options.split())
    with pytest.raises(SystemExit, match=rf"^error\[{code}\]: .*$"):
        training.Run.of(args)


def test_a_training_script_trains_on_what_can_be_read_and_says_what_it_left_out(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").write_text("some text")
    options = "--arch nano --data data absent --log log"
    run = training.Run.of(training.parser("script").parse_args(options.split()))
    assert len(run.corpus) + len(run.held_out) == 9
    assert "warning: absent is left out" in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"error\[left_out\]: 1 files or folders .* absent"):
        run.ended()
    for wrong in ("--steps 0", "--batch -1", "--checkpoint-every 0", "--seed -1"):
        with pytest.raises(SystemExit):
            training.parser("script").parse_args(["--data", "data", *wrong.split()])
