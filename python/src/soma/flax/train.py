"""`python -m soma.flax.train`: one device, or all that JAX sees, sharded over a mesh.

Parameters, optimizer and micro-batches are sharded over the devices; the compiler inserts the
communication, so SIGReg and the loss cover the whole micro-batch. A checkpoint can be resumed on a
different number of devices.
"""

from __future__ import annotations

import math
import sys
import tempfile
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from soma import training, weights
from soma.flax.loss import Loss, compute_loss
from soma.flax.model import Model
from soma.recipe import Recipe, decays
from soma.sigreg import directions

Parameters = dict[str, jax.Array]
"""Parameters by name in the weights file."""

_REPLICATED_ELEMENTS = 1 << 12
"""Tensors with fewer elements are replicated."""


def sharding(mesh: Mesh, shape: tuple[int, ...]) -> NamedSharding:
    """Shards a tensor along its longest axis divisible by the number of devices, if any."""
    devices = mesh.devices.size
    axes = [axis for axis, size in enumerate(shape) if size % devices == 0]
    if not axes or math.prod(shape) < _REPLICATED_ELEMENTS:
        return NamedSharding(mesh, PartitionSpec())
    longest = max(axes, key=lambda axis: shape[axis])
    return NamedSharding(mesh, PartitionSpec(*[None] * longest, "data"))


def optimizer(recipe: Recipe) -> optax.GradientTransformation:
    """Clipping, AdamW and the schedule of a recipe."""
    rates = jnp.array([recipe.learning_rate_of(step) for step in range(recipe.steps + 1)])
    adamw = optax.adamw(
        lambda step: rates[step],
        b1=recipe.beta_1,
        b2=recipe.beta_2,
        eps=recipe.epsilon,
        weight_decay=recipe.weight_decay,
        mask=lambda parameters: {name: decays(name) for name in parameters},
    )
    return optax.chain(optax.clip_by_global_norm(recipe.clip), adamw)


