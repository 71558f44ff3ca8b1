"""A disk that fills up: what each application has accepted is still there, and it goes on once there is room.

    mount -t tmpfs -o size=1m tmpfs /mnt/small
    python benchmarks/applications/full_disk.py /mnt/small

The folder must be on a file system of a megabyte or so: it is filled. The databases are the applications' own, without
their models.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peftlab.applications.monitor.store import Post
from peftlab.applications.monitor.store import Store as MonitorStore
from peftlab.applications.recommend.store import Event
from peftlab.applications.recommend.store import Store as RecommendStore
from peftlab.applications.support.storage import Storage
from peftlab.assembly.database import StorageError

MOST_BYTES = 8_000_000
TEXT = "my parcel has not come " * 20
Opened = tuple[Callable[[int], Any], Callable[[], int]]


def main() -> None:
    folder = Path(sys.argv[1])
    if shutil.disk_usage(folder).total > MOST_BYTES:
        sys.exit(f"{folder} is on a file system of more than {MOST_BYTES} bytes, and would be filled")
    if len(sys.argv) > 2:
        print(json.dumps(fill(folder, sys.argv[2], OPENED[sys.argv[2]])))
        return
    # A process each: a file that is open keeps its room when it is taken away.
    command = [sys.executable, __file__, str(folder)]
    found = {
        name: json.loads(subprocess.run([*command, name], check=True, stdout=subprocess.PIPE).stdout) for name in OPENED
    }
    print(json.dumps(found, indent=2))
    if any(each["accepted"] != each["there"] or not each["goes_on"] for each in found.values()):
        sys.exit(1)


def fill(folder: Path, name: str, opened: Callable[[str], Opened]) -> dict[str, Any]:
    """Add until the disk is full; count; make room, and add again."""
    room = folder / "room"
    room.write_bytes(bytes(200_000))
    url = f"sqlite:///{folder / name}.db"
    add, _ = opened(url)
    accepted, said = 0, ""
    while not said:
        try:
            add(accepted)
            accepted += 1
        except StorageError as error:
            said = error.message
    room.unlink()
    add, count = opened(url)  # as after a restart
    there = count()
    add(accepted)
    result = {"accepted": accepted, "there": there, "said": said, "goes_on": count() == accepted + 1}
    for path in folder.glob(f"{name}.db*"):
        path.unlink()
    return result


def support(url: str) -> Opened:
    """Messages of customers."""
    storage = Storage(url)
    conversations: list[str] = []

    def add(at: int) -> None:
        if not conversations:
            conversations.append(storage.start().id)
        storage.accept(conversations[0], f"key-{at}", TEXT)

    def count() -> int:
        return sum(len(storage.messages(each["id"])) for each in storage.overview.latest(1000))

    return add, count


def monitor(url: str) -> Opened:
    """Texts."""
    store = MonitorStore(url)
    return (
        lambda at: store.add([Post(f"text-{at}", f"{TEXT} {at}", time.time(), "shop")], [None]),
        lambda: store.counts()["texts"],
    )


def recommend(url: str) -> Opened:
    """Events."""
    store = RecommendStore(url)
    return (
        lambda at: store.add([Event(f"event-{at}", f"user-{at}", TEXT[:200], time.time())]),
        lambda: store.counts()["events"],
    )


OPENED = {"support": support, "monitor": monitor, "recommend": recommend}


if __name__ == "__main__":
    main()
