"""Golden vectors, and the frameworks where they are installed."""

import importlib
import importlib.util
import json
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

# Most of the time of these tests would go into compiling the same small programs again and again.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{tempfile.gettempdir()}/soma-jax-cache")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

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
