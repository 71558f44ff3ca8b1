"""What a company has: a FAQ, and dialogues with its customers. Read, checked, and cut into splits."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftlab.core.application import Workplace
from peftlab.core.errors import DataError, did_you_mean
from peftlab.data.other_keys import table_config, under_keys

if TYPE_CHECKING:
    from peftlab.applications.support import Support
    from peftlab.data.table import Table

TRAIN, VALIDATION, CALIBRATION, TEST = "train", "validation", "calibration", "test"
SPLITS = (TRAIN, VALIDATION, CALIBRATION, TEST)
CUSTOMER, AGENT = "customer", "agent"
ROLES = {"customer": CUSTOMER, "user": CUSTOMER, "client": CUSTOMER, "agent": AGENT, "assistant": AGENT}
TEXT_ENDINGS = (".md", ".txt")
_HEADING = re.compile(r"^#{1,6}\s+(\S.*)")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})(.*)")


@dataclass(frozen=True)
class Entry:
    """A question of the FAQ, with its answer.

    Args:
        id: By which dialogues name it.
        question: As the company asks it.
        answer: What customers are told.
        intent: Which intent it answers; None: no one in particular.
    """

    id: str
    question: str
    answer: str
    intent: str | None = None


@dataclass(frozen=True)
class Question:
    """What a customer has said in a dialogue.

    Args:
        text: In the customer's words.
        split: Of its dialogue.
        intent: What the customer wants, where somebody has said so.
        entry: The id of the entry that answers it; None: none does, or nobody has said.
        reply: What the agent answered.
        is_judged: Whether it is known which entry answers it, or that none does.
    """

    text: str
    split: str
    intent: str | None
    entry: str | None
    reply: str
    is_judged: bool


@dataclass(frozen=True)
class Company:
    """All that is known."""

    entries: Sequence[Entry]
    questions: Sequence[Question]

    def of(self, *splits: str, judged: bool = True) -> list[Question]:
        """The questions of some splits."""
        return [each for each in self.questions if each.split in splits and (each.is_judged or not judged)]


def read_company(support: Support, place: Workplace) -> Company:
    """Read both tables.

    Raises:
        DataError: A column is missing, an entry has no answer, a dialogue has one side only, …: with file and row.
    """
    with under_keys("faq"):
        entries = read_entries(_path(support.faq, place))
    with under_keys("dialogues"):
        questions = _read_questions(_path(support.dialogues, place), support, entries)
    company = Company(entries, _cut(questions, support))
    for split in SPLITS:
        if not company.of(split):
            raise DataError(
                f"no dialogue of the split {split} has a question whose entry or intent is known",
                where=support.dialogues,
                hint="Fill the column `faq` or `intent` of customers' rows, or leave the column `split` out.",
            )
    return company


def read_entries(path: Path) -> list[Entry]:
    """The FAQ.

    Raises:
        DataError: There is none, or an entry lacks its question or answer.
    """
    found = _entries_of_folder(path) if path.is_dir() else _entries_of_table(path)
    first: dict[str, str] = {}
    for entry, where in found:
        for text, what in ((entry.question, "question"), (entry.answer, "answer")):
            if not text:
                raise DataError(
                    f"an entry of the FAQ has no {what}", where=where, hint=f"Write the {what}, or take the entry out."
                )
        if entry.id in first:
            raise DataError(f"the id `{entry.id}` was given to an entry before: {first[entry.id]}", where=where)
        first[entry.id] = where
    if len(found) < 2:
        raise DataError("a FAQ has two entries or more", where=str(path))
    by_intent: dict[str, str] = {}
    for entry, where in found:
        if entry.intent is not None and by_intent.setdefault(entry.intent, where) != where:
            raise DataError(
                f"the intent `{entry.intent}` is answered by an entry before: {by_intent[entry.intent]}",
                where=where,
                hint="An intent has one entry.",
            )
    return [entry for entry, _ in found]


def _entries_of_folder(folder: Path) -> list[tuple[Entry, str]]:
    found = []
    for path in sorted(each for each in folder.rglob("*") if each.suffix.lower() in TEXT_ENDINGS and each.is_file()):
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            raise DataError("this file is not UTF-8", where=str(path), hint="Save it as UTF-8.") from None
        name = path.relative_to(folder).with_suffix("").as_posix()
        sections = _sections(lines)
        for number, (line, question, answer) in enumerate(sections, 1):
            own = name if len(sections) == 1 else f"{name}#{number}"
            found.append((Entry(own, question, answer), f"{path}, line {line}"))
    if not found:
        raise DataError("this folder holds no .md and no .txt file", where=str(folder))
    return found


def _title(heading: str) -> str:
    """Without the signs that may close a heading."""
    return heading.rstrip("#").rstrip() or heading


def _in_code(lines: Sequence[str]) -> list[bool]:
    """Of each line whether it stands in a fenced block of code, where ``# …`` is a comment."""
    found = [False] * len(lines)
    fence, begin = "", 0
    for at, line in enumerate(lines):
        mark = _FENCE.match(line)
        if mark and not fence:
            fence, begin = mark[1], at
        elif mark and mark[1].startswith(fence) and not mark[2].strip():
            found[begin:at] = [True] * (at - begin)  # a block that never ends hides nothing
            fence = ""
    return found


