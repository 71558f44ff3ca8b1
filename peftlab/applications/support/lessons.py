"""The tables that the parts learn from, written before any is tuned, and all questions for later."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftlab.applications.support.company import (
    TEST,
    TRAIN,
    VALIDATION,
    Company,
    Entry,
    Question,
    read_company,
)
from peftlab.applications.support.prompting import conversation, document_of
from peftlab.applications.support.words import WordIndex
from peftlab.core.application import Workplace
from peftlab.core.errors import DataError, UserError
from peftlab.core.files import write_text

if TYPE_CHECKING:
    from peftlab.applications.support import Support

COMPANY_NAME, TABLES = "company.json", "tables"
WRONG_DOCUMENTS = 4
"""Of a question, for the reranking part."""


def write_lessons(support: Support, place: Workplace) -> Mapping[str, Mapping[str, Any]]:
    """Write ``company.json`` and ``tables/``; returns what the parts' recipes must say.

    Raises:
        DataError: As of :func:`read_company`; or a part has nothing to learn from.
        UserError: The tables are no longer those that the folder was begun with: its parts have learned from these.
    """
    company = read_company(support, place)
    known = {"entries": [asdict(each) for each in company.entries], "questions": [asdict(q) for q in company.questions]}
    path = place.folder / COMPANY_NAME
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != known:
        raise UserError(
            "the FAQ or the dialogues have changed since this folder was begun",
            where=str(place.folder),
            hint="Choose another --output-dir, or delete this folder to build it anew.",
        )
    write_text(path, json.dumps(known, ensure_ascii=False) + "\n")
    tables = _Tables(place.folder.resolve() / TABLES)
    made = {"embedding": _embedding(company, tables)}
    if support.intents is not None:
        made["intents"] = _intents(company, tables, support.out_of_scope)
    if support.reranking is not None:
        made["reranking"] = _reranking(company, tables, support.seed)
    if support.writer is not None:
        made["writer"] = _writer(company, tables, support)
    return made


def load_company(folder: Path) -> Company:
    """What :func:`write_lessons` has read."""
    known = json.loads((folder / COMPANY_NAME).read_text(encoding="utf-8"))
    return Company([Entry(**each) for each in known["entries"]], [Question(**each) for each in known["questions"]])


class _Tables:
    """Writes a table for each split of a part."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, part: str, columns: Sequence[str], rows: Mapping[str, Iterable[Sequence[str]]]) -> dict[str, Any]:
        """``data.source`` of the part."""
        source = {}
        for split, own in rows.items():
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(own)
            path = self._folder / part / f"{split}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text.getvalue())
            source[split] = str(path)
        return {"data.source": source}

    def write_json(self, part: str, rows: Mapping[str, Iterable[Mapping[str, Any]]]) -> dict[str, Any]:
        """The same, a JSON object a line."""
        source = {}
        for split, own in rows.items():
            path = self._folder / part / f"{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in own))
            source[split] = str(path)
        return {"data.source": source}


def _answered(company: Company, split: str) -> list[Question]:
    found = [each for each in company.of(split) if each.entry is not None]
    if not found:
        raise DataError(f"no question of the split {split} is answered by an entry of the FAQ", where="dialogues")
    return found


def _embedding(company: Company, tables: _Tables) -> dict[str, Any]:
    entries = {entry.id: entry for entry in company.entries}
    rows = {
        split: [(each.text, entries[str(each.entry)].question) for each in _answered(company, split)]
        for split in (TRAIN, VALIDATION, TEST)
    }
    return {
        **tables.write("embedding", ("query", "document"), rows),
        "task.query": "query",
        "task.document": "document",
        "task.negatives": [],
    }


def _intents(company: Company, tables: _Tables, out_of_scope: str) -> dict[str, Any]:
    rows = {
        split: [
            (each.text, each.intent)
            for each in company.of(split, judged=False)
            if each.intent is not None and each.intent != out_of_scope
        ]
        for split in (TRAIN, VALIDATION, TEST)
    }
    known = {intent for _, intent in rows[TRAIN]}
    if len(known) < 2:
        raise DataError(
            "fewer than two intents have a question to learn from",
            where="dialogues",
            hint="Fill the column `intent` of customers' rows, or take the key `intents` out.",
        )
    kept = {split: [row for row in own if row[1] in known] for split, own in rows.items()}
    return {**tables.write("intents", ("text", "intent"), kept), "task.text": "text", "task.label": "intent"}


def _reranking(company: Company, tables: _Tables, seed: int) -> dict[str, Any]:
    """Each question with its entry, and with wrong ones that share words with it or were drawn."""
    words = WordIndex([document_of(entry) for entry in company.entries])
    chance = random.Random(seed)  # noqa: S311 - which wrong documents are shown is no secret
    rows: dict[str, list[tuple[str, str, str]]] = {}
    for split in (TRAIN, VALIDATION, TEST):
        rows[split] = []
        for question in _answered(company, split):
            order = words.order(question.text)
            wrong = [at for at in order if company.entries[at].id != question.entry]
            chosen = [*wrong[: WRONG_DOCUMENTS - 1], chance.choice(wrong)]
            right = next(entry for entry in company.entries if entry.id == question.entry)
            rows[split].append((question.text, document_of(right), "1"))
            rows[split] += [(question.text, document_of(company.entries[at]), "0") for at in dict.fromkeys(chosen)]
    return {
        **tables.write("reranking", ("query", "document", "label"), rows),
        "task.query": "query",
        "task.document": "document",
        "task.label": "label",
        "task.negatives": [],
    }


def _writer(company: Company, tables: _Tables, support: Support) -> dict[str, Any]:
    """Questions with the entries that a search by words finds, and the answer of the right one."""
    words = WordIndex([document_of(entry) for entry in company.entries])
    chance = random.Random(support.seed)  # noqa: S311 - the order of passages is no secret
    rows: dict[str, list[dict[str, Any]]] = {}
    for split in (TRAIN, VALIDATION, TEST):
        rows[split] = []
        for question in _answered(company, split):
            right = next(entry for entry in company.entries if entry.id == question.entry)
            order = words.order(question.text)
            others = [company.entries[at] for at in order if company.entries[at].id != right.id]
            shown = [right, *others[: support.passages - 1]]
            chance.shuffle(shown)
            messages = conversation(question.text, shown)
            messages.append({"role": "assistant", "content": " ".join(right.answer.split())[:300]})
            rows[split].append({"messages": messages})
    return {**tables.write_json("writer", rows), "task.messages": "messages"}
