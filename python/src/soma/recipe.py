"""The recipe of a training run: with architecture and data, it determines the weights.

Fields and arithmetic match the native engine, and the defaults are read from it. Nothing that could
differ between machines (devices, precision, processes) belongs here.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

from blake3 import blake3

from soma import _native

_DEFAULT = json.loads(_native.default_recipe())


@dataclass(frozen=True)
class Recipe:
    """How a model is trained. The defaults suit `nano` on about one megabyte of text."""

    steps: int = _DEFAULT["steps"]
    """Optimizer steps, which is also the length of the schedule."""
    batch: int = _DEFAULT["batch"]
    """Windows per micro-batch. SIGReg's samples are their positions."""
    micro_batches: int = _DEFAULT["micro_batches"]
    """Micro-batches averaged into one step."""
    learning_rate: float = _DEFAULT["learning_rate"]
    """Peak learning rate, reached after the warm-up."""
    warmup: int = _DEFAULT["warmup"]
    """Steps over which the learning rate rises linearly."""
    final_share: float = _DEFAULT["final_share"]
    """Final learning rate, as a share of `learning_rate`."""
    weight_decay: float = _DEFAULT["weight_decay"]
    """Weight decay of the matrices; biases and norms do not decay."""
    clip: float = _DEFAULT["clip"]
    """Maximum global norm of the gradient."""
    beta_1: float = _DEFAULT["beta_1"]
    """Decay rate of the first moment."""
    beta_2: float = _DEFAULT["beta_2"]
    """Decay rate of the second moment."""
    epsilon: float = _DEFAULT["epsilon"]
    """Added to the square root of the second moment."""
    sigreg_coefficient: float = _DEFAULT["sigreg_coefficient"]
    """Weight of SIGReg in the loss."""
    sigreg_cap: int = _DEFAULT["sigreg_cap"]
    """Upper limit of SIGReg's factor, which is the number of samples."""
    seed: bytes = bytes(_DEFAULT["seed"])
    """Determines the initial weights, the order of the data and SIGReg's directions."""

    def learning_rate_of(self, step: int) -> float:
        """The learning rate of `step`, counted from 0: a linear rise, then half a cosine."""
        if step < self.warmup:
            return self.learning_rate * ((step + 1) / self.warmup)
        falling = max(self.steps - self.warmup, 1)
        progress = min((step - self.warmup) / falling, 1.0)
        height = 0.5 * (1 + math.cos(math.pi * progress))
        return self.learning_rate * (self.final_share + (1 - self.final_share) * height)

    def directions_seed(self, step: int, micro_batch: int) -> bytes:
        """The seed of SIGReg's directions in one micro-batch of `step`, both counted from 0."""
        hasher = blake3(self.seed, derive_key_context="soma train: directions v1")
        return (
            hasher.update(step.to_bytes(8, "little"))
            .update(micro_batch.to_bytes(8, "little"))
            .digest()
        )


def decays(name: str) -> bool:
    """Whether a parameter decays: matrices do, biases and norms do not."""
    return name.endswith(".weight")
