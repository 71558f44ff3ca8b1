"""Preference pairs of restaurant texts that people wrote: the chosen one is true to its table, the rejected one is not.

    python benchmarks/preference/write_pairs.py --data FOLDER --output FOLDER

The first folder holds E2E NLG's ``valid.txt`` and ``test.txt`` (lines of ``MR||text``). Two tables with the same slots
make a couple if three or more of these differ: area, food, price, rating, whether families are welcome. A couple makes
two pairs. To either table its own text is chosen, and the other table's text is rejected. So every text is chosen as
often as it is rejected: neither its length nor its style says which it is, only the table does. Texts speak of all the
slots that differ. Training and validation come from ``valid.txt``, the test from ``test.txt``. No two of the three
share a table. In validation and test no table is in two couples. Tables have seven slots at most, and texts 26 words.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from itertools import combinations
from pathlib import Path

SPEAKS_OF = {
    "area": ("river", "city", "centre", "center"),
    "food": ("chinese", "english", "italian", "fast food", "french", "indian", "japanese", "british"),
    "family friendly": ("famil", "kid", "child", "adult"),
    "price": ("price", "£", "cheap", "expensive", "cost", "pound"),
    "customer rating": ("rating", "rated", "star", "out of"),
}
"""Slots that may differ, and what a text that speaks of one has at least one of."""
SAME_MEANING = (
    {"low", "1 out of 5"},
    {"average", "3 out of 5"},
    {"high", "5 out of 5"},
    {"cheap", "less than £ 20"},
    {"moderate", "£ 20 - 25"},
    {"high", "more than £ 30"},
)
"""Values that people write alike."""
FEWEST_DIFFERENCES, MOST_SLOTS, MOST_WORDS = 3, 7, 26

Tables = dict[str, list[str]]
Couple = tuple[tuple[str, ...], str, str]
"""The slots that differ, and the two tables."""


def read_tables(path: Path) -> Tables:
    """The texts of each table."""
    tables: Tables = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        table, text = line.split("||", 1)
        tables.setdefault(table, []).append(text.strip())
    return tables


def slots_of(table: str) -> dict[str, str]:
    """The table's values by slot."""
    return dict(slot.split(" : ", 1) for slot in table.split(" | "))


def differing_slots(one: dict[str, str], other: dict[str, str]) -> tuple[str, ...]:
    """The slots that two tables differ in, where they are enough and each says something else."""
    if one.keys() != other.keys() or len(one) > MOST_SLOTS:
        return ()
    slots = tuple(slot for slot in one if one[slot] != other[slot])
    is_clear = all(slot in SPEAKS_OF and {one[slot], other[slot]} not in SAME_MEANING for slot in slots)
    return slots if len(slots) >= FEWEST_DIFFERENCES and is_clear else ()


def speaking(texts: list[str], slots: tuple[str, ...]) -> list[str]:
    """The short texts that speak of all the slots."""
    short = [text for text in texts if len(text.split()) <= MOST_WORDS]
    return [text for text in short if all(any(word in text.lower() for word in SPEAKS_OF[slot]) for slot in slots)]


def couples(tables: Tables, chance: random.Random) -> list[Couple]:
    """All couples, in an order drawn by chance."""
    values = {table: slots_of(table) for table in tables}
    found = []
    for one, other in combinations(tables, 2):
        slots = differing_slots(values[one], values[other])
        if slots and speaking(tables[one], slots) and speaking(tables[other], slots):
            found.append((slots, one, other))
    chance.shuffle(found)
    return found


def apart(found: list[Couple]) -> list[Couple]:
    """Couples of which no two have a table in common."""
    taken, kept = set[str](), list[Couple]()
    for slots, one, other in found:
        if not taken & {one, other}:
            taken |= {one, other}
            kept.append((slots, one, other))
    return kept


def without(found: list[Couple], held: list[Couple]) -> list[Couple]:
    """Couples without the tables of others."""
    tables = {table for _, *both in held for table in both}
    return [couple for couple in found if not tables & {*couple[1:]}]


def pairs_of(chosen: list[Couple], tables: Tables, chance: random.Random) -> list[dict[str, str | int]]:
    """Two pairs for each couple."""
    rows: list[dict[str, str | int]] = []
    for number, (slots, one, other) in enumerate(chosen):
        first, second = (chance.choice(speaking(tables[table], slots)) for table in (one, other))
        differing = ", ".join(slots)
        rows.append({"prompt": one, "chosen": first, "rejected": second, "slots": differing, "couple": number})
        rows.append({"prompt": other, "chosen": second, "rejected": first, "slots": differing, "couple": number})
    return rows


def write(rows: list[dict[str, str | int]], path: Path) -> None:
    """Write rows, and tell what they are."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    words = {
        side: sum(len(str(row[side]).split()) for row in rows) / len(rows) for side in ("prompt", "chosen", "rejected")
    }
    told = ", ".join(f"{side} {mean:.2f}" for side, mean in words.items())
    print(f"{path.name}: {len(rows)} pairs; mean words: {told}")
    print("  ", dict(Counter(str(row["slots"]) for row in rows)))


def main() -> None:
    """Write the three splits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Folder with valid.txt and test.txt.")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--train", type=int, default=240)
    parser.add_argument("--validation", type=int, default=40)
    parser.add_argument("--test", type=int, default=160)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    chance = random.Random(chosen.seed)  # noqa: S311
    chosen.output.mkdir(parents=True, exist_ok=True)
    tables, test_tables = read_tables(chosen.data / "valid.txt"), read_tables(chosen.data / "test.txt")
    known, unknown = couples(tables, chance), apart(couples(test_tables, chance))
    held = apart(known)[: chosen.validation // 2]
    for name, count, some, texts in (
        ("train", chosen.train, without(known, held), tables),
        ("validation", chosen.validation, held, tables),
        ("test", chosen.test, unknown, test_tables),
    ):
        if len(some) < count // 2:
            parser.error(f"{name}: there are couples for {2 * len(some)} pairs only")
        write(pairs_of(some[: count // 2], texts, chance), chosen.output / f"{name}.jsonl")


if __name__ == "__main__":
    main()
