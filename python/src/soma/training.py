"""The framework-independent part of the training scripts: arguments, data, checkpoints, log, and
evaluation with the native engine.

It must never import torch or jax.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import shutil
import signal
import sys
import time
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from soma import native, tokenizer, track, weights
from soma.architecture import Architecture
from soma.codes import Code
from soma.data import Corpus, DataPosition, Order
from soma.recipe import Recipe
from soma.sigreg import seed_of
from soma.weights import Weights

_RECENT_STEPS = 20
"""Number of last steps whose mean cross-entropy is reported."""
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 60.0
"""Seconds until the first sign of life in the log of a job, and at most between two."""
_FILE_CODES = {
    errno.ENOENT: Code.FILE_NOT_FOUND,
    errno.EACCES: Code.FILE_PERMISSION,
    errno.EPERM: Code.FILE_PERMISSION,
    errno.EISDIR: Code.NOT_A_FILE,
    errno.EINVAL: Code.NOT_A_FILE,
    errno.ENOSPC: Code.DISK_FULL,
    errno.EDQUOT: Code.DISK_FULL,
}
"""What the commands call an error of a file, by its number."""
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
    add(
        "--steps",
        type=_count,
        default=default.steps,
        help="optimizer steps, with those of a resumed run: a larger number prolongs it",
    )
    add(
        "--batch",
        type=_count,
        default=default.batch,
        help="windows per micro-batch, over all devices",
    )
    add(
        "--micro-batches",
        type=_count,
        default=default.micro_batches,
        help="micro-batches per step",
    )
    add("--lr", type=float, default=default.learning_rate, help="peak learning rate")
    add("--warmup", type=int, default=default.warmup, help="steps of the warm-up")
    add("--weight-decay", type=float, default=default.weight_decay, help="decay of the matrices")
    add("--clip", type=float, default=default.clip, help="maximum norm of the gradient")
    add("--dropout", type=float, default=0.0, help="dropout of the residual branches")
    add("--seed", type=seed, default="0", help="64 hex digits, or an integer")
    add("--from", dest="start", metavar="WEIGHTS", help="start from these weights")
    add("--precision", choices=["f32", "bf16"], help="of the activations; bf16 on a GPU by default")
    add(
        "--checkpoint",
        metavar="DIR",
        help="folder for checkpoints, also of an interrupted run; the newest two are kept "
        "(default: OUTPUT.checkpoint, and only when a run is interrupted or diverges)",
    )
    add(
        "--checkpoint-every",
        type=_count,
        default=500,
        metavar="N",
        help="steps between checkpoints",
    )
    add("--resume", action="store_true", help="resume from the newest checkpoint, if any")
    add(
        "--eval-every",
        type=_count,
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


def _count(text: str) -> int:
    """A number that is at least 1."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


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
    left_out: list[Path] = field(default_factory=list)
    """Files and folders of the data that could not be used."""

    @classmethod
    def of(cls, args: argparse.Namespace) -> Run:
        """Tries the outputs and reads the data. Exits with an error if an output cannot be written,
        if there is nothing to learn, or if an argument is wrong."""
        with _told("cannot write an output"):
            weights.check_output(args.output)
            if args.checkpoint:
                Path(args.checkpoint).mkdir(parents=True, exist_ok=True)
                weights.check_output(Path(args.checkpoint) / PROGRESS)
            if args.log:
                track.Run(args.log).finish()
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
        corpus = _read(args.data)
        left_out = corpus.left_out
        if args.val:
            held_out = _read(args.val)
            left_out = left_out + held_out.left_out
        else:
            corpus, held_out = corpus.hold_out()
        if not len(corpus):
            sys.exit("error[empty_data]: the training data is empty")
        documents = zip(corpus.documents, corpus.ends, strict=True)
        if all(len(document) == 1 and not ends for document, ends in documents):
            sys.exit("error[empty_data]: the training data has no byte to predict")
        if not args.arch and not args.start:
            sys.exit("error[usage]: specify an architecture with --arch, or weights with --from")
        with _told("cannot start"):
            architecture = Architecture.of(args.arch) if args.arch else None
            if args.start:
                architecture = Weights(args.start, architecture).architecture
        return cls(args, architecture, recipe, corpus, held_out, left_out)

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

    @property
    def checkpoint_folder(self) -> Path:
        """Where checkpoints go, also if none were asked for: beside the weights."""
        return Path(self.args.checkpoint or f"{self.args.output}.checkpoint").absolute()

    def begin_checkpoint(self, step: int) -> Path:
        """The folder of a new checkpoint, emptied of what an interrupted one left."""
        folder = self.checkpoint_folder / f"step-{step}"
        shutil.rmtree(folder, ignore_errors=True)
        return folder

    def complete_checkpoint(
        self, folder: Path, step: int, position: DataPosition, keep: int = 2
    ) -> None:
        """Marks a checkpoint as complete and removes all but the newest `keep`."""
        progress = {**self.identity(), "step": step, "position": position}
        # A checkpoint is complete once this file is, whole, under its name.
        part = folder / f"{PROGRESS}.tmp"
        part.write_text(json.dumps(progress))
        part.replace(folder / PROGRESS)
        for old in checkpoints(self.checkpoint_folder)[:-keep]:
            shutil.rmtree(old)

    def newest_checkpoint(self) -> tuple[Path, int, DataPosition] | None:
        """Folder, completed steps and data position of the newest checkpoint, if any.

        Exits with an error if it belongs to another run; the number of steps may differ, because
        more of them prolong a run.
        """
        folders = checkpoints(self.checkpoint_folder) if self.args.resume else []
        if not folders:
            return None
        progress = json.loads((folders[-1] / PROGRESS).read_text())
        for key, value in self.identity().items():
            if _without_steps(progress[key]) != _without_steps(value):
                sys.exit(
                    f"error[checkpoint]: {folders[-1]} belongs to another run: its {key} differs"
                )
        if progress["step"] > self.recipe.steps:
            done = progress["step"]
            sys.exit(f"error[usage]: {folders[-1]} has done {done} steps; --steps counts them too")
        return folders[-1], progress["step"], tuple(progress["position"])

    def interrupted(self, step: int) -> str:
        """The error of a run that a signal ended after `step`, which is in a checkpoint."""
        return (
            f"error[interrupted]: interrupted after step {step} of {self.recipe.steps}\n"
            f"hint: continue with the same options, and --resume --checkpoint "
            f"{self.checkpoint_folder}"
        )

    def diverged(self, step: int, loss: float) -> str:
        """The error of a run whose `step` has a loss or a gradient that is not finite."""
        kept = checkpoints(self.checkpoint_folder)
        place = f"; {kept[-1]} is kept" if kept else ""
        return (
            f"error[diverged]: training diverged at step {step}: its loss is {loss}{place}\n"
            f"hint: start again with a lower learning rate than --lr {self.recipe.learning_rate}"
        )

    def ended(self) -> None:
        """Exits with an error, after all is done, if the run was not given all of its data."""
        if self.left_out:
            first, count = self.left_out[0], len(self.left_out)
            sys.exit(f"error[left_out]: {count} files or folders were left out, first {first}")


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Exits with an error of one line if a file or an argument cannot be used."""
    try:
        yield
    except (OSError, MemoryError, ValueError) as error:
        sys.exit(f"error[{_code(error)}]: {what}: {error}")


def _code(error: Exception) -> str:
    """The code that the commands have for an error."""
    if isinstance(error, OSError):
        return _FILE_CODES.get(error.errno, Code.FILE_ERROR)
    return Code.NO_MEMORY if isinstance(error, MemoryError) else Code.USAGE


def _read(paths: list[str]) -> Corpus:
    """The data that the command line names; tells what is left out."""
    with _told("cannot read the data"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        corpus = Corpus.read(paths)
    for warning in caught:
        print(f"warning: {warning.message}", file=sys.stderr)
    return corpus


def _without_steps(value: object) -> object:
    if isinstance(value, dict):
        return {name: part for name, part in value.items() if name != "steps"}
    return value


class Stop:
    """Notes SIGINT, SIGTERM and SIGHUP, so that a run can be kept; a second signal ends the process
    as usual. Signals that are ignored stay ignored."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> Stop:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_IGN:
                continue
            try:
                self._before[number] = signal.signal(number, self._note)
            except ValueError:
                # Not the main thread, whose owner handles signals.
                break
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        self.requested = True
        self.__exit__()


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
        self._pause, self._next_sign = _FIRST_PAUSE, time.monotonic() + _FIRST_PAUSE
        self._log_fails = False
        self._log = track.Run(args.log, run.identity()) if args.log and reports else None
        self._began, self._tokens = time.perf_counter(), 0
        self._recent: deque[float] = deque(maxlen=_RECENT_STEPS)

    def step(self, step: int, tokens: int, **values: float) -> None:
        """Records a step after `tokens` positions in this process, with `loss`, `cross_entropy`,
        `sigreg`, `gradient_norm` and `learning_rate`."""
        self._record({**values, "tokens": tokens - self._tokens}, step)
        self._tokens = tokens
        self._recent.append(values["cross_entropy"])
        self._bar.update()
        self._bar.set_postfix(cross_entropy=f"{values['cross_entropy']:.3f}", refresh=False)
        self._sign(step, values["cross_entropy"])

    def warn(self, text: str) -> None:
        """Tells what went wrong without ending the run."""
        if self._reports:
            self._bar.write(f"warning: {text}", file=sys.stderr)

    def _record(self, values: dict, step: int) -> None:
        if not self._log:
            return
        try:
            self._log.log(values, step)
            self._log_fails = False
        except OSError as error:
            if not self._log_fails:
                self.warn(f"cannot write the log: {error}; the run continues")
            self._log_fails = True

    def _sign(self, step: int, cross_entropy: float) -> None:
        """A line now and then where no bar is drawn, such as in the log of a job."""
        if not self._reports or not self._bar.disable or time.monotonic() < self._next_sign:
            return
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        self._next_sign = time.monotonic() + self._pause
        steps = self._run.recipe.steps
        print(f"step {step} of {steps}, cross-entropy {cross_entropy:.3f}", file=sys.stderr)

    def evaluated(self, step: int, value: float | None) -> None:
        """Records the held-out cross-entropy."""
        if value is not None:
            self._record({"val_cross_entropy": value}, step)
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
