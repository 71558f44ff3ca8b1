"""Texts from tables, from standard input and from Redis: each is stored once, with what both adapters say of it."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftlab.applications.monitor.building import open_reader
from peftlab.applications.monitor.intake import AT_ONCE, ID, keep, read_post
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
    store = open_store(place, hosting)
    reader = open_reader(place)
    if streams:
        from peftlab.applications.monitor.redis_stream import work

        return work(streams[0], store, reader, place.reporter)
    told: Counter[str] = Counter({"read": 0, "new": 0, "known": 0, "refused": 0})
    for source in sources:
        if source == "-":
            bar: Reporter = Silent()  # nobody knows how many lines will come
            count, rows = 0, _lines(sys.stdin.buffer)
        else:
            bar = place.reporter
            count, rows = _rows(source, monitor.posts)
        bar.start(f"reading {source}", count)
        posts = _posts(rows, monitor.posts, source, store, told, place)
        if source != "-":
            # A server that runs beside it judges up to the latest text: what is older must be there by then.
            posts = iter(sorted(posts, key=lambda post: post.time))
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
    rows: Iterable[tuple[str, Any]], posts: Posts, source: str, store: Store, told: Counter[str], place: Workplace
) -> Iterator[Post]:
    """The rows that can be taken; the others are kept among the refused, and the first are told."""
    seen: Counter[str] = Counter()
    for where, row in rows:
        if isinstance(row, Mapping):
            same = digest_of(row.get(posts.text), row.get(posts.time or "time"), row.get(posts.stream or ""))
        else:
            same = digest_of(row)
        if not isinstance(row, Mapping) or row.get(ID) is None:
            seen[same] += 1
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


def _shown(row: Any) -> str:
    try:
        return json.dumps(row, default=str, ensure_ascii=False)
    except RecursionError:
        return f"a value of {len(row)} parts, which are nested too deeply to be shown"


def _batches(posts: Iterator[Post]) -> Iterator[list[Post]]:
    while part := list(islice(posts, AT_ONCE)):
        yield part
