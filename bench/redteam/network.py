"""The model in NumPy: sampling, and the gradient that a search follows. The engine scores.

Shapes: B documents, T positions, D width, H heads, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from soma.weights import Weights

F32 = np.float32
EPSILON = F32(1e-5)


@dataclass(frozen=True)
class Slopes:
    """How an objective would change if one byte changed, to first order."""

    swaps: np.ndarray
    """`[T, 256]`: the change if the byte at a position became another."""


class Network:
    """Weights in memory, float32."""

    def __init__(self, path: Path):
        weights = Weights(path)
        architecture = weights.architecture
        self._weights = dict(weights)
        self.layers = architecture.layers
        self.heads = architecture.heads
        self.dim = architecture.dim
        self.positions = architecture.positions
        half = self.dim // self.heads // 2
        angle = np.arange(self.positions)[:, None] / 10000 ** (np.arange(half) / half)
        self._cos, self._sin = np.cos(angle).astype(F32), np.sin(angle).astype(F32)

    def sample(self, prompts: np.ndarray, length: int, rng, temperature: float = 1.0) -> np.ndarray:
        """Bytes `[B, length]` that begin with `prompts` `[B, any]`; all documents at once."""
        batch = len(prompts)
        width = self.dim // self.heads
        shape = (self.layers, batch, self.heads, length, width)
        keys, values = np.zeros(shape, F32), np.zeros(shape, F32)
        data = np.zeros((batch, length), np.int64)
        data[:, : prompts.shape[1]] = prompts
        for place in range(length - 1):
            x = self._weights["embedding.weight"][data[:, place]]
            for layer in range(self.layers):
                x = self._sample_layer(x, layer, place, keys[layer], values[layer])
            logits = self._linear(self._norm(x, "final_norm")[0], "predictor")[:, :256]
            if place + 1 >= prompts.shape[1]:
                noise = rng.gumbel(size=logits.shape)
                data[:, place + 1] = np.argmax(logits / temperature + noise, axis=1)
        return data.astype(np.uint8)

    def _sample_layer(self, x, layer, place, keys, values):
        name = f"encoder.layers.{layer}"
        y = self._norm(x, f"{name}.norm_1")[0]
        query, key, value = (
            self._linear(y, f"{name}.attention.{part}").reshape(len(x), self.heads, -1)
            for part in ("query", "key", "value")
        )
        cos, sin = self._cos[place], self._sin[place]
        query, keys[:, :, place] = rotate(query, cos, sin), rotate(key, cos, sin)
        values[:, :, place] = value
        scores = np.einsum("bhw,bhtw->bht", query, keys[:, :, : place + 1])
        share = softmax(scores * F32(1 / math.sqrt(query.shape[-1])))
        out = np.einsum("bht,bhtw->bhw", share, values[:, :, : place + 1]).reshape(len(x), -1)
        x = x + self._linear(out, f"{name}.attention.output")
        y = self._norm(x, f"{name}.norm_2")[0]
        y = gelu(self._linear(y, f"{name}.pwff.linear_inner"))[0]
        return x + self._linear(y, f"{name}.pwff.linear_outer")

    def embedding(self, data: bytes) -> np.ndarray:
        """Unit length; for comparison with the engine."""
        mean = self._forward(np.frombuffer(data, np.uint8))[0].mean(axis=0)
        return mean / np.linalg.norm(mean)

    def slopes(
        self, data: bytes, target: np.ndarray, middle: np.ndarray, understanding: float
    ) -> Slopes:
        """The slopes of `cos(embedding - middle, target) - understanding * cross-entropy` for one
        chunk."""
        tokens = np.frombuffer(data, np.uint8).astype(np.int64)
        count = len(tokens)
        representations, steps = self._forward(tokens)
        mean = representations.mean(axis=0)
        length = np.linalg.norm(mean)
        unit = mean / length
        seen = unit - middle
        distance = np.linalg.norm(seen)
        direction = seen / distance
        slope = (target - (target @ direction) * direction) / distance
        slope = (slope - (slope @ unit) * unit) / length / count
        gradient = np.broadcast_to(slope, representations.shape).astype(F32)
        logits = self._linear(representations, "predictor")
        share = softmax(logits)
        log_share = np.log(share[:-1, :256] + F32(1e-30))
        scale = F32(understanding / (count - 1))
        pull = -share
        pull[-1] = 0
        pull[np.arange(count - 1), tokens[1:]] += 1
        gradient = gradient + scale * (pull @ self._weights["predictor.weight"].T)
        gradient = self._backward(gradient, steps)
        table = self._weights["embedding.weight"][:256]
        swaps = gradient @ table.T
        swaps[1:] += scale * log_share
        swaps -= swaps[np.arange(count), tokens][:, None]
        return Slopes(swaps)

    def _forward(self, tokens):
        x = self._weights["embedding.weight"][tokens]
        steps = []
        for layer in range(self.layers):
            name = f"encoder.layers.{layer}"
            x, attention = self._attention(x, name)
            y, norm = self._norm(x, f"{name}.norm_2")
            y, slope = gelu(self._linear(y, f"{name}.pwff.linear_inner"))
            x = x + self._linear(y, f"{name}.pwff.linear_outer")
            steps.append((name, attention, norm, slope))
        x, norm = self._norm(x, "final_norm")
        steps.append(("final_norm", norm))
        return x, steps

    def _attention(self, x, name):
        count = len(x)
        y, norm = self._norm(x, f"{name}.norm_1")
        query, key, value = (
            self._linear(y, f"{name}.attention.{part}")
            .reshape(count, self.heads, -1)
            .transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        cos, sin = self._cos[:count], self._sin[:count]
        query, key = rotate(query, cos, sin), rotate(key, cos, sin)
        scale = F32(1 / math.sqrt(query.shape[-1]))
        scores = query @ key.transpose(0, 2, 1) * scale
        scores[:, ~np.tri(count, dtype=bool)] = -np.inf
        share = softmax(scores)
        out = (share @ value).transpose(1, 0, 2).reshape(count, -1)
        return x + self._linear(out, f"{name}.attention.output"), (norm, query, key, value, share)

    def _backward(self, gradient, steps):
        """From the gradient of the representations to that of the first layer's input."""
        name, norm = steps[-1]
        gradient = self._norm_back(gradient, norm, name)
        for name, attention, norm, slope in reversed(steps[:-1]):
            inner = self._back(gradient, f"{name}.pwff.linear_outer") * slope
            inner = self._back(inner, f"{name}.pwff.linear_inner")
            gradient = gradient + self._norm_back(inner, norm, f"{name}.norm_2")
            gradient = gradient + self._attention_back(gradient, attention, name)
        return gradient

    def _attention_back(self, gradient, attention, name):
        norm, query, key, value, share = attention
        count = len(gradient)
        out = self._back(gradient, f"{name}.attention.output")
        out = out.reshape(count, self.heads, -1).transpose(1, 0, 2)
        shares = out @ value.transpose(0, 2, 1)
        scores = share * (shares - (share * shares).sum(axis=-1, keepdims=True))
        scores *= F32(1 / math.sqrt(query.shape[-1]))
        cos, sin = self._cos[:count], -self._sin[:count]
        parts = {
            "query": rotate(scores @ key, cos, sin),
            "key": rotate(scores.transpose(0, 2, 1) @ query, cos, sin),
            "value": share.transpose(0, 2, 1) @ out,
        }
        total = sum(
            self._back(part.transpose(1, 0, 2).reshape(count, -1), f"{name}.attention.{which}")
            for which, part in parts.items()
        )
        return self._norm_back(total, norm, f"{name}.norm_1")

    def _linear(self, x, name):
        return x @ self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]

    def _back(self, gradient, name):
        return gradient @ self._weights[f"{name}.weight"].T

    def _norm(self, x, name):
        centered = x - x.mean(axis=-1, keepdims=True)
        inverse = 1 / np.sqrt((centered * centered).mean(axis=-1, keepdims=True) + EPSILON)
        z = centered * inverse
        return z * self._weights[f"{name}.gamma"] + self._weights[f"{name}.beta"], (z, inverse)

    def _norm_back(self, gradient, norm, name):
        z, inverse = norm
        gradient = gradient * self._weights[f"{name}.gamma"]
        mean = gradient.mean(axis=-1, keepdims=True)
        return inverse * (gradient - mean - z * (gradient * z).mean(axis=-1, keepdims=True))


def rotate(x, cos, sin):
    """Rotary positions, or their reverse with `-sin`; the pairs are the two halves of a head."""
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


def softmax(x):
    """Along the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def gelu(x):
    """Value and derivative, by the approximation with a hyperbolic tangent."""
    inner = F32(0.7978845608) * (x + F32(0.044715) * x**3)
    tanh = np.tanh(inner)
    slope = F32(0.7978845608) * (1 + F32(3 * 0.044715) * x * x)
    return 0.5 * x * (1 + tanh), 0.5 * (1 + tanh) + 0.5 * x * (1 - tanh * tanh) * slope
