"""Importing the package does not load what the caller does not use."""

import subprocess
import sys


def test_importing_soma_imports_neither_torch_nor_jax():
    code = "import sys, soma; print(sorted({'torch', 'jax', 'flax', 'tqdm'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_exists():
    import soma

    assert all(hasattr(soma, name) for name in soma.__all__)
