"""Two network namespaces as two machines: the same losses, and a cut link that ends the run.

    sudo python benchmarks/processes/two_machines.py RECIPE [--set KEY=VALUE]…

The namespaces have loopback and one link between them, so that the processes meet over its addresses alone. The first
run is compared with one of a single process. In the second the link is cut once there is a checkpoint: both processes
must end within the time-out, and a single process must go on to the same losses. Needs Linux, `ip`, and root.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

MACHINES = ("peftlab-a", "peftlab-b")
LINKS = ("peftlab-va", "peftlab-vb")
ADDRESSES = ("10.77.0.1", "10.77.0.2")
TIMEOUT = 10.0


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@contextlib.contextmanager
def two_machines() -> Iterator[None]:
    """Two namespaces that see each other; gone afterwards."""
    try:
        for name in MACHINES:
            ip("netns", "add", name)
        ip("link", "add", LINKS[0], "type", "veth", "peer", "name", LINKS[1])
        for name, link, address in zip(MACHINES, LINKS, ADDRESSES, strict=True):
            ip("link", "set", link, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", link)
            ip("-n", name, "link", "set", link, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield
    finally:
        for name in MACHINES:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def command(recipe: str, folder: Path, options: list[str]) -> list[str]:
    return [sys.executable, "-m", "peftlab", "run", recipe, "--device", "cpu", "--output-dir", str(folder), *options]


def start(rank: int, port: int, line: list[str]) -> subprocess.Popen[str]:
    own = {"RANK": rank, "LOCAL_RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": ADDRESSES[0], "MASTER_PORT": port}
    return subprocess.Popen(
        ["ip", "netns", "exec", MACHINES[rank], *line],
        env={**os.environ, **{name: str(value) for name, value in own.items()}},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def compare(folder: Path, alone: Path) -> None:
    found, wanted = losses(folder), losses(alone)
    worst = max(abs(a - b) / abs(b) for a, b in zip(found, wanted, strict=True))
    print(f"{len(found)} losses, the largest relative difference is {worst:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    options = [part for value in given.set for part in ("--set", value)]
    cut = [*options, "--set", "training.checkpoint_every_steps=2"]
    with tempfile.TemporaryDirectory() as name, two_machines():
        folder = Path(name)
        subprocess.run(command(given.recipe, folder / "alone", options), check=True, capture_output=True)
        line = command(given.recipe, folder / "together", options)
        for process in [start(rank, 29501, line) for rank in (0, 1)]:
            output, _ = process.communicate()
            print(f"exit code {process.returncode}", *output.splitlines()[-1:])
        compare(folder / "together", folder / "alone")

        line = [*command(given.recipe, folder / "cut", cut), "--process-timeout", str(TIMEOUT)]
        processes = [start(rank, 29502, line) for rank in (0, 1)]
        while not list((folder / "cut" / "checkpoints").glob("step-*")):
            if processes[0].poll() is not None:
                raise SystemExit(f"the run ended too early: {processes[0].communicate()[0]}")
            time.sleep(0.02)
        ip("-n", MACHINES[1], "link", "set", LINKS[1], "down")
        began = time.monotonic()
        for rank, process in enumerate(processes):
            output, _ = process.communicate(timeout=TIMEOUT + 30)
            seconds = time.monotonic() - began
            print(f"link cut: process {rank} ended after {seconds:.1f} s with {process.returncode}:")
            print("\n".join(f"    {text}" for text in output.splitlines()[-8:]))
        again = subprocess.run(
            [*command(given.recipe, folder / "cut", cut), "--resume"], check=False, capture_output=True, text=True
        )
        print(f"resumed by one process: exit code {again.returncode}", *again.stderr.splitlines()[-1:])
        compare(folder / "cut", folder / "alone")


if __name__ == "__main__":
    main()
