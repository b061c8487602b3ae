"""The PyTorch twin: the network's model as an `nn.Module`, for training on GPUs and for notebooks.

The same tensors, names and files as the engine; close to its numbers, never a substitute for its
bits.
"""

from soma.torch.loss import Loss, compute_loss, directions
from soma.torch.model import Model

__all__ = ["Loss", "Model", "compute_loss", "directions"]
