"""The Flax twin: the network's model as an `nnx.Module`, for JAX on any device or mesh of devices.

It shares tensors, names and files with the native engine and agrees with it within rounding, but
not bit for bit.
"""

from soma.flax.loss import Loss, compute_loss, directions
from soma.flax.model import Model

__all__ = ["Loss", "Model", "compute_loss", "directions"]
