"""The framework-independent part of the training scripts: arguments, data, checkpoints, log, and
evaluation with the native engine.

It must never import torch or jax.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from soma import native, tokenizer, track
from soma.architecture import Architecture
from soma.data import Corpus, DataPosition, Order
from soma.recipe import Recipe
from soma.sigreg import seed_of
from soma.weights import Weights

_RECENT_STEPS = 20
"""Number of last steps whose mean cross-entropy is reported."""
PROGRESS = "progress.json"
"""File beside the tensors of a checkpoint: step, position in the data, and identity of the run."""


def parser(program: str) -> argparse.ArgumentParser:
    """The command line of `python -m <program>`, with the options of `soma train`."""
    default = Recipe()
    parser = argparse.ArgumentParser(
        prog=f"python -m {program}",
        description="Train a byte model; the result is a weights file that the network accepts.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--arch", help="nano, v1 or a JSON file; by default that of the file given by --from")
    add("--data", nargs="+", required=True, metavar="PATH", help="files and folders to train on")
    add("--val", nargs="+", metavar="PATH", help="held-out data (default: last tenth of the bytes)")
    add("--steps", type=int, default=default.steps, help="optimizer steps")
    add(
        "--batch",
        type=int,
        default=default.batch,
        help="windows per micro-batch, over all devices",
    )
    add("--micro-batches", type=int, default=default.micro_batches, help="micro-batches per step")
    add("--lr", type=float, default=default.learning_rate, help="peak learning rate")
    add("--warmup", type=int, default=default.warmup, help="steps of the warm-up")
    add("--weight-decay", type=float, default=default.weight_decay, help="decay of the matrices")
    add("--clip", type=float, default=default.clip, help="maximum norm of the gradient")
    add("--dropout", type=float, default=0.0, help="dropout of the residual branches")
    add("--seed", type=seed, default="0", help="64 hex digits, or an integer")
    add("--from", dest="start", metavar="WEIGHTS", help="start from these weights")
    add("--precision", choices=["f32", "bf16"], help="of the activations; bf16 on a GPU by default")
    add("--checkpoint", metavar="DIR", help="folder for checkpoints; the newest two are kept")
    add("--checkpoint-every", type=int, default=500, metavar="N", help="steps between checkpoints")
    add("--resume", action="store_true", help="resume from the newest checkpoint, if any")
    add(
        "--eval-every",
        type=int,
        metavar="N",
        help="also score held-out data every N steps",
    )
    # torchrun reads --log as an abbreviation of its own options.
    add("--log", "--log-file", metavar="FILE", help="append one JSON object per step to this file")
    add(
        "-o",
        "--output",
        metavar="FILE",
        default="weights.safetensors",
        help="weights file to write",
    )
    return parser


def seed(text: str) -> bytes:
    """32 bytes from 64 hex digits or an integer."""
    return bytes.fromhex(text) if len(text) == 64 else seed_of(int(text))


@dataclass
class Run:
    """The framework-independent part of a training run."""

    args: argparse.Namespace
    architecture: Architecture
    recipe: Recipe
    corpus: Corpus
    held_out: Corpus

    @classmethod
    def of(cls, args: argparse.Namespace) -> Run:
        """Reads the data. Exits with a usage error if it is empty."""
        recipe = Recipe(
            steps=args.steps,
            batch=args.batch,
            micro_batches=args.micro_batches,
            learning_rate=args.lr,
            warmup=args.warmup,
            weight_decay=args.weight_decay,
            clip=args.clip,
            seed=args.seed,
        )
        corpus = Corpus.read(args.data)
        corpus, held_out = (corpus, Corpus.read(args.val)) if args.val else corpus.hold_out()
        if not len(corpus):
            sys.exit("error[empty_data]: the training data is empty")
        if args.arch:
            architecture = Architecture.of(args.arch)
        elif args.start:
            architecture = Weights(args.start).architecture
        else:
            sys.exit("error[usage]: specify an architecture with --arch, or weights with --from")
        return cls(args, architecture, recipe, corpus, held_out)

    def order(self, position: DataPosition = (0, 0)) -> Order:
        """The windows of the data, starting at `position`."""
        return Order(self.corpus, self.recipe.seed, self.architecture.positions, position)

    def start_weights(self, folder: str) -> str:
        """The weights file to start from; without --from, a random one is written to `folder`."""
        if self.args.start:
            return self.args.start
        path = os.path.join(folder, "start.safetensors")
        native.init(path, self.architecture, self.recipe.seed)
        return path

    def identity(self) -> dict:
        """The values that a checkpoint must match to be resumed."""
        recipe = {**asdict(self.recipe), "seed": self.recipe.seed.hex()}
        return {"architecture": self.architecture.to_json(), "recipe": recipe}

    def begin_checkpoint(self, step: int) -> Path:
        """The folder of a new checkpoint, emptied of what an interrupted one left."""
        folder = Path(self.args.checkpoint).absolute() / f"step-{step}"
        shutil.rmtree(folder, ignore_errors=True)
        return folder

    def complete_checkpoint(
        self, folder: Path, step: int, position: DataPosition, keep: int = 2
    ) -> None:
        """Marks a checkpoint as complete and removes all but the newest `keep`."""
        progress = {**self.identity(), "step": step, "position": position}
        (folder / PROGRESS).write_text(json.dumps(progress))
        for old in checkpoints(self.args.checkpoint)[:-keep]:
            shutil.rmtree(old)

    def newest_checkpoint(self) -> tuple[Path, int, DataPosition] | None:
        """Folder, completed steps and data position of the newest checkpoint, if any.

        Exits with an error if it belongs to another run.
        """
        folders = checkpoints(self.args.checkpoint) if self.args.resume else []
        if not folders:
            return None
        progress = json.loads((folders[-1] / PROGRESS).read_text())
        for key, value in self.identity().items():
            if progress[key] != value:
                sys.exit(
                    f"error[checkpoint]: {folders[-1]} belongs to another run: its {key} differs"
                )
        return folders[-1], progress["step"], tuple(progress["position"])


def cross_entropy(
    path: str | os.PathLike, architecture: Architecture, corpus: Corpus
) -> float | None:
    """Mean negative log likelihood, in nats, of all documents under a weights file, computed by the
    native engine; None if there is nothing to predict."""
    model = native.Model.from_file(path, architecture)
    nll = predicted = 0
    for document in corpus.documents:
        data = document.tobytes()
        count = sum(len(chunk) - 1 for chunk in tokenizer.chunks(data, architecture.positions))
        if count:
            nll += model.score(data).cross_entropy * count
            predicted += count
    return nll / predicted if predicted else None


def checkpoints(folder: str | os.PathLike | None) -> list[Path]:
    """Complete checkpoints, oldest first."""
    found = Path(folder).glob(f"step-*/{PROGRESS}") if folder else []
    return sorted((path.parent for path in found), key=lambda path: int(path.name[5:]))


class Reporter:
    """Progress bar, log and result; only the process with `reports` set prints."""

    def __init__(self, run: Run, reports: bool, done: int):
        from tqdm import tqdm

        args = run.args
        self._run, self._reports = run, reports
        self._bar = tqdm(
            total=run.recipe.steps, initial=done, unit="step", disable=None if reports else True
        )
        self._log = track.Run(args.log, run.identity()) if args.log and reports else None
        self._began, self._tokens = time.perf_counter(), 0
        self._recent: deque[float] = deque(maxlen=_RECENT_STEPS)

    def step(self, step: int, tokens: int, **values: float) -> None:
        """Records a step after `tokens` positions in this process, with `loss`, `cross_entropy`,
        `sigreg`, `gradient_norm` and `learning_rate`."""
        if self._log:
            self._log.log({**values, "tokens": tokens - self._tokens}, step)
        self._tokens = tokens
        self._recent.append(values["cross_entropy"])
        self._bar.update()
        self._bar.set_postfix(cross_entropy=f"{values['cross_entropy']:.3f}", refresh=False)

    def evaluated(self, step: int, value: float | None) -> None:
        """Records the held-out cross-entropy."""
        if self._log and value is not None:
            self._log.log({"val_cross_entropy": value}, step)
        if self._reports and value is not None:
            self._bar.write(f"step {step}: held-out cross-entropy {value:.4f}", file=sys.stderr)

    def finish(self, output: Path, value: float | None) -> None:
        """Prints the result in the format of `soma train --json`."""
        self._bar.close()
        if self._log:
            self._log.finish()
        if not self._reports:
            return
        seconds, recent = time.perf_counter() - self._began, self._recent
        result = {
            "schema": "train/1",
            "weights_hash": native.Model.from_file(output).weights_hash().hex(),
            "steps": self._run.recipe.steps,
            "cross_entropy": sum(recent) / len(recent) if recent else None,
            "val_cross_entropy": value,
            "seconds": round(seconds, 3),
            "tokens_per_second": round(self._tokens / seconds, 1),
        }
        print(json.dumps(result))


def micro_batches(run: Run, order: Order, rows: slice) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Tokens and targets of one step's micro-batches, restricted to `rows`. Every process draws all
    windows, so that the data does not depend on the number of processes."""
    for _ in range(run.recipe.micro_batches):
        tokens, targets = order.micro_batch(run.recipe.batch)
        yield tokens[rows], targets[rows]
