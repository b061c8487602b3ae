#!/usr/bin/env python3
"""Scores of V1 on a card and, if PyTorch is there, the same layers in it, alternately: A B A B.

`bench/gpu.sh` starts it with the program that compares bits first and then scores on demand.
PyTorch computes in float32 with TF32 off: embedding, layers with rotary embedding and fused
attention, logits and cross-entropy, but no SIGReg. The medians of all turns are printed.

It only measures: nothing here defines a score. What there is no time or memory for it leaves out,
and says so.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from typing import Any, Protocol

try:
    import torch
    from torch.nn import functional
except ImportError:
    torch = None

DIM, HEADS, FFN, VOCABULARY, POSITIONS = 2048, 8, 8192, 264, 1024
TURNS = 9
SIZES = [1024, 16 * 1024]
# Seconds after the start at which the comparison ends, and everything.
COMPARED, END = 150, 280


class Scorer(Protocol):
    """What is measured."""

    name: str

    def seconds(self, count: int) -> float:
        """The time of a score of so many bytes."""
        ...


class Program:
    """The program, which has compared bits when this is made."""

    name = "soma (a whole score)"

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            [*command, "--seconds", str(COMPARED), "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        word, _, layers = self.line().partition(" ")
        if word != "ready":
            sys.exit("gpu: the card does not give the bits of the CPU, or cannot compute")
        self.layers = int(layers)

    def line(self) -> str:
        """What it says next."""
        return self.process.stdout.readline().strip()

    def seconds(self, count: int) -> float:
        """The time of a score of so many bytes."""
        print(count, file=self.process.stdin, flush=True)
        answer = self.line()
        if not answer:
            sys.exit("gpu: the program ended")
        return float(answer)


class Layers:
    """V1, or some of its layers, with random weights in PyTorch."""

    name = "PyTorch (layers and cross-entropy)"

    def __init__(self, layers: int) -> None:
        def random(*shape: int) -> Any:
            return torch.randn(*shape, device="cuda") * 0.02

        self.embedding = random(VOCABULARY, DIM)
        self.layers = [
            (random(3 * DIM, DIM), random(DIM, DIM), random(FFN, DIM), random(DIM, FFN))
            for _ in range(layers)
        ]
        self.bias = [random(width) for width in (3 * DIM, DIM, FFN, DIM, VOCABULARY)]
        self.gamma = torch.ones(DIM, device="cuda")
        self.predictor = random(VOCABULARY, DIM)
        half = DIM // HEADS // 2
        powers = 10000 ** (torch.arange(half, device="cuda") / half)
        angles = torch.arange(POSITIONS, device="cuda")[:, None] / powers
        self.cos, self.sin = angles.cos(), angles.sin()

    def rotated(self, x: Any) -> Any:
        """Rotary embedding of `[chunks, heads, positions, width]`."""
        a, b = x.chunk(2, dim=-1)
        return torch.cat([a * self.cos - b * self.sin, b * self.cos + a * self.sin], dim=-1)

    def normed(self, x: Any) -> Any:
        """LayerNorm."""
        return functional.layer_norm(x, (DIM,), self.gamma, self.gamma)

    def loss(self, tokens: Any) -> float:
        """The cross-entropy of chunks of tokens, `[chunks, positions]`."""
        x = self.embedding[tokens]
        chunks = tokens.shape[0]
        for projection, output, inner, outer in self.layers:
            mixed = functional.linear(self.normed(x), projection, self.bias[0])
            parts = mixed.view(chunks, POSITIONS, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
            query, key, value = self.rotated(parts[0]), self.rotated(parts[1]), parts[2]
            mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
            mixed = mixed.transpose(1, 2).reshape(chunks, POSITIONS, DIM)
            x = x + functional.linear(mixed, output, self.bias[1])
            hidden = functional.gelu(functional.linear(self.normed(x), inner, self.bias[2]))
            x = x + functional.linear(hidden, outer, self.bias[3])
        logits = functional.linear(self.normed(x), self.predictor, self.bias[4])
        flat = logits[:, :-1].reshape(-1, VOCABULARY)
        return functional.cross_entropy(flat, tokens[:, 1:].reshape(-1)).item()

    def seconds(self, count: int) -> float:
        """The time of so many bytes; `item` above waits for the card."""
        tokens = torch.randint(0, 256, (count // POSITIONS, POSITIONS), device="cuda")
        torch.cuda.synchronize()
        begun = time.perf_counter()
        with torch.inference_mode():
            self.loss(tokens)
        return time.perf_counter() - begun


def layers_in_pytorch(device: str, layers: int) -> Layers | None:
    """The layers, unless PyTorch or its memory is absent."""
    if torch is None or not torch.cuda.is_available():
        print("gpu: skipped: PyTorch with CUDA is absent (pip install torch)")
        return None
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.cuda.set_device(device)
    try:
        made = Layers(layers)
    except torch.cuda.OutOfMemoryError:
        print("gpu: skipped: PyTorch, for which the card has too little memory besides")
        return None
    print(f"gpu: PyTorch {torch.__version__}, TF32 off, on {torch.cuda.get_device_name()}")
    return made


def measure(count: int, scorers: list[Scorer], end: float) -> dict[str, list[float]]:
    """Times of each in turn, until there are enough or it is `end`; none if one turn is late."""
    times: dict[str, list[float]] = {scorer.name: [] for scorer in scorers}
    # The first turn is a warm-up.
    for turn in range(TURNS + 1):
        begun = time.monotonic()
        for scorer in scorers:
            seconds = scorer.seconds(count)
            if turn > 0:
                times[scorer.name].append(seconds)
        now = time.monotonic()
        if now + (now - begun) > end:
            break
    return times


def main() -> None:
    """Compares, then measures each in turn and prints."""
    start = time.monotonic()
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--without-pytorch", action="store_true")
    arguments = parser.parse_args()
    device = arguments.device
    program = Program([arguments.program, "--device", device, "--seed", arguments.seed])
    print(f"gpu: equal, but for what was skipped; measuring {program.layers} layers of V1")
    scorers: list[Scorer] = [program]
    if not arguments.without_pytorch:
        layers = layers_in_pytorch(device, program.layers)
        scorers += [layers] if layers else []
    for index, count in enumerate(SIZES):
        left = start + END - time.monotonic()
        times = measure(count, scorers, time.monotonic() + left / (len(SIZES) - index))
        if not all(times.values()):
            print(f"gpu: skipped: {count // 1024} KiB, for which there is no time")
            break
        medians = {name: statistics.median(each) for name, each in times.items()}
        turns = min(len(each) for each in times.values())
        said = ", ".join(f"{name} {1e3 * median:.1f} ms" for name, median in medians.items())
        print(f"gpu: {count // 1024} KiB, {turns} turns: {said}")
    print("gpu: done")


if __name__ == "__main__":
    main()
