#!/usr/bin/env python3
"""PyTorch and `soma`, alternately on this machine: same model, same work, same threads.

Forward: layers of V1 on 1024 positions in float32, the public `soma-models` module as it is.
Training: a step of `nano` on 16 windows of 256 bytes, twice. Once with the public module, where
only the axis of SIGReg's means is fixed; once with this repository's PyTorch twin, whose SIGReg
is written for speed. AdamW is the fused one.

It must never be imported by the package, and it only measures: nothing here defines a score.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parent.parent
NEEDED = {
    "torch": "pip install torch",
    "soma_models": "pip install soma-models",
    "soma": f"pip install '{ROOT / 'python'}[torch]'",
}
POSITIONS = 1024
BATCH = 16
WINDOW = 256
TITLES = {
    "forward": f"V1, {{layers}} layers, {POSITIONS} positions",
    "train": f"nano step, {BATCH} x {WINDOW}, public",
    "train_twin": f"nano step, {BATCH} x {WINDOW}, twin",
}


def main() -> None:
    """Measures each in turn and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2, help="of both [default: 2]")
    parser.add_argument("--turns", type=int, default=5, help="A B A B ... [default: 5]")
    parser.add_argument(
        "--rounds", type=int, default=3, help="the best of a turn's rounds counts [default: 3]"
    )
    parser.add_argument("--layers", type=int, default=4, help="of V1's 24 [default: 4]")
    parser.add_argument("--compile", action="store_true", help="PyTorch through torch.compile")
    parser.add_argument(
        "--soma", default=None, help="the binary [default: target/release/soma, else PATH]"
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of the table")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    require()
    if args.worker:
        serve(args)
        return
    soma = binary(args.soma)
    with Torch(args) as torch:
        turns = []
        for turn in range(args.turns):
            say(f"turn {turn + 1} of {args.turns}: PyTorch")
            theirs = torch.turn()
            say(f"turn {turn + 1} of {args.turns}: soma")
            turns.append((theirs, ours(soma, args)))
    say("")
    report(args, torch.version, turns)


def require() -> None:
    """Ends with advice if a package is missing."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"error: {', '.join(missing)} cannot be imported by {sys.executable}", file=sys.stderr
        )
        for name in missing:
            print(f"hint: {NEEDED[name]}", file=sys.stderr)
        sys.exit(1)


def binary(named: str | None) -> str:
    """The `soma` to measure."""
    built = ROOT / "target" / "release" / "soma"
    found = named or (str(built) if built.is_file() else shutil.which("soma"))
    if found is None:
        print("error: no soma binary\nhint: cargo build --release, or --soma FILE", file=sys.stderr)
        sys.exit(1)
    return found


def say(text: str) -> None:
    """Progress, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def ours(soma: str, args: argparse.Namespace) -> dict[str, list[float]]:
    """Wall and CPU seconds of one turn of `soma bench engine`."""
    command = [soma, "bench", "engine", "--json", "--only", "forward", "--only", "train"]
    for name in ("threads", "rounds", "layers"):
        command += [f"--{name}", str(getattr(args, name))]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    measured = json.loads(done.stdout)
    forward = next(entry for entry in measured["forward"] if entry["positions"] == POSITIONS)
    step = measured["train"][0]
    entries = {"forward": forward, "train": step, "train_twin": step}
    return {name: [entry["seconds"], entry.get("cpu_seconds")] for name, entry in entries.items()}


class Torch:
    """PyTorch in a process of its own, idle while it is not its turn."""

    def __init__(self, args: argparse.Namespace):
        command = [sys.executable, __file__, "--worker"]
        for name in ("threads", "rounds", "layers"):
            command += [f"--{name}", str(getattr(args, name))]
        command += ["--compile"] if args.compile else []
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, **pipes)
        self.version = self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.wait()

    def turn(self) -> dict[str, list[float]]:
        """Wall and CPU seconds of one turn."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(self.process.wait() or 1)
        return json.loads(line)


def serve(args: argparse.Namespace) -> None:
    """The worker: one line of seconds for each line it reads."""
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    work = {
        "forward": forward_pass(args),
        "train": public_training_step(args),
        "train_twin": twin_training_step(args),
    }
    for run in work.values():
        run()
        run()
    print(json.dumps(torch.__version__), flush=True)
    for _ in sys.stdin:
        print(json.dumps({name: best(run, args.rounds) for name, run in work.items()}), flush=True)


def best(run, rounds: int) -> list[float]:
    """Wall and CPU seconds of the quickest round."""
    measured = []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        measured.append([time.perf_counter() - wall, time.process_time() - cpu])
    return min(measured)


def forward_pass(args: argparse.Namespace):
    """Tokens to logits with the public module, whose attention is causal with these positions."""
    import torch
    from soma_models.v1.configs import ModelConfig
    from soma_models.v1.torch.modules.model import Model

    model = Model(ModelConfig(dropout_rate=0.0, num_layers=args.layers)).eval()
    model = torch.compile(model) if args.compile else model
    tokens = torch.randint(0, 256, (1, POSITIONS))
    positions = torch.arange(POSITIONS)[None]

    @torch.inference_mode()
    def run() -> None:
        model(tokens, positions)

    return run


def public_training_step(args: argparse.Namespace):
    """A step with the public module and its SIGReg, the means over samples as in its paper."""
    import torch
    from soma_models.v1.configs import ModelConfig, SIGRegConfig
    from soma_models.v1.torch.modules.model import Model
    from soma_models.v1.torch.modules.sig_reg import SIGReg

    nano = {"embedding_dim": 128, "pwff_hidden_dim": 512, "num_layers": 4, "num_heads": 4}
    model = Model(ModelConfig(dropout_rate=0.0, **nano))
    sigreg = SIGReg(SIGRegConfig())
    positions = torch.arange(WINDOW).expand(BATCH, WINDOW)
    called = torch.compile(model.encode) if args.compile else model.encode

    def regularizer(x):
        directions = torch.randn(x.shape[-1], sigreg.config.slices)
        projected = x.flatten(0, -2) @ (directions / directions.norm(dim=0))
        phases = projected.unsqueeze(-1) * sigreg.t
        error = (phases.cos().mean(0) - sigreg.phi) ** 2 + phases.sin().mean(0) ** 2
        distance = (error * sigreg.weights).sum(-1).mean()
        return min(len(projected), 256) * distance * sigreg.config.coefficient

    def loss(tokens, targets):
        encoded = called(tokens, positions)
        logits = model.predict(encoded)
        entropy = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return entropy + regularizer(encoded)

    return training_step(model, loss)


def twin_training_step(args: argparse.Namespace):
    """A step with this repository's PyTorch twin."""
    import soma.torch
    import torch

    model = soma.torch.Model.init("nano", bytes(32))
    architecture = model.architecture
    directions = soma.torch.directions(architecture, bytes(32))
    called = torch.compile(model) if args.compile else model

    def loss(tokens, targets):
        return soma.torch.compute_loss(
            called, tokens, targets, directions, architecture=architecture
        ).loss

    return training_step(model, loss)


