"""The PyTorch twin: the network's model as an `nn.Module`, for training on GPUs and for notebooks.

It shares tensors, names and files with the native engine and agrees with it within rounding, but
not bit for bit.
"""

from soma.torch.loss import Loss, compute_loss, directions
from soma.torch.model import Model

__all__ = ["Loss", "Model", "compute_loss", "directions"]
