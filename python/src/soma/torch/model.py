"""The V1 family in PyTorch: a pre-norm byte transformer with rotary positions.

Parameters are named and laid out as in the weights file (linear weights `[in, out]`), so the
state dict matches the file. Padding is never scored.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from soma import counting, native, tokenizer, weights
from soma import score as scores
from soma.architecture import Architecture, ArchitectureLike
from soma.torch import loss as losses

_SCORE_POSITIONS = 1 << 14
"""Maximum positions per forward pass when scoring."""


class Linear(nn.Module):
    """`x . weight + bias`, the weight `[in, out]`."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.empty(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.t(), self.bias)


class LayerNorm(nn.Module):
    """Biased variance, epsilon 1e-5."""

    def __init__(self, dim: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(dim))
        self.beta = nn.Parameter(torch.empty(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.gamma.shape, self.gamma, self.beta, 1e-5)


class Attention(nn.Module):
    """Causal attention with rotary positions."""

    def __init__(self, architecture: Architecture):
        super().__init__()
        self.head_dim = architecture.head_dim
        dim = architecture.dim
        self.query, self.key, self.value, self.output = (Linear(dim, dim) for _ in range(4))

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        """`[batch, positions, dim]` to the same."""
        q, k, v = (
            linear(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )
        q, k = rotate(q, rope), rotate(k, rope)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.output(attended.transpose(1, 2).flatten(-2))


class FeedForward(nn.Module):
    """`outer(gelu(inner(x)))` with the exact GELU."""

    def __init__(self, architecture: Architecture):
        super().__init__()
        self.linear_inner = Linear(architecture.dim, architecture.ffn)
        self.linear_outer = Linear(architecture.ffn, architecture.dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_outer(F.gelu(self.linear_inner(x)))


class Layer(nn.Module):
    """`x += attention(norm_1(x)); x += pwff(norm_2(x))`, with dropout on both branches."""

    def __init__(self, architecture: Architecture, dropout: float):
        super().__init__()
        self.norm_1 = LayerNorm(architecture.dim)
        self.attention = Attention(architecture)
        self.norm_2 = LayerNorm(architecture.dim)
        self.pwff = FeedForward(architecture)
        self.dropout = dropout

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        x = x + F.dropout(self.attention(self.norm_1(x), rope), self.dropout, self.training)
        return x + F.dropout(self.pwff(self.norm_2(x)), self.dropout, self.training)


class Encoder(nn.Module):
    """The layers, in order."""

    def __init__(self, architecture: Architecture, dropout: float):
        super().__init__()
        layers = (Layer(architecture, dropout) for _ in range(architecture.layers))
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        for layer in self.layers:
            x = layer(x, rope)
        return x


class Model(nn.Module):
    """A byte transformer of any architecture of the V1 family."""

    def __init__(self, arch: ArchitectureLike, dropout: float = 0.0):
        """Parameters are uninitialized; use `init` or `from_file`."""
        super().__init__()
        self.architecture = architecture = Architecture.of(arch)
        self.embedding = nn.Embedding(architecture.vocabulary, architecture.dim)
        self.encoder = Encoder(architecture, dropout)
        self.final_norm = LayerNorm(architecture.dim)
        self.predictor = Linear(architecture.dim, architecture.vocabulary)

    @classmethod
    def from_file(
        cls, path: str | os.PathLike, arch: ArchitectureLike | None = None, *, dropout: float = 0.0
    ) -> Model:
        """Loads a weights file. Without `arch`, the architecture comes from its metadata.

        Raises `soma.WeightsError`, and `OSError` if the file cannot be read.
        """
        file = weights.Weights(path, arch)
        with torch.device("meta"):
            model = cls(file.architecture, dropout)
        state = {name: torch.from_numpy(values) for name, values in file.items()}
        model.load_state_dict(state, assign=True)
        return model

    @classmethod
    def init(cls, arch: ArchitectureLike, seed: bytes, *, dropout: float = 0.0) -> Model:
        """Random weights, equal to those of `soma model init` for the same 32-byte seed."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "init.safetensors"
            native.init(path, arch, seed)
            return cls.from_file(path, arch, dropout=dropout)

    def save(self, path: str | os.PathLike) -> None:
        """Writes a weights file in float32."""
        state = self.state_dict()
        weights.write(path, self.architecture, lambda name: state[name].float().cpu().numpy())

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids `[batch, positions]` to representations `[batch, positions, dim]` and logits
        `[batch, positions, vocabulary]`."""
        rope = rope_table(tokens.shape[1], self.architecture.head_dim, tokens.device)
        x = self.encoder(self.embedding(tokens), rope)
        representations = self.final_norm(x)
        return representations, self.predictor(representations)

    @torch.no_grad()
    def score(self, data: bytes, seed: bytes = bytes(32)) -> scores.Score:
        """Scores data in this model's precision and on its device.

        Raises `ValueError` if the data is empty, `soma.NonFinite` and `soma.ZeroEmbedding`.
        """
        architecture, training = self.architecture, self.training
        device = self.embedding.weight.device
        directions = losses.directions(architecture, seed, device)
        predicted = positions = 0
        nll, sigreg = torch.zeros(2, dtype=torch.float64, device=device)
        total = torch.zeros(architecture.dim, dtype=torch.float64, device=device)
        self.eval()
        try:
            for batch in tokenizer.batches(data, architecture.positions, _SCORE_POSITIONS):
                tokens = torch.from_numpy(batch).to(device)
                representations, logits = self(tokens)
                if not logits.isfinite().all():
                    raise scores.NonFinite("a logit is not finite")
                nll += losses.negative_log_likelihoods(logits[:, :-1], tokens[:, 1:]).sum()
                predicted += tokens[:, 1:].numel()
                positions += tokens.numel()
                total += representations.sum((0, 1), dtype=torch.float64)
                cap = architecture.sigreg_cap
                for chunk in representations:
                    sigreg += len(chunk) * losses.sigreg(architecture, chunk, directions, cap)
        finally:
            self.train(training)
        sums = nll.item(), predicted, sigreg.item(), total.cpu().numpy(), positions
        counted = counting.nats(data, architecture.positions)
        return scores.combine(*sums, architecture.sigreg_coefficient, counted)


def rope_table(positions: int, head_dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines of `p / 10000^(2i / head_dim)`, float32 `[positions, head_dim / 2]`."""
    i = torch.arange(head_dim // 2, dtype=torch.float64, device=device)
    p = torch.arange(positions, dtype=torch.float64, device=device)
    angles = p[:, None] / 10000.0 ** (2 * i / head_dim)
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Rotates each pair `(i, i + head_dim / 2)` of `[batch, heads, positions, head_dim]` by its
    position's angle, in float32 or better."""
    cosines, sines = rope
    first, second = x.to(torch.promote_types(x.dtype, torch.float32)).chunk(2, -1)
    rotated = (first * cosines - second * sines, second * cosines + first * sines)
    return torch.cat(rotated, -1).to(x.dtype)
