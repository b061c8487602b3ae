"""Cross-entropy and SIGReg in PyTorch, for scoring chunks and for training on micro-batches.

Reductions use at least float32, also under autocast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from soma import sigreg as constants
from soma.architecture import Architecture
from soma.tokenizer import NO_TARGET, PAD


class Loss(NamedTuple):
    """`loss = cross_entropy + coefficient * sigreg`, scalars; only `loss` carries a gradient."""

    loss: Tensor
    cross_entropy: Tensor
    sigreg: Tensor


def directions(
    architecture: Architecture, seed: bytes, device: torch.device | str = "cpu"
) -> Tensor:
    """SIGReg's directions for a 32-byte seed, `[dim, slices]`: bit-identical to the engine's."""
    return torch.from_numpy(constants.directions(architecture, seed)).to(device)


def compute_loss(
    model: Callable[[Tensor], tuple[Tensor, Tensor]],
    tokens: Tensor,
    targets: Tensor,
    directions: Tensor,
    *,
    architecture: Architecture | None = None,
    cap: int = constants.TRAINING_CAP,
    coefficient: float | None = None,
    group: dist.ProcessGroup | None = None,
) -> Loss:
    """The training loss of a micro-batch; SIGReg's samples are all of its positions.

    `tokens` and `targets` are `[batch, positions]`; PAD positions and targets equal to `NO_TARGET`
    are ignored. `directions` should be redrawn at every step. Pass `architecture` if `model` is a
    wrapper that hides it. With `group`, the micro-batch is distributed over the processes, and
    averaging gradients over them gives the gradient of the whole.
    """
    architecture = architecture or model.architecture
    coefficient = architecture.sigreg_coefficient if coefficient is None else coefficient
    representations, logits = model(tokens)
    with torch.autocast(tokens.device.type, enabled=False):
        nll = negative_log_likelihoods(logits, targets)
        predicted = (targets != NO_TARGET).sum()
        cross_entropy = _total(nll.sum(), group) / _total(predicted, group)
        samples = (tokens != PAD).flatten()
        value = sigreg(architecture, representations.flatten(0, 1), directions, cap, samples, group)
        loss = cross_entropy + coefficient * value
    return Loss(loss, cross_entropy.detach(), value.detach())


def negative_log_likelihoods(logits: Tensor, targets: Tensor) -> Tensor:
    """In nats, flattened; zero for positions without a target. Float64 after the softmax."""
    logits = logits.flatten(0, -2)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    nll = F.cross_entropy(logits, targets.flatten(), ignore_index=NO_TARGET, reduction="none")
    return nll.double()


def sigreg(
    architecture: Architecture,
    representations: Tensor,
    directions: Tensor,
    cap: int,
    samples: Tensor | None = None,
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    """`min(n, cap) * D` of the representations `[n, dim]` selected by `samples` (default: all).

    D averages over samples; averaging over directions would reward collapse.
    """
    dt, *arrays = constants.nodes(architecture)
    phi, node_weights = (torch.from_numpy(x).to(representations.device) for x in arrays)
    precision = torch.promote_types(representations.dtype, torch.float32)
    projections = representations.to(precision) @ directions.to(precision)
    if samples is None:
        samples = torch.ones(len(projections), dtype=torch.bool, device=projections.device)
    sums = CharacteristicSums.apply(projections, samples.to(precision), dt, len(phi))
    n = _total(samples.sum(), group)
    real, imaginary = _total(sums.double(), group) / n
    distances = (real - phi[:, None]) ** 2 + imaginary**2
    return n.clamp(max=cap) * (node_weights @ distances).mean()


class CharacteristicSums(torch.autograd.Function):
    """Sums over samples of the cosine and the sine of `j * dt * p`, j = 1 .. nodes.

    The nodes are powers of a point on the unit circle, so each projection costs one cosine and one
    sine, which are all that the backward pass stores.
    """

    @staticmethod
    def forward(ctx, projections: Tensor, samples: Tensor, dt: float, nodes: int) -> Tensor:
        """`[n, slices]` and `[n]` to `[2, nodes, slices]`."""
        angles = projections * dt
        cosines, sines = angles.cos(), angles.sin()
        ctx.save_for_backward(cosines, sines, samples)
        ctx.dt = dt
        real, imaginary = cosines * samples[:, None], sines * samples[:, None]
        sums = []
        for _ in range(nodes):
            sums += [real.sum(0), imaginary.sum(0)]
            real, imaginary = (
                real * cosines - imaginary * sines,
                real * sines + imaginary * cosines,
            )
        return torch.stack(sums).unflatten(0, (nodes, 2)).transpose(0, 1)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        """`dt * Re(sum_j j (g_sin + i g_cos)_j z^j)` by Horner's rule, z the sample's point."""
        cosines, sines, samples = ctx.saved_tensors
        real, imaginary = torch.zeros_like(cosines), torch.zeros_like(cosines)
        for j in range(gradient.shape[1], 0, -1):
            x = real + j * gradient[1, j - 1]
            y = imaginary + j * gradient[0, j - 1]
            real, imaginary = x * cosines - y * sines, x * sines + y * cosines
        return real * samples[:, None] * ctx.dt, None, None, None


class _Total(torch.autograd.Function):
    """Sum over processes. Its gradient is the same in every process; scaling it by their number
    compensates for the averaging of gradients."""

    @staticmethod
    def forward(ctx, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.size = dist.get_world_size(group)
        total = x.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return gradient * ctx.size, None


def _total(x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    return x if group is None else _Total.apply(x, group)
