"""A text that comes in, from wherever: checked, read by both adapters, and stored once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from peftlab.applications.monitor.posts import ONE_STREAM, name_of
from peftlab.applications.monitor.reader import Reader
from peftlab.applications.monitor.rows import storable
from peftlab.applications.monitor.settings import Posts
from peftlab.applications.monitor.store import Post, Store
from peftlab.applications.monitor.times import read_time
from peftlab.core.errors import DataError

AT_ONCE = 64
"""Texts that are read and stored together."""
LONGEST_TEXT = 20_000
LONGEST_NAME = 150
ID = "id"
FIELDS = Posts(source="-", stream="stream")
"""Names of a message's fields: text, time, stream, and id, which is the text's own name."""


def keep(posts: Sequence[Post], store: Store, reader: Reader) -> dict[str, int]:
    """Read texts that are not stored yet, and store them; none is read twice for nothing."""
    known = store.known(posts)
    new = list({post.name: post for post in posts if post.name not in known}.values())
    added = store.add(new, reader.read([post.text for post in new])) if new else 0
    return {"read": len(posts), "new": added, "known": len(posts) - added}


def read_post(row: Mapping[str, Any], posts: Posts, *, name: str, where: str, now: float | None = None) -> Post:
    """A row as a text that came in.

    Args:
        row: By the columns that the recipe names; ``id`` is the text's name where it is there.
        posts: The names of the columns.
        name: For a text without an id.
        where: For messages.
        now: Seconds since 1970, against which times are checked, and which a row without a time gets if the table that
            the parts learned from had none either.

    Raises:
        DataError: The text or the time is missing, or cannot be read.
    """
    now = time.time() if now is None else now
    text = row.get(posts.text)
    text = storable(text) if isinstance(text, str) else ""  # as it is stored it is read, too: no tokenizer takes more
    if not text.strip():
        raise DataError(f"there is no text in `{posts.text}`", where=where)
    if len(text) > LONGEST_TEXT:
        raise DataError(f"the text has {len(text)} characters; at most {LONGEST_TEXT} are read", where=where)
    column = posts.time or "time"
    given = row.get(column)
    if given is None and posts.time is not None:
        raise DataError(f"there is no time in `{column}`", where=where)
    moment = now if given is None else read_time(given, now=now, where=f"{where}, `{column}`")
    stream = name_of(row.get(posts.stream)) if posts.stream is not None else ""
    own = id_of(row)
    if len(own) > LONGEST_NAME:
        raise DataError(f"the id is longer than {LONGEST_NAME} characters", where=where)
    return Post(f"id:{own}" if own else name, text, moment, (stream or ONE_STREAM)[:200])


def id_of(row: Mapping[str, Any]) -> str:
    """The id that a row came with. An empty one is none: all texts with it would count as one."""
    own = name_of(row.get(ID))
    return own if own.strip() else ""
