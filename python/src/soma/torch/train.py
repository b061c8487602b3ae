"""`python -m soma.torch.train`, and under `torchrun` the same on many devices with FSDP2.

The run does not depend on the number of processes, up to rounding: the same windows, the same
directions, SIGReg over the whole micro-batch. A checkpoint can be resumed with a different number
of processes.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import state_dict as states
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from soma import training, weights
from soma.recipe import decays
from soma.torch.loss import compute_loss, directions
from soma.torch.model import Model

T = TypeVar("T")

_FULL = states.StateDictOptions(full_state_dict=True, cpu_offload=True)
_FROM_FIRST = states.StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)


@dataclass
class Processes:
    """This process within the group started by `torchrun`, or alone."""

    rank: int
    size: int
    device: torch.device
    group: dist.ProcessGroup | None

    @classmethod
    @contextlib.contextmanager
    def join(cls) -> Iterator[Processes]:
        """Selects a device and joins the process group, if any."""
        cuda = torch.cuda.is_available()
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else None
        if cuda:
            torch.cuda.set_device(device)
        device = device or torch.device("cpu")
        if "RANK" not in os.environ:
            yield cls(0, 1, device, None)
            return
        dist.init_process_group("nccl" if cuda else "gloo")
        try:
            yield cls(dist.get_rank(), dist.get_world_size(), device, dist.group.WORLD)
        finally:
            dist.destroy_process_group()

    @property
    def first(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def barrier(self) -> None:
        """Waits for all processes."""
        if self.group is not None:
            dist.barrier(self.group)

    def share(self, value: T) -> T:
        """Broadcasts `value` from the first process."""
        if self.group is None:
            return value
        values = [value]
        dist.broadcast_object_list(values, 0, self.group)
        return values[0]

    def any(self, value: bool) -> bool:
        """Whether `value` is true in any process: all of them learn the same."""
        if self.group is None:
            return value
        count = torch.tensor(int(value), device=self.device)
        dist.all_reduce(count, dist.ReduceOp.MAX, self.group)
        return bool(count.item())

    def rows(self, batch: int) -> slice:
        """This process's rows of a micro-batch."""
        if batch % self.size:
            sys.exit(f"error[usage]: a batch of {batch} cannot be divided by {self.size} processes")
        share = batch // self.size
        return slice(self.rank * share, (self.rank + 1) * share)


