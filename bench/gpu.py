#!/usr/bin/env python3
"""Scores of V1 on a card and the same layers in PyTorch, alternately: A B A B.

`bench/gpu.sh` starts it with the program that compares bits first and then scores on demand.
PyTorch computes in float32 with TF32 off: embedding, 24 layers with rotary embedding and fused
attention, logits and cross-entropy, but no SIGReg. The medians of all turns are printed.

It only measures: nothing here defines a score.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import torch
from torch.nn import functional

LAYERS, DIM, HEADS, FFN, VOCABULARY, POSITIONS = 24, 2048, 8, 8192, 264, 1024
TURNS = 9
SIZES = [1024, 16 * 1024]


class Program:
    """The program, which has compared bits when this is made."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            [*command, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        if self.line() != "ready":
            sys.exit("gpu: the card does not give the bits of the CPU")

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
    """V1 with random weights."""

    def __init__(self) -> None:
        def random(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, device="cuda") * 0.02

        self.embedding = random(VOCABULARY, DIM)
        self.layers = [
            (random(3 * DIM, DIM), random(DIM, DIM), random(FFN, DIM), random(DIM, FFN))
            for _ in range(LAYERS)
        ]
        self.bias = [random(width) for width in (3 * DIM, DIM, FFN, DIM, VOCABULARY)]
        self.gamma = torch.ones(DIM, device="cuda")
        self.predictor = random(VOCABULARY, DIM)
        half = DIM // HEADS // 2
        powers = 10000 ** (torch.arange(half, device="cuda") / half)
        angles = torch.arange(POSITIONS, device="cuda")[:, None] / powers
        self.cos, self.sin = angles.cos(), angles.sin()

    def rotated(self, x: torch.Tensor) -> torch.Tensor:
        """Rotary embedding of `[chunks, heads, positions, width]`."""
        a, b = x.chunk(2, dim=-1)
        return torch.cat([a * self.cos - b * self.sin, b * self.cos + a * self.sin], dim=-1)

    def normed(self, x: torch.Tensor) -> torch.Tensor:
        """LayerNorm."""
        return functional.layer_norm(x, (DIM,), self.gamma, self.gamma)

    @torch.inference_mode()
    def loss(self, tokens: torch.Tensor) -> float:
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
        self.loss(tokens)
        return time.perf_counter() - begun


def main() -> None:
    """Compares, then measures each in turn and prints."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    device = sys.argv[sys.argv.index("--device") + 1] if "--device" in sys.argv else "cuda:0"
    torch.cuda.set_device(device)
    program, layers = Program(sys.argv[1:]), Layers()
    print(f"gpu: {torch.cuda.get_device_name()}, PyTorch {torch.__version__}, TF32 off")
    for count in SIZES:
        times: dict[str, list[float]] = {"soma": [], "PyTorch": []}
        # The first turn is a warm-up.
        for turn in range(TURNS + 1):
            for name, one in (("soma", program), ("PyTorch", layers)):
                seconds = one.seconds(count)
                if turn > 0:
                    times[name].append(seconds)
        medians = {name: 1e3 * statistics.median(all_) for name, all_ in times.items()}
        print(
            f"gpu: {count // 1024} KiB: soma {medians['soma']:.1f} ms (a whole score), "
            f"PyTorch {medians['PyTorch']:.1f} ms (layers and cross-entropy): "
            f"{medians['PyTorch'] / medians['soma']:.2f} times as fast"
        )
    print("gpu: equal")


if __name__ == "__main__":
    main()
