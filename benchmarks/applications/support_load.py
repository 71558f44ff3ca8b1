"""Eight customers at once: how long until an answer begins, until its first words are shown, and until it is whole.

An entry is shown at once. A written answer begins with its first token, when the page names what it is written from;
its first words are shown when the first sentence is checked.

Starts `peftlab app serve FOLDER` on a free port of the loopback with a database of its own, and lets each customer ask
some questions of the application's test split, a second apart. Bounded: it ends after ``--seconds``.

    python benchmarks/applications/support_load.py runs/support --chats 8 --seconds 60 --json load.json
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

START_SECONDS = 180


class Service:
    """A service in a process of its own.

    Args:
        folder: Of the application.
        database: SQLAlchemy's address.
    """

    def __init__(self, folder: Path, database: str) -> None:
        command = [sys.executable, "-m", "peftlab", "app", "serve", str(folder), "--port", "0", "--database", database]
        environment = {**os.environ, "PEFTLAB_TOKEN": ""}
        self.process = subprocess.Popen(
            [*command, "--offline"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment
        )
        self.port = self._port()
        threading.Thread(target=self._drain, daemon=True).start()

    def _port(self) -> int:
        assert self.process.stderr is not None
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            line = self.process.stderr.readline()
            if match := re.search(r"is at http://127\.0\.0\.1:(\d+)", line):
                return int(match[1])
            if not line and self.process.poll() is not None:
                break
        raise SystemExit("the service did not start")

    def _drain(self) -> None:
        assert self.process.stderr is not None
        for _ in self.process.stderr:
            pass

    def ask(self, text: str, key: str, cookie: str = "") -> tuple[list[dict[str, Any]], list[float], str]:
        """Events of an answer, the seconds at which each came, and the cookie."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        began = time.monotonic()
        try:
            body = json.dumps({"text": text, "key": key})
            connection.request(
                "POST", "/api/chat/messages", body, {"Content-Type": "application/json", "Cookie": cookie}
            )
            answer = connection.getresponse()
            if answer.status != 200:
                raise OSError(f"status {answer.status}: {answer.read()[:200]!r}")
            events, seconds = [], []
            while line := answer.readline():
                events.append(json.loads(line))
                seconds.append(time.monotonic() - began)
            return events, seconds, (answer.getheader("set-cookie") or cookie).partition(";")[0]
        finally:
            connection.close()

    def stop(self) -> None:
        """Ask it to end."""
        self.process.terminate()
        self.process.wait(30)


def questions_of(folder: Path) -> list[str]:
    """Of the test split."""
    company = json.loads((folder / "company.json").read_text())
    return [each["text"] for each in company["questions"] if each["split"] == "test"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--chats", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--pause", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found: list[tuple[str, float, float, float]] = []
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        service = Service(given.folder, f"sqlite:///{place}/load.db")
        service.ask("how do I pay", "warm-up-1")
        end = time.monotonic() + given.seconds
        texts = questions_of(given.folder)

        def chat(number: int) -> None:
            chance, cookie, count = random.Random(number), "", 0  # noqa: S311
            while time.monotonic() < end:
                count += 1
                try:
                    events, seconds, cookie = service.ask(chance.choice(texts), f"chat-{number}-{count}", cookie)
                except OSError as error:
                    faults.append(str(error))
                    continue
                kinds = [event["event"] for event in events]
                begins = next(at for at, kind in enumerate(kinds) if kind != "accepted")
                words = next(at for at, kind in enumerate(kinds) if kind not in ("accepted", "writing"))
                kind = str(events[-1].get("kind", "error"))
                if kind == "handed" and "writing" in kinds:
                    kind = "handed after writing"
                found.append((kind, seconds[begins], seconds[words], seconds[-1]))
                time.sleep(given.pause)

        threads = [threading.Thread(target=chat, args=(number,)) for number in range(given.chats)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        service.stop()
    result: dict[str, Any] = {"chats": given.chats, "seconds": given.seconds, "faults": len(faults), "kinds": {}}
    for kind in sorted({kind for kind, *_ in found}):
        begins, words, whole = zip(*(times for each, *times in found if each == kind), strict=True)
        result["kinds"][kind] = {
            "n": len(begins),
            "first_token_median": median(begins),
            "first_token_p95": quantile(begins, 0.95),
            "first_words_median": median(words),
            "whole_median": median(whole),
        }
    print(json.dumps(result, indent=2))
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n")


def median(values: Sequence[float]) -> float:
    return quantile(values, 0.5)


def quantile(values: Sequence[float], share: float) -> float:
    return round(sorted(values)[min(len(values) - 1, int(share * len(values)))], 4)


if __name__ == "__main__":
    main()
