"""What the guides show works as it stands there."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import soma

ROOT = Path(__file__).resolve().parents[2]


def blocks(page, language):
    """The code blocks of a page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where someone who follows a guide stands: a little text in `docs`."""
    (tmp_path / "docs").mkdir()
    for page in ("STYLE.md", "ARCHITECTURE.md"):
        shutil.copy(ROOT / page, tmp_path / "docs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(code):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_training_guides_loop_trains_and_its_model_scores_as_the_engine_says(folder):
    pytest.importorskip("torch")
    printed = run("\n".join(blocks("docs/guides/train-with-pytorch-or-jax.md", "python")))
    assert abs(float(printed.split()[-1])) < 1e-4
    assert soma.Model.from_file(folder / "mine.safetensors").architecture == soma.NANO


def test_the_distillation_guide_makes_a_student(folder):
    pytest.importorskip("torch")
    soma.native.init(folder / "start", soma.NANO, soma.seed_of(9))
    recipe = soma.Recipe(steps=20, batch=4, warmup=5)
    trainer = soma.Trainer(folder / "start", soma.Corpus.read(["docs"]), recipe, soma.NANO)
    for _ in range(recipe.steps):
        trainer.step()
    trainer.save(folder / "teacher.safetensors")
    printed = run("\n".join(blocks("docs/guides/distil.md", "python")))
    divergences = [float(line.split()[2]) for line in printed.splitlines()[:10]]
    assert divergences[-1] < divergences[0]
    assert soma.Model.from_file(folder / "student.safetensors").architecture == soma.NANO


def test_the_readmes_examples_run(folder):
    assert "(128,)" in run("\n".join(blocks("python/README.md", "python")))


@pytest.mark.parametrize("twin", ["torch", "flax"], indirect=True)
def test_every_option_in_the_guides_is_one_of_the_scripts(twin):
    done = subprocess.run(
        [sys.executable, "-m", f"{twin.__name__}.train", "--help"], capture_output=True, text=True
    )
    for page in (ROOT / "docs" / "guides").glob("*.md"):
        for block in blocks(page.relative_to(ROOT), "sh"):
            for command in re.findall(rf"-m {twin.__name__}\.train(.*(?:\\\n.*)*)", block):
                for option in re.findall(r"(--[a-z-]+)", command):
                    assert option in done.stdout, (page.name, option)