def _sections(lines: Sequence[str]) -> list[tuple[int, str, str]]:
    """Line, question and answer of each heading; without headings, the first line is the question."""
    heads = [
        (at, _title(match[1]))
        for at, (line, is_code) in enumerate(zip(lines, _in_code(lines), strict=True))
        if not is_code and (match := _HEADING.match(line))
    ]
    if not heads:
        at = next((at for at, line in enumerate(lines) if line.strip()), 0)
        heads = [(at, lines[at].strip() if lines else "")]
    ends = [at for at, _ in heads[1:]] + [len(lines)]
    found = [
        (at + 1, title, "\n".join(lines[at + 1 : end]).strip()) for (at, title), end in zip(heads, ends, strict=True)
    ]
    # The title of a file whose questions are below it has no text of its own.
    return found[1:] if len(found) > 1 and not found[0][2] else found


def _entries_of_table(path: Path) -> list[tuple[Entry, str]]:
    table = _table(path, ("question", "answer"))
    found = []
    for row in range(len(table)):
        value = {name: _text(table.columns[name][row]) for name in table.columns}
        entry = Entry(value.get("id") or str(row + 1), value["question"], value["answer"], value.get("intent") or None)
        found.append((entry, f"{path}, row {row + 1}"))
    return found


def _read_questions(path: Path, support: Support, entries: Sequence[Entry]) -> list[tuple[str, Question]]:
    """The questions, each with the id of its dialogue."""
    table = _table(path, ("dialogue", "role", "text"))
    ids = {entry.id for entry in entries}
    by_intent = {entry.intent: entry.id for entry in entries if entry.intent is not None}
    rows: dict[str, list[int]] = {}
    for row in range(len(table)):
        dialogue = _text(table.columns["dialogue"][row])
        if not dialogue:
            raise DataError(
                "this row names no dialogue",
                where=f"{path}, row {row + 1}",
                hint="Write the dialogue's name into each of its rows, also where a spreadsheet joins cells.",
            )
        rows.setdefault(dialogue, []).append(row)
    found = []
    for dialogue, own in rows.items():
        turns = [_turn(table, row, path) for row in own]
        sides = {role for role, _ in turns}
        if len(sides) == 1:
            raise DataError(
                f"the dialogue `{dialogue}` has only one side: the {sides.pop()}'s",
                where=f"{path}, row {own[0] + 1}",
                hint="A dialogue has what the customer asked and what the agent answered. Add it, or leave it out.",
            )
        split = _split_of(table, own, path)
        for at, (role, text) in enumerate(turns):
            if role != CUSTOMER:
                continue
            where = f"{path}, row {own[at] + 1}"
            intent, entry = _cell(table, "intent", own[at]), _cell(table, "faq", own[at])
            if entry is not None and entry not in ids:
                near = did_you_mean(entry, ids)
                raise DataError(
                    f"there is no entry `{entry}` in the FAQ",
                    where=where,
                    hint=f"Did you mean {near}?" if near else None,
                )
            reply = next((words for role, words in turns[at + 1 :] if role == AGENT), "")
            answered_by = entry if entry is not None else by_intent.get(intent or "")
            judged = answered_by is not None or intent == support.out_of_scope
            found.append((dialogue, Question(text, split, intent, answered_by, reply, judged)))
    return found