def training_step(model, loss):
    """Forward, backward, SIGReg, clipping and AdamW."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    tokens = torch.randint(0, 256, (BATCH, WINDOW))
    targets = tokens.roll(-1, 1)

    def run() -> None:
        optimizer.zero_grad()
        loss(tokens, targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return run


def report(args: argparse.Namespace, version: str, turns: list) -> None:
    """The best turn of each side, and the median over turns of their ratio."""
    facts = {
        "schema": "against_pytorch/1",
        "pytorch": version,
        "compile": args.compile,
        "threads": args.threads,
    }
    for name in TITLES:
        theirs, mine = ([turn[side][name] for turn in turns] for side in (0, 1))
        cpu = [a[1] / b[1] for a, b in zip(theirs, mine, strict=True) if b[1]]
        facts[name] = {
            "pytorch": dict(zip(("seconds", "cpu_seconds"), min(theirs), strict=True)),
            "soma": dict(zip(("seconds", "cpu_seconds"), min(mine), strict=True)),
            "ratio": statistics.median(a[0] / b[0] for a, b in zip(theirs, mine, strict=True)),
            "cpu_ratio": statistics.median(cpu) if cpu else None,
        }
    if args.json:
        print(json.dumps(facts))
        return
    compiled = ", compiled" if args.compile else ""
    print(f"PyTorch {version}{compiled} against soma, {args.threads} threads, {args.turns} turns")
    print(f"{'':38}{'PyTorch':>20}{'soma':>20}   times as fast (median)")
    for name, title in TITLES.items():
        title = title.format(layers=args.layers)
        entry = facts[name]
        for kind, ratio in (("seconds", "ratio"), ("cpu_seconds", "cpu_ratio")):
            values = [entry[side][kind] for side in ("pytorch", "soma")]
            if None in values:
                continue
            label = f"{title}, {'wall' if kind == 'seconds' else 'CPU'}"
            theirs, mine = (f"{1e3 * value:.1f} ms" for value in values)
            print(f"{label:38}{theirs:>20}{mine:>20}   {entry[ratio]:.2f}")


if __name__ == "__main__":
    main()
