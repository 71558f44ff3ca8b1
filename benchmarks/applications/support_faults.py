"""Kill the service with SIGKILL while customers write: what was accepted must be there, once, and get an answer.

python benchmarks/applications/support_faults.py runs/support --kills 3 --json faults.json
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import random
import sqlite3
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from support_load import Service, questions_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    accepted: list[str] = []
    answered: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "faults.db"
        for kill in range(given.kills):
            service = Service(given.folder, f"sqlite:///{path}")
            customers(service, given.folder, kill, given.seconds, accepted, answered)
        result: dict[str, Any] = {"kills": given.kills, "accepted": len(accepted), **state(path, accepted)}
        service = Service(given.folder, f"sqlite:///{path}")
        events, _, _ = service.ask("how do I pay", "after-all-1")
        result["answers_after_all"] = events[-1]["event"] == "answer"
        service.stop()
    print(json.dumps(result, indent=2))
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n")


def customers(
    service: Service, folder: Path, kill: int, seconds: float, accepted: list[str], answered: list[str]
) -> None:
    """Write until the service is killed, at a moment drawn at random; note what it said it had accepted."""
    texts, gone = questions_of(folder), threading.Event()

    def write(number: int) -> None:
        chance, count, cookie = random.Random(100 * kill + number), 0, ""  # noqa: S311
        while not gone.is_set():
            count += 1
            key = f"kill-{kill}-{number}-{count}"
            with contextlib.suppress(OSError, http.client.HTTPException, json.JSONDecodeError):
                connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
                body = json.dumps({"text": chance.choice(texts), "key": key})
                headers = {"Content-Type": "application/json", "Cookie": cookie}
                connection.request("POST", "/api/chat/messages", body, headers)
                answer = connection.getresponse()
                cookie = (answer.getheader("set-cookie") or cookie).partition(";")[0]
                if answer.status == 200 and json.loads(answer.readline())["event"] == "accepted":
                    accepted.append(key)
                    if answer.read():
                        answered.append(key)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(random.Random(kill).uniform(0.3, 1.0) * seconds)  # noqa: S311
    service.process.kill()
    gone.set()
    for thread in threads:
        thread.join()
    service.process.wait()


def state(path: Path, accepted: list[str]) -> dict[str, Any]:
    """What the database holds of the accepted messages."""
    with sqlite3.connect(path) as database:
        keys = [key for (key,) in database.execute("SELECT key FROM messages WHERE role = 'customer'")]
        answers = database.execute("SELECT COUNT(*) FROM messages WHERE answers IS NOT NULL").fetchone()[0]
        twice = database.execute(
            "SELECT COUNT(*) FROM (SELECT 1 FROM messages WHERE answers IS NOT NULL GROUP BY answers, question "
            "HAVING COUNT(*) > 1)"
        ).fetchone()[0]
        whole = database.execute("PRAGMA integrity_check").fetchone()[0]
    return {
        "lost": len(set(accepted) - set(keys)),
        "stored_twice": len(keys) - len(set(keys)),
        "answers": answers,
        "answered_twice": twice,
        "integrity": whole,
    }


if __name__ == "__main__":
    main()