class Trainer:
    """Model, optimizer and data position of a run."""

    def __init__(self, run: training.Run, processes: Processes):
        self.run, self.processes = run, processes
        precision = run.args.precision or ("bf16" if processes.device.type == "cuda" else "f32")
        self.bf16 = precision == "bf16"
        self.model = self._load()
        recipe = run.recipe
        groups: dict[bool, list] = {True: [], False: []}
        for name, parameter in self.model.named_parameters():
            groups[decays(name)].append(parameter)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": groups[True], "weight_decay": recipe.weight_decay},
                {"params": groups[False], "weight_decay": 0.0},
            ],
            lr=recipe.learning_rate,
            betas=(recipe.beta_1, recipe.beta_2),
            eps=recipe.epsilon,
        )
        self.done, position = 0, (0, 0)
        self.kept = False
        """Whether this run has a checkpoint on disk."""
        if checkpoint := run.newest_checkpoint():
            folder, self.done, position = checkpoint
            self._load_checkpoint(folder)
            self.kept = True
        self.order = run.order(position)
        self.place = position
        """Where the next step's data begins."""

    def _load(self) -> Model:
        run, processes = self.run, self.processes
        with tempfile.TemporaryDirectory() as folder:
            if processes.group is None:
                path = run.start_weights(folder)
                model = Model.from_file(path, run.architecture, dropout=run.args.dropout)
                return self._compile(model).to(processes.device)
            full = {}
            if processes.first:
                file = weights.Weights(run.start_weights(folder), run.architecture)
                full = {name: torch.from_numpy(values) for name, values in file.items()}
            with torch.device("meta"):
                model = self._compile(Model(run.architecture, run.args.dropout))
            mesh = init_device_mesh(processes.device.type, (processes.size,))
            # Inputs are not cast: the rotary tables must stay float32.
            half = {"param_dtype": torch.bfloat16, "reduce_dtype": torch.float32}
            policy = MixedPrecisionPolicy(**(half if self.bf16 else {}), cast_forward_inputs=False)
            for layer in model.encoder.layers:
                fully_shard(layer, mesh=mesh, mp_policy=policy)
            fully_shard(model, mesh=mesh, mp_policy=policy)
            model.to_empty(device=processes.device)
            states.set_model_state_dict(model, full, options=_FROM_FIRST)
            return model

    def _compile(self, model: Model) -> Model:
        if self.run.args.compile:
            for layer in model.encoder.layers:
                layer.compile()
        return model

    def step(self) -> dict[str, float]:
        """Runs one optimizer step. If the loss or the gradient is not finite, keeps the run as it
        was before the step, unless a checkpoint is there, and exits."""
        self.place = self.order.position
        run, recipe, device = self.run, self.run.recipe, self.processes.device
        if run.args.dropout:
            key = recipe.directions_seed(self.done, self.processes.rank)
            torch.manual_seed(int.from_bytes(key[:8], "little", signed=True))
        self.model.train()
        self.optimizer.zero_grad()
        sums = torch.zeros(3, dtype=torch.float64, device=device)
        rows = self.processes.rows(recipe.batch)
        for index, batch in enumerate(training.micro_batches(run, self.order, rows)):
            tokens, targets = (torch.from_numpy(part).to(device) for part in batch)
            if not self._alone:
                self.model.set_requires_gradient_sync(index == recipe.micro_batches - 1)
            seed = recipe.directions_seed(self.done, index)
            autocast = self.bf16 and self._alone
            with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                loss = compute_loss(
                    self.model,
                    tokens,
                    targets,
                    directions(run.architecture, seed, device),
                    cap=recipe.sigreg_cap,
                    coefficient=recipe.sigreg_coefficient,
                    group=self.processes.group,
                )
            (loss.loss / recipe.micro_batches).backward()
            sums += torch.stack([part.detach().double() for part in loss]) / recipe.micro_batches
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        values = dict(zip(("loss", "cross_entropy", "sigreg"), sums.tolist(), strict=True))
        values |= {
            "gradient_norm": norm.item(),
            "learning_rate": recipe.learning_rate_of(self.done),
        }
        if not all(map(math.isfinite, values.values())):
            if not self.kept:
                self.save_checkpoint()
            sys.exit(run.diverged(self.done + 1, values["loss"]) if self.processes.first else 1)
        for group in self.optimizer.param_groups:
            group["lr"] = values["learning_rate"]
        self.optimizer.step()
        self.done += 1
        self.place = self.order.position
        return values

    def save(self, path: Path) -> None:
        """Writes the weights file from the first process; every process must call it."""
        full = states.get_model_state_dict(self.model, options=_FULL)
        if self.processes.first:
            weights.write(path, self.run.architecture, lambda name: full[name].float().numpy())
        self.processes.barrier()

    def save_checkpoint(self) -> None:
        """Writes a checkpoint, each process its shards; it counts only once it is complete."""
        folder = None
        if self.processes.first:
            folder = self.run.begin_checkpoint(self.done)
        folder = self.processes.share(folder)
        writer = dcp.FileSystemWriter(folder)
        with _single_process_warning_ignored():
            dcp.save(self._state(), storage_writer=writer, no_dist=self._alone)
        if self.processes.first:
            self.run.complete_checkpoint(folder, self.done, self.place)
        self.kept = True
        self.processes.barrier()

    def _load_checkpoint(self, folder: Path) -> None:
        state = self._state()
        with _single_process_warning_ignored():
            dcp.load(state, checkpoint_id=folder, no_dist=self._alone)
        states.set_state_dict(
            self.model,
            self.optimizer,
            model_state_dict=state["model"],
            optim_state_dict=state["optimizer"],
        )

    @property
    def _alone(self) -> bool:
        return self.processes.group is None

    def _state(self) -> dict:
        model, optimizer = states.get_state_dict(self.model, self.optimizer)
        return {"model": model, "optimizer": optimizer}

    def evaluate(self) -> float | None:
        """Held-out cross-entropy, computed by the native engine in the first process."""
        path = Path(tempfile.gettempdir()) / f"soma-{os.getpid()}.safetensors"
        try:
            self.save(path)
            if not self.processes.first:
                return None
            return training.cross_entropy(path, self.run.architecture, self.run.held_out)
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _single_process_warning_ignored() -> Iterator[None]:
    """Suppresses a warning of PyTorch about running without a process group."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def main(argv: list[str] | None = None) -> None:
    """Runs training: steps, evaluations, checkpoints, and the final weights file."""
    parser = training.parser("soma.torch.train")
    parser.add_argument("--compile", action="store_true", help="compile the layers")
    args = parser.parse_args(argv)
    run = training.Run.of(args)
    with Processes.join() as processes, training.Stop() as stop:
        trainer = Trainer(run, processes)
        reporter = training.Reporter(run, processes.first, trainer.done)
        while trainer.done < run.recipe.steps:
            values = trainer.step()
            reporter.step(trainer.done, trainer.order.tokens, **values)
            last = trainer.done == run.recipe.steps
            if processes.any(stop.requested) and not last:
                trainer.save_checkpoint()
                sys.exit(run.interrupted(trainer.done) if processes.first else 1)
            if args.checkpoint and (last or trainer.done % args.checkpoint_every == 0):
                _keep(trainer, reporter)
            if args.eval_every and trainer.done % args.eval_every == 0 and not last:
                value = trainer.evaluate()
                if processes.first:
                    reporter.evaluated(trainer.done, value)
        trainer.save(Path(args.output))
        if processes.first:
            value = training.cross_entropy(args.output, run.architecture, run.held_out)
            reporter.evaluated(trainer.done, value)
            reporter.finish(Path(args.output), value)
        processes.barrier()
    run.ended()


def _keep(trainer: Trainer, reporter: training.Reporter) -> None:
    """Saves a checkpoint. Where one process works alone, a failure does not end the run; several
    could no longer agree on what was saved."""
    try:
        trainer.save_checkpoint()
    except Exception as error:
        if trainer.processes.group is not None:
            raise
        reporter.warn(f"no checkpoint after step {trainer.done}: {error}; the run continues")


if __name__ == "__main__":
    main()