def _turn(table: Table, row: int, path: Path) -> tuple[str, str]:
    role, text = (_text(table.columns[name][row]) for name in ("role", "text"))
    where = f"{path}, row {row + 1}"
    if role.casefold() not in ROLES:
        raise DataError(f"`{role}` is no role", where=where, hint=f"Roles are {CUSTOMER} and {AGENT}.")
    if not text:
        raise DataError("the text is missing", where=where)
    return ROLES[role.casefold()], text


def _split_of(table: Table, rows: Sequence[int], path: Path) -> str:
    """The split of a dialogue; empty where the table does not say."""
    named = {_cell(table, "split", row) for row in rows} - {None}
    wrong = sorted(str(name) for name in named if name not in SPLITS)
    if wrong or len(named) > 1:
        message = f"`{wrong[0]}` is no split" if wrong else "the rows of a dialogue are of several splits"
        raise DataError(message, where=f"{path}, row {rows[0] + 1}", hint=f"Splits are {', '.join(SPLITS)}.")
    return str(named.pop()) if named else ""


def _cut(questions: Sequence[tuple[str, Question]], support: Support) -> list[Question]:
    """Give a split to those without one, and cut from train the splits that the table does not name.

    A dialogue's place comes from its id alone, so that new dialogues leave the others where they are.
    """
    named = {question.split for _, question in questions} - {""}
    fractions = {
        VALIDATION: support.validation_fraction,
        CALIBRATION: support.calibration_fraction,
        TEST: support.test_fraction,
    }
    wanted = {name: share for name, share in fractions.items() if name not in named}
    seen: set[str] = set()
    found = []
    for dialogue, question in questions:
        split = question.split
        if split in ("", TRAIN):
            split = _drawn(f"{support.seed}/{dialogue}", wanted)
        found.append(replace(question, split=split))
        if split != TRAIN:
            seen.add(question.text.casefold())
    # What is asked in the same words elsewhere would be known by heart.
    return [each for each in found if each.split != TRAIN or each.text.casefold() not in seen]


def _drawn(key: str, fractions: Mapping[str, float]) -> str:
    at = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    for name, share in fractions.items():
        if at < share:
            return name
        at -= share
    return TRAIN


def _path(address: str, place: Workplace) -> Path:
    from peftlab.data.data_folders import data_folders
    from peftlab.data.locations import parse_location, resolve_location

    location = parse_location(address, folder=place.sources, further=data_folders())
    found = resolve_location(location, offline=place.offline, report=place.reporter.say)
    if isinstance(found, str):
        raise DataError("tables of customer service come from disk or from a package", where=address)
    return found


def _table(path: Path, needed: Sequence[str]) -> Table:
    from peftlab.data.tables import read_table

    table = read_table(path, table_config({"source": str(path)}))
    missing = [name for name in needed if name not in table.columns]
    if missing:
        raise DataError(
            f"the table has no column {', '.join(missing)}", where=str(path), hint=f"It has {', '.join(table.names)}."
        )
    return table


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _cell(table: Table, column: str, row: int) -> str | None:
    return (_text(table.columns[column][row]) or None) if column in table.columns else None
