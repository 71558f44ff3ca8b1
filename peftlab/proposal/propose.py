"""A recipe for a table: what could be learned from it, on which base, how long its texts may be, what to watch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from peftlab.core.amounts import plural
from peftlab.core.errors import DataError, PeftlabError
from peftlab.core.reporter import ProgressCallback
from peftlab.core.task import TASKS, Task
from peftlab.core.task_guess import ColumnFacts, TaskGuess, with_first_texts
from peftlab.core.words import split_words
from peftlab.data.columns import drop_missing_rows, is_missing, split_of_table
from peftlab.data.duplicates import text_key
from peftlab.data.locations import parse_location, resolve_location
from peftlab.data.nested import nested_column
from peftlab.data.table import Table
from peftlab.models.catalogue import MODELS
from peftlab.proposal.column_kinds import facts_of, some_rows
from peftlab.proposal.fit import notes_of_fit
from peftlab.proposal.reading import Look, look_at

ENCODER, DECODER = list(MODELS)[:2]
CLOSE = 0.15
"""Guesses so near to the best one are worth a question."""
MOST_ROWS = {False: 4000, True: 500}
"""Training rows of a first run, for an encoder and for a model that writes: some minutes on two cores."""
LONGEST = 512
TOKENS_A_WORD, TOKENS_A_CHARACTER = 1.4, 0.3
SAMPLE = 2000
FEWEST_ROWS = 8
FEW_COPIES = 1.05
"""With so few rows more than prompts, or queries, these are copies."""
GROUP_NAMES = re.compile("user|author|speaker|patient|customer|thread|conversation|session|batch|group")

Ask = Callable[[str, Sequence[str]], int]
"""Asks a person a question with several answers; the position of the one that was chosen."""


@dataclass(frozen=True)
class Proposal:
    """A recipe with the reasons for it.

    Args:
        values: The recipe.
        reasons: Why, by dotted key.
        notes: What else a person should know.
    """

    values: Mapping[str, Any]
    reasons: Mapping[str, str]
    notes: tuple[str, ...] = field(default=())


def propose(
    address: str, *, name: str, offline: bool = False, report: ProgressCallback | None = None, ask: Ask | None = None
) -> Proposal:
    """Look at a table and propose a recipe.

    Args:
        address: What ``data.source`` takes.
        name: Of the recipe.
        offline: Forbid the network.
        report: Takes lines that tell a person what is going on.
        ask: Where several guesses are about equally good; None: the best one is taken.

    Raises:
        SourceError: The table cannot be reached.
        DataError: It cannot be read, has too few rows, or holds no text.
    """
    look = look_at(address, offline=offline, report=report)
    table = look.tables["train"]
    if len(table) < FEWEST_ROWS:
        raise DataError(
            f"too few rows to learn from: {len(table)}",
            where=table.name,
            hint=f"Give a table of {FEWEST_ROWS} rows or more.",
        )
    columns = facts_of(table)
    task, guess = _chosen(ranked_guesses(columns), table, ask)
    columns = with_first_texts(columns)
    model = DECODER if guess.reads_left_to_right else ENCODER
    lengths, how = _token_lengths(table, guess, model, offline=offline)
    longest, why_length = _max_length(lengths, how)
    task_keys = {"type": task, **guess.keys, **({"max_length": longest} if guess.max_length_by_texts else {})}
    reasons = {f"task.{key}": why for key, why in guess.reasons.items()}
    reasons |= {f"data.{key}": why for key, why in look.reasons.items()}
    reasons |= {"task.max_length": why_length, "model.path": MODELS[model]}
    counts = {name: _counted(own, task_keys) for name, own in look.tables.items()}
    limits = _most_rows(len(table), counts["train"], guess, reasons)
    data = {**look.keys, **_missing(look, task_keys, reasons), **limits}
    batch_size = 8 if guess.reads_left_to_right else 32
    share = limits.get("max_train_examples", counts["train"]) / counts["train"]
    rows = round(len(table) * share)  # one of several responses takes as long to learn as a row of its own
    values: dict[str, Any] = {
        "name": name,
        "seed": 0,
        "model": {"path": model},
        "task": task_keys,
        "data": data,
        "method": {"type": "lora", "rank": 8, "alpha": 16, "target_modules": "all-linear"},
        "training": {"epochs": _epochs(rows, writes=guess.reads_left_to_right), "batch_size": batch_size},
    }
    if guess.metric is not None:
        values["evaluation"] = {"metric": guess.metric}
        reasons["evaluation.metric"] = "one class has most of the rows, so accuracy would say little"
    fit = notes_of_fit(values, mean_tokens=fmean(lengths) + 2, rows=rows, offline=offline)
    return Proposal(values, reasons, (*_notes(look, columns, guess, task, counts), *fit))


def _epochs(rows: int, *, writes: bool) -> int:
    """Small tables are read more often; a model that writes takes long for each text."""
    return 1 if writes else 3 if rows < 2000 else 2


def ranked_guesses(columns: Sequence[ColumnFacts]) -> list[tuple[str, TaskGuess]]:
    """What each task could learn from a table, the surest first."""
    own = [(name, guess) for name, task in TASKS.items() if "guess" in vars(task) for guess in task.guess(columns)]
    return sorted(own, key=lambda found: -found[1].sure)


def _chosen(guesses: Sequence[tuple[str, TaskGuess]], table: Table, ask: Ask | None) -> tuple[str, TaskGuess]:
    if not guesses:
        shown = ", ".join(table.names[:12])
        raise DataError(
            f"no column looks like a text to learn from: {shown}",
            where=table.name,
            hint="If one of them is meant, write the recipe by hand: `peftlab ls tasks` shows what there is.",
        )
    near = [found for found in guesses if guesses[0][1].sure - found[1].sure < CLOSE][:6]
    if ask is None or len(near) == 1:
        return guesses[0]
    return near[ask("What is to be learned?", [_shown(task, guess) for task, guess in near])]


def _shown(task: str, guess: TaskGuess) -> str:
    return f"{task}: " + ", ".join(f"{key} = {value}" for key, value in guess.keys.items())


def _token_lengths(table: Table, guess: TaskGuess, model: str, *, offline: bool) -> tuple[list[float], str]:
    """The length of each of some rows, and how it was found."""
    read = [values for name in guess.texts if len(values := _values(table, name))]
    texts = [" ".join(_text_of(values[at]) for values in read) for at in some_rows(len(table), SAMPLE)]
    try:
        place = resolve_location(parse_location(model), offline=offline)
        if isinstance(place, Path) and (place / "tokenizer.json").is_file():
            from tokenizers import Tokenizer

            tokenizer = Tokenizer.from_file(str(place / "tokenizer.json"))
            tokenizer.no_truncation()
            tokenizer.no_padding()
            return [float(len(found.ids)) for found in tokenizer.encode_batch(texts)], "by the model's tokenizer"
    except PeftlabError:
        pass  # the model cannot be fetched now; lengths are then told from words
    words = [max(len(text.split()) * TOKENS_A_WORD, float(len(split_words(text)))) for text in texts]
    return [
        max(word, len(text) * TOKENS_A_CHARACTER) for word, text in zip(words, texts, strict=True)
    ], "by their words"


def _values(table: Table, name: str) -> Sequence[Any]:
    """A column of the table, or a field of one; empty where there is none."""
    if name in table.columns:
        return table.columns[name]
    return nested_column(table.columns, name, table.name, is_later_part=True) or []


def _text_of(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(_text_of(item) for item in value.values())
    if isinstance(value, list | tuple):
        return " ".join(_text_of(item) for item in value)
    return "" if value is None else str(value)


def _class_name(value: Any) -> str:
    """As the run will call it: columns of numbers are looked at as floats, and 3.0 is the class 3."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _max_length(lengths: Sequence[float], how: str) -> tuple[int, str]:
    ordered = sorted(lengths)
    needed = ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)] + 4
    length = min(max(-(-int(needed) // 16) * 16, 32), LONGEST)
    longer = sum(one > length for one in ordered) / len(ordered)
    middle = ordered[len(ordered) // 2]
    return length, f"tokens; half of the texts have {middle:.0f} or fewer, {longer:.1%} are longer than this ({how})"


def _task_of(keys: Mapping[str, Any]) -> Task:
    found: Task = TASKS[keys["type"]].model_validate(keys)
    return found


def _missing(look: Look, task_keys: Mapping[str, Any], reasons: dict[str, str]) -> dict[str, Any]:
    """Whether rows must be left out: one that lacks a value is enough, in whichever split."""
    task = _task_of(task_keys)
    may_lack = {*task.optional_columns(), *task.nullable_columns()}
    needed = [name for name in task.source_columns() if name not in may_lack]
    empty = {name: sum(sum(map(is_missing, _values(table, name))) for table in look.tables.values()) for name in needed}
    shown = [f"`{name}` is empty in {plural(count, 'row')}" for name, count in empty.items() if count]
    if not shown:
        return {}
    reasons["data.drop_missing"] = f"{', '.join(shown)}, which are left out"
    return {"drop_missing": True}


def _counted(table: Table, task_keys: Mapping[str, Any]) -> int:
    """How many rows a run makes of a table's: several of one prompt, or of one query, are one."""
    task = _task_of(task_keys)
    optional = task.optional_columns()
    try:
        split = split_of_table("train", table, task.source_columns(), optional=optional)
        kept = drop_missing_rows(split, optional=[*optional, *task.nullable_columns()])
        return len(task.arrange(kept)) or len(table)
    except PeftlabError:  # a row that cannot be used is told by the run
        return len(table)


def _most_rows(rows: int, counted: int, guess: TaskGuess, reasons: dict[str, str]) -> dict[str, Any]:
    """Limits where a first run would take long: of what a run counts, so that about as many rows are read."""
    most = MOST_ROWS[guess.reads_left_to_right]
    if rows <= most:
        return {}
    limit = max(FEWEST_ROWS, most * counted // rows)
    reasons["data.max_train_examples"] = f"of {counted:,}, for a first run of minutes; take this line out for all"
    reasons["data.max_test_examples"] = "as above"
    return {"max_train_examples": limit, "max_test_examples": most // 2}


def _notes(
    look: Look, columns: Sequence[ColumnFacts], guess: TaskGuess, task: str, counts: Mapping[str, int]
) -> list[str]:
    """What a person should know of the table."""
    rows = ", ".join(f"{len(table):,} rows in {name}" for name, table in look.tables.items())
    notes = [f"{rows}; task {task}"]
    fewer = [f"{count:,} of {name}" for name, count in counts.items() if count < len(look.tables[name]) / FEW_COPIES]
    if fewer:
        notes.append(
            f"rows with the same `{guess.texts[0]}` are counted as one, and all of them are used: {', '.join(fewer)}"
        )
    facts = {column.name: column for column in columns}
    if len(guess.labels) == 1 and not guess.keys.get("multi_label"):
        counts = Counter(_class_name(value) for value in facts[guess.labels[0]].values)
        total = sum(counts.values())
        shown = ", ".join(f"{name} {count / total:.0%}" for name, count in counts.most_common(6))
        notes.append(f"{len(counts)} classes: {shown}{', …' if len(counts) > 6 else ''}")
        rare = sum(count < 5 for count in counts.values())
        if rare:
            few = "1 class has" if rare == 1 else f"{rare} classes have"
            notes.append(f"{few} fewer than 5 of the rows that were looked at: too few to be learned")
    repeated = _repeated(look.tables["train"], guess) if guess.labels else 0
    if repeated:
        copies = "1 row repeats" if repeated == 1 else f"{repeated:,} rows repeat"
        notes.append(f"{copies} the text of another; copies are left out")
    notes += [
        f"`{name.removesuffix('.0')}` holds a list of texts in each row, and `{name}` is the first of them"
        for name in guess.texts
        if name.endswith(".0") and name not in look.tables["train"].columns
    ]
    if len(look.tables) == 1:
        notes += _kept_apart(columns, guess)
    return notes


def _repeated(table: Table, guess: TaskGuess) -> int:
    """How many rows have the texts of an earlier one, as a run compares them."""
    rows = zip(*(_values(table, name) for name in guess.texts), strict=True)
    keys = [text_key(list(map(_text_of, row))) for row in rows if not any(map(is_missing, row))]
    return len(keys) - len(set(keys))


def _kept_apart(columns: Sequence[ColumnFacts], guess: TaskGuess) -> list[str]:
    """Columns of times and groups: rows that are drawn at random would tell the test split too much."""
    used = {*guess.texts, *guess.labels}
    found = []
    for column in columns:
        if column.name in used:
            continue
        if column.kind == "time":
            found.append(
                f"`{column.name}` holds times: if the model is to read later texts, give the latest rows as "
                "data.source.test"
            )
        elif _is_group(column):
            found.append(
                f"`{column.name}` may tie rows together: if so, give rows of other groups as data.source.test, "
                "else scores are too good"
            )
    return found


def _is_group(column: ColumnFacts) -> bool:
    is_named_so = GROUP_NAMES.search(column.name.lower()) is not None
    return is_named_so and 10 < column.distinct < 0.9 * len(column.values)
