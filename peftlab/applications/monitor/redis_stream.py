"""A worker of a Redis stream: one of a consumer group, so that several share the texts.

A text is acknowledged after it is stored. A worker that was killed leaves texts that were given to it and not
acknowledged; another one claims them, and storing a text twice changes nothing. So each is counted once, as long as
Redis keeps what it has accepted (``appendonly yes``, ``appendfsync always``).
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from peftlab.applications.monitor.intake import AT_ONCE, FIELDS, keep, read_post
from peftlab.applications.monitor.posts import digest_of
from peftlab.applications.monitor.reader import Reader
from peftlab.applications.monitor.store import Post, Store
from peftlab.assembly.database import StorageError
from peftlab.core.errors import DataError, UserError
from peftlab.core.reporter import Reporter

GROUP = "peftlab"
CLAIM_MS = 30_000
"""A text that a worker has had for so long without storing it goes to another."""
WAIT_MS = 1_000
LONGEST_PAUSE = 30.0
LONGEST_STREAM = 150
PASSING = ("NOGROUP", "MISCONF", "NOREPLICAS", "UNBLOCKED", "BUSY")
"""Answers of Redis that are others in a while, as after a disk was full or a stream was deleted."""


def work(
    address: str, store: Store, reader: Reader, reporter: Reporter, *, most: int | None = None, claim_ms: int = CLAIM_MS
) -> Mapping[str, int]:
    """Store the texts of a stream until SIGINT or SIGTERM.

    Args:
        address: ``redis://host:port/database/stream``.
        store: Of the texts.
        reader: Both adapters.
        reporter: Is told of interruptions.
        most: End after so many texts, or when none is left; None: never.
        claim_ms: See ``CLAIM_MS``.

    Raises:
        UserError: The address names no stream, Redis refuses for good, or the package is missing.
    """
    check_stream(address)
    import redis

    url, stream = _parts(address)
    # Bytes that are no UTF-8 are shown as such: to fail on them would end every worker that they are given to.
    try:
        client: Any = redis.Redis.from_url(
            url, decode_responses=True, encoding_errors="replace", socket_timeout=30, health_check_interval=30
        )
    except (ValueError, TypeError) as error:  # such as of an option that there is not
        raise UserError(f"this is no address of Redis: {error}", where=_shown(address)) from None
    name = f"{socket.gethostname()}-{os.getpid()}"
    told: Counter[str] = Counter({"read": 0, "new": 0, "known": 0, "refused": 0})
    pause, is_ready = 0.5, False
    with _until_told() as stopped:
        while not stopped:
            try:
                if not is_ready:
                    _make_group(client, stream)
                    is_ready = True
                    reporter.say(f"reading the stream {stream} as its texts come (Ctrl-C ends it)")
                messages = _next(client, stream, name, claim_ms)
                if messages:
                    told.update(_keep(messages, stream, store, reader))
                    client.xack(stream, GROUP, *[message for message, _ in messages])
                pause = 0.5
            except (redis.ConnectionError, redis.TimeoutError, StorageError, redis.ResponseError) as error:
                # A wrong password is an error of the connection, and stays one.
                for_good = isinstance(error, redis.ResponseError) and not _passes(error)
                if for_good or isinstance(error, redis.AuthenticationError):
                    raise UserError(f"Redis refused: {error}", where=stream) from None
                reporter.say(f"waiting {pause:g} s: {error}")
                is_ready = False  # a server that was restarted may have lost the group
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            if most is not None and (told["read"] + told["refused"] >= most or not messages):
                break
    client.close()
    return told


def check_stream(address: str) -> None:
    """Refuse what no worker could read, before the adapters are loaded.

    Args:
        address: ``redis://host:port/database/stream``.

    Raises:
        UserError: The address names no stream, or the package is missing.
    """
    if importlib.util.find_spec("redis") is None:
        raise UserError("reading Redis streams needs redis", hint="pip install 'peftlab[monitor]'")
    _parts(address)


def _parts(address: str) -> tuple[str, str]:
    hint = "As in redis://localhost:6379/0/posts."
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError as error:
        raise UserError(f"this is no address: {error}", where="redis://", hint=hint) from None
    _, _, rest = parts.path.partition("/")
    database, _, stream = rest.partition("/")
    if not database.isdigit() or not stream:
        raise UserError("this address names no stream", where=_shown(address), hint=hint)
    return parts._replace(path=f"/{database}").geturl(), stream


def _shown(address: str) -> str:
    """Without name and password: messages are put into logs."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _passes(error: Any) -> bool:
    """Whether the same may be answered otherwise in a while, as when another server takes over."""
    from redis.exceptions import ClusterDownError, OutOfMemoryError, ReadOnlyError, TryAgainError

    kinds = (ClusterDownError, OutOfMemoryError, ReadOnlyError, TryAgainError)
    return isinstance(error, kinds) or str(error).startswith(PASSING)


def _make_group(client: Any, stream: str) -> None:
    import redis

    try:
        client.xgroup_create(stream, GROUP, id="0", mkstream=True)
    except redis.ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise


def _next(client: Any, stream: str, name: str, claim_ms: int) -> list[tuple[str, Mapping[str, str]]]:
    """Texts that another worker left behind, or else new ones."""
    _, claimed, *_ = client.xautoclaim(stream, GROUP, name, min_idle_time=claim_ms, start_id="0-0", count=AT_ONCE)
    left = [(message, fields) for message, fields in claimed if fields]
    if left:
        return left
    found = client.xreadgroup(GROUP, name, {stream: ">"}, count=AT_ONCE, block=WAIT_MS)
    return list(found[0][1]) if found else []


def _keep(
    messages: list[tuple[str, Mapping[str, str]]], stream: str, store: Store, reader: Reader
) -> Mapping[str, int]:
    posts: list[Post] = []
    refused = 0
    for message, fields in messages:
        # A name that is cut off would be that of all texts.
        name = f"redis:{stream if len(stream) <= LONGEST_STREAM else digest_of(stream)}:{message}"
        try:
            posts.append(read_post(fields, FIELDS, name=name, where=f"{stream} {message}"))
        except DataError as error:
            store.refuse(name, str(error), repr(dict(fields)))
            refused += 1
    return {**keep(posts, store, reader), "refused": refused}


@contextmanager
def _until_told() -> Iterator[list[int]]:
    """A list that is empty until a signal comes: the batch at hand is then finished."""
    told: list[int] = []
    before = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            before[number] = signal.signal(number, lambda got, _: told.append(got))
        except ValueError:  # not in the main thread
            break
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
