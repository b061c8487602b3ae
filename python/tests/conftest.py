"""Golden vectors, and the frameworks where they are installed."""

import importlib
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

VECTORS = Path(__file__).resolve().parents[2] / "vectors"


@pytest.fixture(params=["tiny_text", "tiny_binary", "tiny_one_byte"])
def vector(request):
    """One golden folder: its architecture, weights file, data and expected float64 tensors."""
    from safetensors.numpy import load_file

    folder = VECTORS / request.param
    return SimpleNamespace(
        name=request.param,
        arch=folder / "config.json",
        config=json.loads((folder / "config.json").read_text()),
        weights=folder / "weights.safetensors",
        data=(folder / "data.bin").read_bytes(),
        expected=load_file(folder / "expected.safetensors"),
    )


@pytest.fixture(params=["torch", "flax"])
def twin(request):
    """`soma.torch` and `soma.flax`, each skipped where its framework is not installed."""
    needs = {"torch": "torch", "flax": "flax"}[request.param]
    if importlib.util.find_spec(needs) is None:
        pytest.skip(f"{needs} is not installed")
    return importlib.import_module(f"soma.{request.param}")
