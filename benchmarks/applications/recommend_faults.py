"""Kills a served recommender at random while events come in, and counts afterwards: every accepted event, each once.

    python benchmarks/applications/recommend_faults.py FOLDER [--rounds 3] [--events 150]

FOLDER is a built recommender. The server listens on 127.0.0.1 alone, its database lies in a folder that goes away, and
the script ends by itself: so many rounds of so many requests. What was answered must be there; what was not answered is
sent again with the same id, and must be there once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path


def start(folder: Path, database: Path) -> tuple[subprocess.Popen[str], str]:
    """A server, and its address."""
    command = [sys.executable, "-m", "peftlab", "app", "serve", str(folder), "--port", "0", "--offline"]
    process = subprocess.Popen(
        [*command, "--database", f"sqlite:///{database}"], stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            return process, found[0]
    raise SystemExit("the server did not start")


def send(address: str, event: dict[str, str]) -> bool:
    """Whether an event was answered."""
    body = json.dumps({"events": [event]}).encode()
    request = urllib.request.Request(f"{address}/api/events", body, {"Content-Type": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def main() -> None:
    """Kill, start again, count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=150)
    given = parser.parse_args()
    items = json.loads((given.folder / "catalogue.json").read_text())["ids"]
    draws, accepted, sent = random.Random(0), set(), 0  # noqa: S311 - when to kill is no secret
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "events.db"
        waiting: list[dict[str, str]] = []
        for turn in range(given.rounds + 1):
            process, address = start(given.folder, database)
            dies = draws.randrange(20, given.events) if turn < given.rounds else None
            queue = [*waiting, *({"id": f"{turn}-{at}", "user": f"u{at % 7}", "item": draws.choice(items)} for at in range(given.events))]  # fmt: skip  # noqa: E501
            waiting = []
            for at, event in enumerate(queue):
                if at == dies:
                    # The next request is on its way when the process dies.
                    pid = os.fork()
                    if pid == 0:
                        time.sleep(draws.random() * 0.02)
                        os.kill(process.pid, signal.SIGKILL)
                        os._exit(0)
                sent += 1
                if send(address, event):
                    accepted.add(event["id"])
                else:
                    waiting.append(event)
                if dies is not None and at > dies + 5:
                    waiting += queue[at + 1 :]
                    break
            process.kill()
            process.wait()
        with sqlite3.connect(database) as connection:
            kept = [row[0] for row in connection.execute("SELECT id FROM recommend_events")]
    lost, twice = accepted - set(kept), len(kept) - len(set(kept))
    print(json.dumps({"kills": given.rounds + 1, "sent": sent, "accepted": len(accepted), "kept": len(kept), "lost": len(lost), "twice": twice}))  # fmt: skip  # noqa: E501
    sys.exit(bool(lost or twice))


if __name__ == "__main__":
    main()
