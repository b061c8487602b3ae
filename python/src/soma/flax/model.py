"""The V1 family in Flax: a pre-norm byte transformer with rotary positions.

Parameters are named and laid out as in the weights file (linear weights `[in, out]`): a path in the
state, joined by dots, is a name in the file. Padding is never scored.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from soma import counting, native, tokenizer, weights
from soma import score as scores
from soma.architecture import Architecture, ArchitectureLike
from soma.flax import loss as losses

TensorOf = Callable[[str], jax.Array]
"""Returns a parameter by its name in the weights file."""

_SCORE_POSITIONS = 1 << 14
"""Maximum positions per forward pass when scoring."""


class Embedding(nnx.Module):
    """One row per token id."""

    def __init__(self, tensor: TensorOf):
        self.weight = nnx.Param(tensor("weight"))

    def __call__(self, tokens: jax.Array, dtype: jnp.dtype) -> jax.Array:
        return self.weight[...].astype(dtype)[tokens]


class Linear(nnx.Module):
    """`x . weight + bias`, the weight `[in, out]`."""

    def __init__(self, tensor: TensorOf):
        self.weight = nnx.Param(tensor("weight"))
        self.bias = nnx.Param(tensor("bias"))

    def __call__(self, x: jax.Array) -> jax.Array:
        return x @ self.weight[...].astype(x.dtype) + self.bias[...].astype(x.dtype)


class LayerNorm(nnx.Module):
    """Biased variance, epsilon 1e-5, in float32 or better."""

    def __init__(self, tensor: TensorOf):
        self.gamma = nnx.Param(tensor("gamma"))
        self.beta = nnx.Param(tensor("beta"))

    def __call__(self, x: jax.Array) -> jax.Array:
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        centered = wide - wide.mean(-1, keepdims=True)
        variance = jnp.square(centered).mean(-1, keepdims=True)
        normal = centered * jax.lax.rsqrt(variance + 1e-5)
        return (normal * self.gamma[...] + self.beta[...]).astype(x.dtype)


class Attention(nnx.Module):
    """Causal attention with rotary positions."""

    def __init__(self, architecture: Architecture, tensor: TensorOf):
        self.head_dim = architecture.head_dim
        self.query = Linear(_below(tensor, "query"))
        self.key = Linear(_below(tensor, "key"))
        self.value = Linear(_below(tensor, "value"))
        self.output = Linear(_below(tensor, "output"))

    def __call__(self, x: jax.Array, rope: tuple[jax.Array, jax.Array]) -> jax.Array:
        """`[batch, positions, dim]` to the same."""
        heads = (*x.shape[:-1], -1, self.head_dim)
        q, k, v = (linear(x).reshape(heads) for linear in (self.query, self.key, self.value))
        q, k = rotate(q, rope), rotate(k, rope)
        return self.output(jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(x.shape))


class FeedForward(nnx.Module):
    """`outer(gelu(inner(x)))` with the exact GELU."""

    def __init__(self, tensor: TensorOf):
        self.linear_inner = Linear(_below(tensor, "linear_inner"))
        self.linear_outer = Linear(_below(tensor, "linear_outer"))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.linear_outer(jax.nn.gelu(self.linear_inner(x), approximate=False))


class Layer(nnx.Module):
    """`x += attention(norm_1(x)); x += pwff(norm_2(x))`, with dropout on both branches."""

    def __init__(
        self, architecture: Architecture, tensor: TensorOf, dropout: float, rngs: nnx.Rngs | None
    ):
        self.norm_1 = LayerNorm(_below(tensor, "norm_1"))
        self.attention = Attention(architecture, _below(tensor, "attention"))
        self.norm_2 = LayerNorm(_below(tensor, "norm_2"))
        self.pwff = FeedForward(_below(tensor, "pwff"))
        self.dropout = nnx.Dropout(dropout, rngs=rngs)

    def __call__(self, x: jax.Array, rope: tuple[jax.Array, jax.Array]) -> jax.Array:
        x = x + self.dropout(self.attention(self.norm_1(x), rope))
        return x + self.dropout(self.pwff(self.norm_2(x)))


class Encoder(nnx.Module):
    """The layers, in order."""

    def __init__(
        self, architecture: Architecture, tensor: TensorOf, dropout: float, rngs: nnx.Rngs | None
    ):
        self.layers = nnx.List(
            [
                Layer(architecture, _below(tensor, f"layers.{layer}"), dropout, rngs)
                for layer in range(architecture.layers)
            ]
        )

    def __call__(self, x: jax.Array, rope: tuple[jax.Array, jax.Array]) -> jax.Array:
        for layer in self.layers:
            x = layer(x, rope)
        return x


class Model(nnx.Module):
    """A byte transformer of any architecture of the V1 family."""

    def __init__(
        self,
        arch: ArchitectureLike,
        tensor: TensorOf,
        *,
        dropout: float = 0.0,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ):
        """`tensor(name)` returns each parameter, already placed on devices. Activations are of
        type `dtype`; `rngs` (stream `dropout`) is required if `dropout` is not zero. A new model
        is in training mode: `eval()` disables dropout."""
        self.architecture = architecture = Architecture.of(arch)
        self.dtype = dtype
        self.embedding = Embedding(_below(tensor, "embedding"))
        self.encoder = Encoder(architecture, _below(tensor, "encoder"), dropout, rngs)
        self.final_norm = LayerNorm(_below(tensor, "final_norm"))
        self.predictor = Linear(_below(tensor, "predictor"))

    @classmethod
    def from_file(
        cls, path: str | os.PathLike, arch: ArchitectureLike | None = None, **options
    ) -> Model:
        """Loads a weights file; `options` are those of the constructor and `put(name, values)`,
        which places a tensor on devices. Without `arch`, the architecture comes from the file's
        metadata.

        Raises `soma.WeightsError`, and `OSError` if the file cannot be read.
        """
        put = options.pop("put", lambda _, values: jnp.asarray(values))
        file = weights.Weights(path, arch)
        return cls(file.architecture, lambda name: put(name, file[name]), **options)

    @classmethod
    def init(cls, arch: ArchitectureLike, seed: bytes, **options) -> Model:
        """Random weights, equal to those of `soma model init` for the same 32-byte seed."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "init.safetensors"
            native.init(path, arch, seed)
            return cls.from_file(path, arch, **options)

    def save(self, path: str | os.PathLike) -> None:
        """Writes a weights file in float32."""
        state = {
            ".".join(map(str, name)): value
            for name, value in nnx.to_flat_state(nnx.state(self, nnx.Param))
        }
        weights.write(path, self.architecture, lambda name: np.asarray(state[name][...], "<f4"))

    def __call__(self, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Token ids `[batch, positions]` to representations `[batch, positions, dim]` and logits
        `[batch, positions, vocabulary]`."""
        rope = rope_table(tokens.shape[1], self.architecture.head_dim)
        x = self.encoder(self.embedding(tokens, self.dtype), rope)
        representations = self.final_norm(x)
        return representations, self.predictor(representations)

    def score(self, data: bytes, seed: bytes = bytes(32)) -> scores.Score:
        """Scores data in this model's precision and on its devices.

        Raises `ValueError` if the data is empty, `soma.NonFinite` and `soma.ZeroEmbedding`.
        """
        architecture = self.architecture
        model, directions = (
            nnx.view(self, deterministic=True),
            losses.directions(architecture, seed),
        )
        nll = sigreg = 0.0
        predicted = positions = 0
        total = np.zeros(architecture.dim)
        for tokens in tokenizer.batches(data, architecture.positions, _SCORE_POSITIONS):
            with jax.default_matmul_precision("float32"):
                parts = _score_chunks(model, jnp.asarray(tokens, jnp.int32), directions)
            chunk_nll, chunk_sigreg, chunk_sums = (np.asarray(part, np.float64) for part in parts)
            nll += chunk_nll.sum()
            predicted += tokens[:, 1:].size
            sigreg += chunk_sigreg.sum() * tokens.shape[1]
            positions += tokens.size
            total += chunk_sums.sum(0)
        sums = float(nll), predicted, float(sigreg), total, positions
        counted = counting.nats(data, architecture.positions)
        return scores.combine(*sums, architecture.sigreg_coefficient, counted)


@nnx.jit
def _score_chunks(
    model: Model, tokens: jax.Array, directions: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """For each chunk: the negative log likelihood of every prediction, SIGReg, and the sum of the
    representations. A logit that is not finite makes the likelihood NaN."""
    representations, logits = model(tokens)
    representations = representations.astype(jnp.float32)
    architecture = model.architecture
    finite = jnp.isfinite(logits).all(-1)
    nll = losses.negative_log_likelihoods(logits[:, :-1], tokens[:, 1:])
    nll = jnp.where(finite[:, :-1] & finite[:, -1:], nll, jnp.nan)
    sigreg = jax.lax.map(
        lambda chunk: losses.sigreg(architecture, chunk, directions, architecture.sigreg_cap),
        representations,
    )
    return nll, sigreg, representations.sum(1)


def rope_table(positions: int, head_dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines of `p / 10000^(2i / head_dim)`, float32 `[positions, 1, head_dim / 2]`."""
    i = np.arange(head_dim // 2)
    angles = np.arange(positions)[:, None, None] / 10000.0 ** (2 * i / head_dim)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def rotate(x: jax.Array, rope: tuple[np.ndarray, np.ndarray]) -> jax.Array:
    """Rotates each pair `(i, i + head_dim / 2)` of `[batch, positions, heads, head_dim]` by its
    position's angle, in float32 or better."""
    cosines, sines = rope
    first, second = jnp.split(x.astype(jnp.promote_types(x.dtype, jnp.float32)), 2, axis=-1)
    rotated = [first * cosines - second * sines, second * cosines + first * sines]
    return jnp.concatenate(rotated, -1).astype(x.dtype)


def _below(tensor: TensorOf, name: str) -> TensorOf:
    return lambda rest: tensor(f"{name}.{rest}")