class Trainer:
    """Parameters, optimizer and data position of a run."""

    def __init__(self, run: training.Run):
        self.run = run
        self.mesh = Mesh(np.array(jax.devices()), ("data",))
        if run.recipe.batch % jax.device_count():
            count = jax.device_count()
            sys.exit(
                f"error[usage]: a batch of {run.recipe.batch} cannot be divided by {count} devices"
            )
        model = self._load()
        self.graph, state, self.rest = nnx.split(model, nnx.Param, ...)
        flat = nnx.to_flat_state(state)
        self.paths = [path for path, _ in flat]
        self.parameters = {_name(path): variable[...] for path, variable in flat}
        self.optimizer = optimizer(run.recipe)
        shapes = jax.eval_shape(self.optimizer.init, self.parameters)
        placed = jax.tree.map(lambda leaf: sharding(self.mesh, leaf.shape), shapes)
        self.state = jax.jit(self.optimizer.init, out_shardings=placed)(self.parameters)
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
        self.batches = NamedSharding(self.mesh, PartitionSpec(None, "data"))

    def _load(self) -> Model:
        args, run = self.run.args, self.run
        gpu = jax.default_backend() != "cpu"
        precision = args.precision or ("bf16" if gpu else "f32")
        with tempfile.TemporaryDirectory() as folder:
            return Model.from_file(
                run.start_weights(folder),
                run.architecture,
                dropout=args.dropout,
                dtype=jnp.bfloat16 if precision == "bf16" else jnp.float32,
                rngs=nnx.Rngs(dropout=int.from_bytes(run.recipe.seed[:4], "little")),
                put=lambda _, values: jax.device_put(values, sharding(self.mesh, values.shape)),
            )

    def model(self, parameters: Parameters, rest: nnx.State) -> Model:
        """The module with these parameters."""
        flat = [(path, nnx.Param(parameters[_name(path)])) for path in self.paths]
        return nnx.merge(self.graph, nnx.from_flat_state(flat), rest)

    @partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
    def _update(self, parameters: Parameters, state, rest, step, tokens, targets, directions):
        recipe = self.run.recipe

        def loss_of(parameters, index, tokens, targets, directions):
            model = self.model(parameters, _fold(rest, step * recipe.micro_batches + index))
            cap, coefficient = recipe.sigreg_cap, recipe.sigreg_coefficient
            loss = compute_loss(
                model, tokens, targets, directions, cap=cap, coefficient=coefficient
            )
            return loss.loss, loss

        def add(sums, micro_batch):
            (_, loss), gradients = gradients_of(parameters, *micro_batch)
            return jax.tree.map(jnp.add, sums, (loss, gradients)), None

        gradients_of = jax.value_and_grad(loss_of, has_aux=True)
        zero = jnp.zeros(())
        sums = Loss(zero, zero, zero), jax.tree.map(jnp.zeros_like, parameters)
        micro_batches = jnp.arange(recipe.micro_batches), tokens, targets, directions
        sums, _ = jax.lax.scan(add, sums, micro_batches)
        loss, gradients = jax.tree.map(lambda sum: sum / recipe.micro_batches, sums)
        norm = jnp.sqrt(sum(jnp.sum(gradient**2) for gradient in gradients.values()))
        updates, updated = self.optimizer.update(gradients, state, parameters)
        moved = optax.apply_updates(parameters, updates)
        # A step that is not finite changes nothing.
        finite = jnp.isfinite(norm) & jnp.isfinite(loss.loss)
        chosen = jax.tree.map(partial(jnp.where, finite), (moved, updated), (parameters, state))
        return *chosen, loss, norm

    def step(self) -> dict[str, float]:
        """Runs one optimizer step. If the loss or the gradient is not finite, keeps the run as it
        was before the step, unless a checkpoint is there, and exits."""
        self.place = self.order.position
        run, recipe = self.run, self.run.recipe
        batches = list(training.micro_batches(run, self.order, slice(None)))
        tokens, targets = (
            jax.device_put(np.stack(part).astype(np.int32), self.batches)
            for part in zip(*batches, strict=True)
        )
        seeds = [recipe.directions_seed(self.done, index) for index in range(recipe.micro_batches)]
        matrices = np.stack([directions(run.architecture, seed) for seed in seeds])
        self.parameters, self.state, loss, norm = self._update(
            self.parameters, self.state, self.rest, self.done, tokens, targets, matrices
        )
        values = {name: float(value) for name, value in loss._asdict().items()}
        values |= {
            "gradient_norm": float(norm),
            "learning_rate": recipe.learning_rate_of(self.done),
        }
        if not all(map(math.isfinite, values.values())):
            if not self.kept:
                self.save_checkpoint()
            sys.exit(run.diverged(self.done + 1, values["loss"]))
        self.done += 1
        self.place = self.order.position
        return values

    def save(self, path: Path) -> None:
        """Writes the weights file."""
        weights.write(path, self.run.architecture, lambda name: np.asarray(self.parameters[name]))

    def save_checkpoint(self) -> None:
        """Writes a checkpoint, which counts only once it is complete."""
        folder = self.run.begin_checkpoint(self.done)
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(folder / "state", self._state())
        self.run.complete_checkpoint(folder, self.done, self.place)
        self.kept = True

    def _load_checkpoint(self, folder: Path) -> None:
        with ocp.StandardCheckpointer() as checkpointer:
            target = jax.tree.map(ocp.utils.to_shape_dtype_struct, self._state())
            state = checkpointer.restore(folder.absolute() / "state", target)
        self.parameters, self.state = state["parameters"], state["optimizer"]

    def _state(self) -> dict:
        return {"parameters": self.parameters, "optimizer": self.state}

    def evaluate(self) -> float:
        """Held-out cross-entropy, computed by the native engine."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "evaluated.safetensors"
            self.save(path)
            return training.cross_entropy(path, self.run.architecture, self.run.held_out)


def main(argv: list[str] | None = None) -> None:
    """Runs training: steps, evaluations, checkpoints, and the final weights file."""
    args = training.parser("soma.flax.train").parse_args(argv)
    run = training.Run.of(args)
    trainer = Trainer(run)
    reporter = training.Reporter(run, True, trainer.done)
    with training.Stop() as stop:
        while trainer.done < run.recipe.steps:
            values = trainer.step()
            reporter.step(trainer.done, trainer.order.tokens, **values)
            last = trainer.done == run.recipe.steps
            if stop.requested and not last:
                trainer.save_checkpoint()
                sys.exit(run.interrupted(trainer.done))
            if args.checkpoint and (last or trainer.done % args.checkpoint_every == 0):
                _keep(trainer, reporter)
            if args.eval_every and trainer.done % args.eval_every == 0 and not last:
                reporter.evaluated(trainer.done, trainer.evaluate())
        trainer.save(Path(args.output))
    value = training.cross_entropy(args.output, run.architecture, run.held_out)
    reporter.evaluated(trainer.done, value)
    reporter.finish(Path(args.output), value)
    run.ended()


def _keep(trainer: Trainer, reporter: training.Reporter) -> None:
    """Saves a checkpoint; a failure does not end the run."""
    try:
        trainer.save_checkpoint()
    except Exception as error:
        reporter.warn(f"no checkpoint after step {trainer.done}: {error}; the run continues")


def _name(path: tuple) -> str:
    return ".".join(map(str, path))


def _fold(rest: nnx.State, number: jax.Array) -> nnx.State:
    """New randomness for every micro-batch, without carried state."""

    def folded(leaf: jax.Array) -> jax.Array:
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.fold_in(leaf, number) if is_key else leaf

    return jax.tree.map(folded, rest)


if __name__ == "__main__":
    main()
