"""A file that is not exactly what the architecture asks for is refused, by engine and twins."""

import json

import numpy as np
import pytest

import soma
from soma import weights
from soma.architecture import NANO

ARCHITECTURE = {
    "embedding_dim": 8,
    "num_heads": 2,
    "num_layers": 1,
    "pwff_hidden_dim": 12,
    "vocab_size": 264,
    "max_seq_len": 16,
    "sig_reg_slices": 4,
    "sig_reg_points": 5,
    "sig_reg_t_max": 3.0,
}


@pytest.fixture
def parts(tmp_path):
    """Header and data of a good file."""
    soma.native.init(tmp_path / "good", ARCHITECTURE, bytes(32))
    file = (tmp_path / "good").read_bytes()
    length = int.from_bytes(file[:8], "little")
    return json.loads(file[8 : 8 + length]), bytearray(file[8 + length :])


def padded(text):
    return text + b" " * (-len(text) % 8)


def refuse(path, header, data, naming, raw=None):
    """Both readers must refuse the file and name the fault."""
    text = padded(json.dumps(header).encode()) if raw is None else raw
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(data))
    with pytest.raises(soma.WeightsError, match=naming):
        soma.Model.from_file(path, ARCHITECTURE)
    with pytest.raises(soma.WeightsError, match=naming):
        dict(weights.Weights(path, ARCHITECTURE))


def test_a_missing_tensor_is_named(parts, tmp_path):
    header, data = parts
    del header["predictor.bias"]
    refuse(tmp_path / "bad", header, data, "predictor.bias")


def test_an_extra_tensor_is_named(parts, tmp_path):
    header, data = parts
    header["surplus"] = {"dtype": "F32", "shape": [0], "data_offsets": [len(data)] * 2}
    refuse(tmp_path / "bad", header, data, "surplus")


def test_a_tensor_of_another_shape_is_named(parts, tmp_path):
    header, data = parts
    header["final_norm.beta"]["shape"] = [4, 2]
    refuse(tmp_path / "bad", header, data, "final_norm.beta")


def test_a_duplicate_tensor_is_named(parts, tmp_path):
    header, data = parts
    entry = json.dumps(header["predictor.bias"])
    text = json.dumps(header)[:-1] + f', "predictor.bias": {entry}}}'
    refuse(tmp_path / "bad", header, data, "predictor.bias", padded(text.encode()))


def test_a_key_of_the_header_that_is_there_twice_is_refused(parts, tmp_path):
    header, data = parts
    metadata = json.dumps(header["__metadata__"])
    text = json.dumps(header)
    twice = f'{{"__metadata__": {metadata}, ' + text[1:]
    refuse(tmp_path / "bad", header, data, "__metadata__", padded(twice.encode()))
    key = text.replace('"format"', '"format": "pt", "format"', 1)
    refuse(tmp_path / "bad", header, data, "format", padded(key.encode()))


@pytest.mark.parametrize(
    ("name", "extra"),
    [("_orig_mod.NAME", "torch.compile"), ("module.NAME", "Parallel"), ("net.NAME", "net.")],
)
def test_names_that_a_wrapper_changed_are_told_with_the_wrapper(parts, tmp_path, name, extra):
    header, data = parts
    changed = {
        key if key == "__metadata__" else name.replace("NAME", key): entry
        for key, entry in header.items()
    }
    refuse(tmp_path / "bad", changed, data, extra)


@pytest.mark.parametrize("shift", [1, 2, 3])
def test_a_tensor_that_is_not_aligned_is_named(parts, tmp_path, shift):
    header, data = parts
    text = padded(json.dumps(header).encode()) + b" " * shift
    refuse(tmp_path / "bad", header, data, "embedding.weight", text)


def test_small_numbers_are_read_and_written_as_zero(parts, tmp_path):
    header, data = parts
    begin, _ = header["final_norm.gamma"]["data_offsets"]
    edge = np.float32(2.0**-40)
    small = [np.nextafter(edge, np.float32(0)), edge, -edge, np.float32(1e-44), np.float32(-0.0)]
    data[begin : begin + 20] = np.array(small, "<f4").tobytes()
    text = padded(json.dumps(header).encode())
    path = tmp_path / "small"
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    values = weights.Weights(path, ARCHITECTURE)["final_norm.gamma"][:5]
    expected = np.array([0, edge, -edge, 0, 0], np.float32)
    assert values.tobytes() == expected.tobytes()
    file = dict(weights.Weights(path, ARCHITECTURE))
    file["final_norm.gamma"][:5] = small
    weights.write(tmp_path / "written", ARCHITECTURE, file.__getitem__)
    assert expected.tobytes() in (tmp_path / "written").read_bytes()
    soma.Model.from_file(tmp_path / "written", threads=1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_named(parts, tmp_path, value):
    header, data = parts
    begin, _ = header["final_norm.gamma"]["data_offsets"]
    data[begin + 4 : begin + 8] = np.float32(value).tobytes()
    refuse(tmp_path / "bad", header, data, "final_norm.gamma")


def test_a_truncated_or_overlong_file_is_rejected(parts, tmp_path):
    header, data = parts
    refuse(tmp_path / "bad", header, data[:-4], "predictor.bias|end")
    refuse(tmp_path / "bad", header, data + b"more", "end|byte")


def test_a_header_beyond_its_limit_is_rejected(parts, tmp_path):
    _, data = parts
    refuse(tmp_path / "bad", None, data, "header", b" " * ((1 << 20) + 1))


@pytest.mark.parametrize("content", [b"", b"1234567", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0[]"])
def test_a_file_that_is_not_safetensors_is_rejected(tmp_path, content):
    (tmp_path / "bad").write_bytes(content)
    for read in soma.Model.from_file, weights.Weights:
        with pytest.raises(soma.WeightsError):
            read(tmp_path / "bad", ARCHITECTURE)


def test_a_file_without_an_architecture_requires_one(parts, tmp_path):
    header, data = parts
    del header["__metadata__"]
    refuse_without = padded(json.dumps(header).encode())
    path = tmp_path / "silent"
    path.write_bytes(len(refuse_without).to_bytes(8, "little") + refuse_without + data)
    for read in soma.Model.from_file, weights.Weights:
        with pytest.raises(soma.WeightsError, match="architecture"):
            read(path)
        assert read(path, ARCHITECTURE)


def test_an_unreadable_file_is_an_os_error(tmp_path):
    for read in soma.Model.from_file, weights.Weights:
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "nowhere", "nano")


def test_the_presets_have_the_documented_number_of_parameters():
    assert soma.V1.parameters == 1_209_684_232
    assert 850_000 < NANO.parameters < 870_000


@pytest.mark.parametrize(
    ("change", "naming"),
    [
        ({"num_heads": 3}, "num_heads"),
        ({"max_seq_len": 1}, "max_seq_len"),
        ({"num_layers": "1"}, "num_layers"),
        ({"sig_reg_t_max": 0}, "sig_reg_t_max"),
        ({"surplus": 1}, "surplus"),
    ],
)
def test_an_architecture_out_of_bounds_is_rejected_and_the_field_named(change, naming):
    with pytest.raises(ValueError, match=naming):
        soma.Architecture.of({**ARCHITECTURE, **change})


def test_an_architecture_survives_a_json_round_trip():
    architecture = soma.Architecture.of({**ARCHITECTURE, "sig_reg_cap": 32})
    assert soma.Architecture.from_json(architecture.to_json()) == architecture
