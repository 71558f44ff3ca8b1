"""Texts from tables, from standard input and from Redis: each is stored once, with what both adapters say of it."""

from __future__ import annotations

import json
import queue
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftlab.applications.monitor.building import open_reader
from peftlab.applications.monitor.intake import AT_ONCE, id_of, keep, read_post
from peftlab.applications.monitor.opening import open_store, open_watcher
from peftlab.applications.monitor.posts import digest_of
from peftlab.applications.monitor.settings import Posts
from peftlab.applications.monitor.store import Post, Store
from peftlab.assembly.database import StorageError
from peftlab.core.application import Hosting, Workplace
from peftlab.core.errors import DataError, UserError
from peftlab.core.reporter import Reporter, Silent
from peftlab.data.other_keys import table_config, under_keys
from peftlab.data.tables import read_table

if TYPE_CHECKING:
    from peftlab.applications.monitor.application import Monitor

PAUSE = 1.0
"""Seconds without another line of standard input after which those that are there are stored."""
MOST_LINES_KNOWN = 200_000
"""Lines of standard input, which may never end, that are told from equal ones before them."""


def feed(monitor: Monitor, place: Workplace, hosting: Hosting, sources: Sequence[str]) -> Mapping[str, int]:
    """Store what the sources have; a source of Redis ends when the process is told to.

    Args:
        monitor: Built.
        place: Where.
        hosting: Names the database.
        sources: Tables, ``-`` for JSON lines on standard input, or one ``redis://host:port/database/stream``.

    Returns:
        ``read``, ``new``, ``known`` and ``refused``.

    Raises:
        UserError: A file is not there, or a Redis stream is not the only source.
    """
    streams = [source for source in sources if source.startswith(("redis://", "rediss://"))]
    if streams and len(sources) > 1:
        raise UserError("a Redis stream is read alone", hint="Start one `peftlab app feed` for each.")
    for source in sources:
        if source != "-" and source not in streams and not Path(source).is_file():
            raise UserError("there is no such file", where=source)
    if streams:
        from peftlab.applications.monitor.redis_stream import check_stream, work

        check_stream(streams[0])
    store = open_store(place, hosting)
    reader = open_reader(place)
    if streams:
        return work(streams[0], store, reader, place.reporter)
    told: Counter[str] = Counter({"read": 0, "new": 0, "known": 0, "refused": 0})
    for source in sources:
        if source == "-":
            bar: Reporter = Silent()  # nobody knows how many lines will come
            count, rows = 0, _as_they_come(_lines(sys.stdin.buffer))
        else:
            bar = place.reporter
            count, rows = _rows(source, monitor.posts)
        bar.start(f"reading {source}", count)
        posts = _posts(rows, monitor.posts, source, store, told, place)
        if source != "-":
            # A server that runs beside it judges up to the latest text: what is older must be there by then.
            there = [post for post in posts if post is not None]
            there.sort(key=lambda post: post.time)
            posts = iter(there)
        for part in _batches(posts):
            told.update(keep(part, store, reader))
            bar.advance(len(part))
        bar.finish()
    try:
        open_watcher(monitor, place, store).tick()
    except StorageError as error:  # such as where a server judges at this moment
        place.reporter.say(f"all is stored; the hours are judged later: {error}")
    return told


def _posts(
    rows: Iterable[tuple[str, Any] | None],
    posts: Posts,
    source: str,
    store: Store,
    told: Counter[str],
    place: Workplace,
) -> Iterator[Post | None]:
    """The rows that can be taken; the others are kept among the refused, and the first are told. None stays None."""
    seen: Counter[str] = Counter()
    for found in rows:
        if found is None:
            yield None
            continue
        where, row = found
        if isinstance(row, Mapping):
            same = digest_of(row.get(posts.text), row.get(posts.time or "time"), row.get(posts.stream or ""))
        else:
            same = digest_of(row)
        if not isinstance(row, Mapping) or not id_of(row):
            seen[same] += 1
            if source == "-" and len(seen) > MOST_LINES_KNOWN:
                del seen[next(iter(seen))]
        # Two equal rows of a table are two texts; the same table a second time brings nothing new.
        name = f"row:{same}:{seen[same]}"
        try:
            if not isinstance(row, Mapping):
                raise DataError("this line is no JSON object", where=where)
            yield read_post(row, posts, name=name, where=where)
        except DataError as error:
            told["refused"] += 1
            store.refuse(name, str(error), _shown(row))
            if told["refused"] <= 5:
                place.reporter.say(f"refused: {error}")


def _rows(source: str, posts: Posts) -> tuple[int, Iterator[tuple[str, Any]]]:
    """How many rows a table has, and the rows, each with its place."""
    config = table_config({"source": source, "encoding": posts.encoding}, section="posts")
    with under_keys("posts.source", encoding="posts.encoding"):
        table = read_table(Path(source), config)
    names = list(table.columns)
    for wanted in (posts.text, *([posts.time] if posts.time else []), *([posts.stream] if posts.stream else [])):
        if wanted not in names:
            raise DataError(f"the table has no column `{wanted}`", where=source, hint=f"It has {', '.join(names)}.")
    columns = list(table.columns.values())
    rows = enumerate(zip(*columns, strict=True), start=1)
    return len(columns[0]), (
        (f"{source}, row {number}", dict(zip(names, values, strict=True))) for number, values in rows
    )


def _lines(stream: Iterable[bytes]) -> Iterator[tuple[str, Any]]:
    """Each line by itself: one that is no UTF-8, or no JSON, ends no other."""
    for number, given in enumerate(stream, start=1):
        line = given.decode("utf-8", "replace").removeprefix("\ufeff")
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = line.rstrip("\n")
        yield f"standard input, line {number}", value


def _as_they_come(rows: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any] | None]:
    """The rows, and None where no other has come for a while: of a slow stream the last ones are not waited with."""
    lines: queue.Queue[tuple[str, Any] | BaseException | None] = queue.Queue(2 * AT_ONCE)

    def read() -> None:
        try:
            for row in rows:
                lines.put(row)
            lines.put(None)
        except Exception as error:  # noqa: BLE001 - it is raised where the rows are taken
            lines.put(error)

    threading.Thread(target=read, name="lines", daemon=True).start()
    while True:
        try:
            found = lines.get(timeout=PAUSE)
        except queue.Empty:
            yield None
            continue
        if isinstance(found, BaseException):
            raise found
        if found is None:
            return
        yield found


def _shown(row: Any) -> str:
    try:
        return json.dumps(row, default=str, ensure_ascii=False)
    except RecursionError:
        return f"a value of {len(row)} parts, which are nested too deeply to be shown"


def _batches(posts: Iterator[Post | None]) -> Iterator[list[Post]]:
    """Of so many each, or of fewer where None says that others are not there yet."""
    part: list[Post] = []
    for post in posts:
        if post is not None:
            part.append(post)
        if part and (post is None or len(part) == AT_ONCE):
            yield part
            part = []
    if part:
        yield part
