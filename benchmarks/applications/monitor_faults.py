"""Load and faults: texts go through Redis and two workers, which are killed at random, as Redis is; all are counted.

    python benchmarks/applications/monitor_faults.py BUILT --texts 2000 --kills 6 --output result.json

BUILT is the folder of a built monitor. Everything is on the loopback and bounded: so many texts, so many kills, at most
``--limit`` seconds. With ``--kills 0`` it measures throughput: texts stored in a second, end to end, from the first
text in the stream to the last one acknowledged, loading the models left out. A text is accepted once Redis has answered
its XADD; a producer whose XADD failed sends the text again under the same id. The texts are short and made up; with
``--table`` they are those of a table's column ``text``, as long as people's are. With ``--http`` every other text goes
to `app serve` instead, which is then among the processes that are killed; a text is accepted once it has answered 202.
"""

from __future__ import annotations

import argparse
import csv
import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import redis
from sqlalchemy import create_engine, text

from peftlab.core.address import bind

PHRASES = ("late again", "lost my bag", "rude crew", "thanks for the help", "no answer on the phone", "seat was broken")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("built", type=Path)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--limit", type=float, default=600)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", type=Path, help="A CSV file with a column `text`.")
    parser.add_argument("--http", action="store_true", help="Every other text goes to the HTTP service.")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    if shutil.which("redis-server") is None:
        sys.exit("redis-server is not installed")
    folder = Path(tempfile.mkdtemp(prefix="peftlab-faults-"))
    try:
        result = Trial(given, folder).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(result, indent=2))
    if given.output:
        given.output.write_text(json.dumps(result, indent=2) + "\n")
    if result["stored"] != result["accepted"]:
        sys.exit(1)


class Trial:
    """One run: the server, its workers, a producer, and kills."""

    def __init__(self, given: argparse.Namespace, folder: Path) -> None:
        self.texts: list[str] = []
        if given.table is not None:
            with given.table.open(encoding="utf-8", newline="") as file:
                self.texts = [row["text"] for row in csv.DictReader(file)]
        self.given, self.folder, self.random = given, folder, random.Random(given.seed)  # noqa: S311
        with bind("127.0.0.1", 0) as free:
            self.port = free.getsockname()[1]
        with bind("127.0.0.1", 0) as free:
            self.http_port = free.getsockname()[1]
        self.client = redis.Redis(port=self.port, decode_responses=True, socket_timeout=5)
        self.database = f"sqlite:///{folder / 'texts.db'}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def run(self) -> dict[str, Any]:
        """Begin, kill, wait until all is stored, and count."""
        self.start("redis")
        for number in range(self.given.workers):
            self.start(f"worker{number}")
        if self.given.http:
            self.start("server")
        try:
            self.wait_until(lambda: self.consumers() >= self.given.workers)
            self.wait_until(lambda: not self.given.http or self.is_healthy())
            began = time.monotonic()
            kills = sorted(self.random.sample(range(1, self.given.texts), self.given.kills))
            killed: list[str] = []
            for at in range(self.given.texts):
                self.send(at)
                if kills and at == kills[0]:
                    kills.pop(0)
                    killed.append(self.kill())
            self.wait_until(lambda: self.stored() >= self.given.texts, began + self.given.limit)
            self.wait_until(lambda: self.pending() == 0, began + self.given.limit)
            seconds = time.monotonic() - began
            return {
                "accepted": self.given.texts, "stored": self.stored(), "seconds": round(seconds, 1),
                "texts_per_second": round(self.given.texts / seconds, 1), "killed": killed,
                "workers": self.given.workers, "threads": self.given.threads,
            }  # fmt: skip
        finally:
            for process in self.processes.values():
                process.kill()
                process.wait()

    def start(self, name: str) -> None:
        """Start one process, anew where it was killed."""
        if name == "redis":
            options = f"--port {self.port} --bind 127.0.0.1 --dir {self.folder} --appendonly yes --appendfsync always"
            command = ["redis-server", *options.split(), "--save", ""]
        elif name == "server":
            command = [
                sys.executable, "-m", "peftlab", "app", "serve", str(self.given.built), "--port", str(self.http_port),
                "--database", self.database, "--threads", str(self.given.threads), "--offline",
            ]  # fmt: skip
        else:
            command = [
                sys.executable, "-m", "peftlab", "app", "feed", str(self.given.built),
                f"redis://127.0.0.1:{self.port}/0/texts", "--database", self.database,
                "--threads", str(self.given.threads), "--offline",
            ]  # fmt: skip
        log = (self.folder / f"{name}.log").open("ab")
        self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ))
        if name == "redis":
            self.wait_until(self.answers)

    def kill(self) -> str:
        """Kill one of them at random, and start it again."""
        name = self.random.choice(sorted(self.processes))
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait()
        self.start(name)
        return name

    def send(self, at: int) -> None:
        """Until it is accepted."""
        fields = {
            "id": f"text{at}", "stream": f"airline{at % 3}", "time": str(1.5e9 + at),
            "text": self.text(at),
        }  # fmt: skip
        for _ in range(4000):
            if self.given.http and at % 2:
                if self.post(fields):
                    return
                time.sleep(0.05)
                continue
            try:
                self.client.xadd("texts", fields)
                return
            except redis.RedisError:
                time.sleep(0.05)
        raise RuntimeError("what was killed does not come back")

    def post(self, fields: dict[str, str]) -> bool:
        """Whether the service has answered that the text is kept."""
        body = json.dumps([fields]).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http_port}/api/texts", body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return bool(answer.status == 202)
        except (OSError, http.client.HTTPException):
            return False

    def is_healthy(self) -> bool:
        """Whether the service answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/healthz", timeout=5):
                return True
        except (OSError, http.client.HTTPException):
            return False

    def text(self, at: int) -> str:
        """What is sent as the text of this number."""
        if self.texts:
            return self.texts[at % len(self.texts)]
        return f"@airline{at % 3} {self.random.choice(PHRASES)}, flight {at} and {at * 7919 % 9973}"

    def answers(self) -> bool:
        """Whether Redis does, its file read."""
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def consumers(self) -> int:
        """Workers that wait for texts: Redis names a consumer only once it has got one."""
        try:
            return sum(client["cmd"] == "xreadgroup" for client in self.client.client_list())
        except redis.RedisError:
            return 0

    def pending(self) -> int:
        """Given to a worker and not acknowledged."""
        try:
            return int(self.client.xpending("texts", "peftlab")["pending"])
        except redis.RedisError:
            return -1

    def stored(self) -> int:
        """Texts in the database; their names are unique."""
        engine = create_engine(self.database)
        with engine.begin() as connection:
            count = connection.execute(text("SELECT count(*) FROM texts WHERE sentiment IS NOT NULL")).scalar()
        engine.dispose()
        return int(count or 0)

    def wait_until(self, is_so: Any, end: float | None = None) -> None:
        """Look twenty times a second."""
        end = end or time.monotonic() + 400
        while not is_so():
            if time.monotonic() > end:
                raise TimeoutError("it took too long")
            time.sleep(0.05)


if __name__ == "__main__":
    main()
