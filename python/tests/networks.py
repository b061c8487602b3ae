"""Local networks of the binary, for tests against a real node."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def binary():
    """The program `soma`, if there is one."""
    built = [ROOT / "target" / kind / "soma" for kind in ("release", "debug")]
    found = os.environ.get("SOMA_BIN") or next((str(path) for path in built if path.exists()), None)
    return found or shutil.which("soma")


@contextlib.contextmanager
def local_network(folder, *flags):
    """A running local network whose phases are ended by hand: what it says of itself. Its data and
    keys are in `folder`. Skips the test where there is no binary."""
    if binary() is None:
        pytest.skip("no soma binary: cargo build --release, or name it in SOMA_BIN")
    info = folder / "info.json"
    command = [binary(), "localnet", "--epoch", "manual", "--port", "0", "--info-out", str(info)]
    command += ["--state", str(folder / "localnet"), *flags]
    environment = {**os.environ, "SOMA_HOME": str(folder)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline(), "it says its URL when it is up"
            yield json.loads(info.read_text())
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)


def command(folder, network, *arguments):
    """What a command says of a network, as JSON; `None` if it says nothing."""
    environment = {**os.environ, "SOMA_HOME": str(folder), "SOMA_URL": network["urls"][0]}
    done = subprocess.run(
        [binary(), *arguments, "--json"], env=environment, capture_output=True, check=True
    )
    return json.loads(done.stdout) if done.stdout else None
