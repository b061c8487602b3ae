"""The Flax twin: the network's model as an `nnx.Module`, for JAX on any device or mesh of devices.

The same tensors, names and files as the engine; close to its numbers, never a substitute for its
bits.
"""

from soma.flax.loss import Loss, compute_loss, directions
from soma.flax.model import Model

__all__ = ["Loss", "Model", "compute_loss", "directions"]
