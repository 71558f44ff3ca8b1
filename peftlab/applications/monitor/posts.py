"""Labelled texts: read, put in the order of time, and cut into what is learned from and what is held out."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from peftlab.applications.monitor.settings import Posts
from peftlab.applications.monitor.tables import ALL_TOPICS
from peftlab.applications.monitor.times import HOUR, read_time
from peftlab.core.application import Workplace
from peftlab.core.errors import DataError, UserError, did_you_mean
from peftlab.core.files import write_text
from peftlab.data.delimited import STREAMED_FIELD_LIMIT
from peftlab.data.other_keys import table_config, under_keys
from peftlab.data.sources import load_tables

if TYPE_CHECKING:
    from peftlab.applications.monitor.application import Monitor

ONE_STREAM = "all"
OTHER_TOPIC = "other"
TABLES = "tables"
MADE_UNTIL = 1_767_225_600
"""Made times end here (2026-01-01): the same table gets the same times whenever it is built."""


@dataclass(frozen=True)
class Labelled:
    """A text with what is right of it; empty where nothing is known.

    Args:
        text: The text.
        time: Seconds since 1970.
        stream: Of whom it speaks.
        sentiment: As labelled.
        topic: As labelled; empty for those that say nothing.
    """

    text: str
    time: float
    stream: str
    sentiment: str
    topic: str


@dataclass(frozen=True)
class Cut:
    """The texts before a moment, and those from it on; both in the order of time."""

    train: list[Labelled]
    test: list[Labelled]


def load_posts(posts: Posts, place: Workplace, seed: int) -> Cut:
    """Read the table.

    Raises:
        UserError: A column is missing, a time cannot be read, or one of the two parts is empty.
    """
    config = table_config({"source": posts.source, "encoding": posts.encoding}, section="posts")
    with under_keys("posts.source", encoding="posts.encoding"):
        tables = load_tables(config, folder=place.sources, offline=place.offline)
    columns: dict[str, list[Any]] = {}
    for table in tables.values():
        for name, values in table.columns.items():
            columns.setdefault(name, []).extend(values)
    for key in ("text", "time", "stream", "sentiment", "topic"):
        name = getattr(posts, key)
        if name is not None and not (key == "topic" and posts.topic_words) and name not in columns:
            raise UserError(
                f"the table has no column `{name}`", where=f"posts.{key}", hint=did_you_mean(name, list(columns))
            )
    rows = sorted(_rows(posts, columns, seed), key=lambda row: row.time)
    return _cut(posts, rows)


def check_watched(sentiment: str, rows: list[Labelled]) -> None:
    """See that texts have the sentiment that is watched, before an adapter learns from them.

    Raises:
        UserError: None has it.
    """
    known = {row.sentiment for row in rows} - {""}
    if sentiment not in known:
        raise UserError(
            f"no text to learn from has the sentiment `{sentiment}`",
            where="watch.sentiment",
            hint=did_you_mean(sentiment, known),
        )


def write_tables(monitor: Monitor, place: Workplace) -> dict[str, dict[str, Any]]:
    """Write the tables that the parts learn from, into the application's folder.

    Raises:
        UserError: They are there already, and were made from another table.
    """
    posts = monitor.posts
    cut = load_posts(posts, place, monitor.seed)
    train = cut.train
    if posts.max_train_texts is not None and len(train) > posts.max_train_texts:
        drawn = np.random.default_rng(monitor.seed).choice(len(train), posts.max_train_texts, replace=False)
        train = [train[at] for at in sorted(drawn.tolist())]
    found = {}
    for key in ("sentiment", "topic"):
        folder = (place.folder / TABLES / key).resolve()
        for split, rows in (("train", train), ("test", cut.test)):
            _write(folder / f"{split}.csv", key, rows)
        found[key] = {
            "data.deduplicate": True,
            "data.source": {split: str(folder / f"{split}.csv") for split in ("train", "test")},
            "task.text": "text",
            "task.label": key,
        }
    held_out = [(row.time, row.stream, row.sentiment, row.topic, row.text) for row in cut.test]
    _write_csv(place.folder / TABLES / "held_out.csv", ("time", "stream", "sentiment", "topic", "text"), held_out)
    known = [(row.time, row.stream, row.sentiment, row.topic, row.text) for row in cut.train]
    _write_csv(place.folder / TABLES / "learned.csv", ("time", "stream", "sentiment", "topic", "text"), known)
    return found


def read_labelled(place: Workplace, name: str) -> list[Labelled]:
    """Texts that ``write_tables`` has kept: ``learned`` or ``held_out``."""
    csv.field_size_limit(max(csv.field_size_limit(), STREAMED_FIELD_LIMIT))
    with (place.folder / TABLES / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return [
            Labelled(row["text"], float(row["time"]), row["stream"], row["sentiment"], row["topic"])
            for row in csv.DictReader(file)
        ]


def _rows(posts: Posts, columns: Mapping[str, list[Any]], seed: int) -> list[Labelled]:
    texts = columns[posts.text]
    now = time.time()
    times = columns[posts.time] if posts.time is not None else made_times(len(texts), posts.made_days, seed)
    topics = [_topic_by_words(posts, str(text)) for text in texts] if posts.topic_words else columns[str(posts.topic)]
    name = Path(posts.source).name
    found = []
    for at, text in enumerate(texts):
        if text is None or not str(text).strip():
            continue
        where = f"{name}, row {at + 1}, column `{posts.time}`"
        stream = name_of(columns[posts.stream][at]) if posts.stream is not None else ""
        topic = name_of(topics[at])
        row = Labelled(
            str(text), read_time(times[at], now=now, where=where), stream or ONE_STREAM,
            name_of(columns[posts.sentiment][at]), "" if topic in posts.ignored_topics else topic,
        )  # fmt: skip
        if row.topic == ALL_TOPICS:
            raise DataError(
                f"the topic `{ALL_TOPICS}` stands for all topics together",
                where=f"{name}, row {at + 1}",
                hint="Give it another name, or list it in `posts.ignored_topics`.",
            )
        if not all(map(_is_whole, (row.text, row.stream, row.sentiment, row.topic))):
            raise DataError(
                "this row holds half of a character (a lone surrogate)",
                where=f"{name}, row {at + 1}",
                hint="Mend the row.",
            )
        found.append(row)
    return found


def name_of(value: Any) -> str:
    """A label or a stream as it is written; empty where there is none. 0 and false are names as others are."""
    return "" if value is None or value != value else str(value)


def _is_whole(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def made_times(count: int, days: int, seed: int) -> list[float]:
    """Times for a table that has none: more by day than by night, the same for the same seed."""
    random = np.random.default_rng(seed)
    hours = np.arange(days * 24)
    busy = 1 + 0.8 * np.sin((hours % 24 - 9) / 24 * 2 * np.pi)
    drawn = random.choice(hours, size=count, p=busy / busy.sum())
    moments = MADE_UNTIL - days * 24 * HOUR + (drawn + random.random(count)) * HOUR
    return [float(moment) for moment in moments]


def _topic_by_words(posts: Posts, text: str) -> str:
    for topic, words in posts.topic_words.items():
        if any(re.search(rf"\b{re.escape(word)}", text, re.IGNORECASE) for word in words):
            return topic
    return OTHER_TOPIC


def _cut(posts: Posts, rows: list[Labelled]) -> Cut:
    if posts.test_from is not None:
        moment = read_time(posts.test_from, now=time.time(), where="posts.test_from")
    else:
        moment = rows[int(len(rows) * (1 - posts.test_fraction))].time if rows else 0.0
    cut = Cut([row for row in rows if row.time < moment], [row for row in rows if row.time >= moment])
    for part, name in ((cut.train, "before"), (cut.test, "from")):
        if not part:
            raise DataError(f"there are no texts {name} the time where the held-out ones begin", where="posts")
    return cut


def _write(path: Path, key: str, rows: list[Labelled]) -> None:
    _write_csv(path, ("text", key), [(row.text, label) for row in rows if (label := getattr(row, key))])


def _write_csv(path: Path, header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    target = io.StringIO()
    writer = csv.writer(target)
    writer.writerow(header)
    writer.writerows(rows)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, target.getvalue())
    elif path.read_bytes() != target.getvalue().encode():  # building goes on with the same tables
        raise UserError(
            "the table of texts has changed since this folder was begun",
            where=str(path),
            hint="Choose another --output-dir, or delete this folder to build it anew.",
        )


def digest_of(*parts: object) -> str:
    """A short name of what a text is, for texts that come without one."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass")).hexdigest()[:32]
