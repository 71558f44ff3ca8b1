"""Runs of Turing machines as data: which machines and tapes a split holds, and that no run is in two splits."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from peftlab.core.splits import Split
from peftlab.tasks.turing_machine.machine import Machine
from peftlab.tasks.turing_machine.named import NAMED
from peftlab.tasks.turing_machine.notation import write_machine
from peftlab.tasks.turing_machine.random_machines import below, random_machine, random_tape

SOURCE = "turing machines"
ATTEMPTS = 40
"""Draws for each wanted run before a split stays smaller: there are only so many short tapes."""
BUCKETS: Mapping[str, range] = {"test": range(0, 2), "validation": range(2, 3), "train": range(3, 10)}
"""A hash of machine and tape says which split a run may be in, so that splits never share one."""

MakeTape = Callable[[random.Random, int], tuple[str, ...]]
"""Draws a tape of about so many cells."""


@dataclass(frozen=True)
class Player:
    """A machine with its tapes."""

    machine: Machine
    make_tape: MakeTape

    @property
    def table(self) -> str:
        """Its rules, as they are written."""
        return write_machine(self.machine)


def named_players(names: Sequence[str]) -> list[Player]:
    """The named machines."""
    return [Player(NAMED[name].machine, NAMED[name].make_tape) for name in names]


def random_players(
    seed: str, count: int, *, states: int, symbols: int, without: frozenset[str] = frozenset()
) -> list[Player]:
    """Random machines whose tables differ from one another, and from those that are left out."""
    generator = random.Random(seed)  # noqa: S311 - no secret
    found: dict[str, Player] = {}
    for _ in range(count * ATTEMPTS):
        if len(found) == count:
            break
        machine = random_machine(generator, states=states, symbols=symbols)
        player = Player(machine, partial(random_tape, machine=machine))
        if player.table not in without:
            found.setdefault(player.table, player)
    return list(found.values())


def draw_runs(
    name: str,
    players: Sequence[Player],
    count: int,
    lengths: range,
    *,
    seed: str,
    max_steps: int,
    bucket: str | None,
    repeats: bool = False,
) -> Split:
    """Draw runs, each machine in turn.

    Args:
        name: Of the split.
        players: The machines.
        count: Runs; fewer where there are not so many.
        lengths: Cells of the tapes.
        seed: Of the draw.
        max_steps: Longer runs are cut, and labelled as not halting.
        bucket: The share of all runs that may be drawn; None: every one.
        repeats: Whether a run may be drawn twice.
    """
    rows: list[tuple[str, str, bool]] = []
    known: set[tuple[str, str]] = set()
    for player, tape in _draws(players, lengths, seed, count * ATTEMPTS):
        if len(rows) == count:
            break
        key = (player.table, " ".join(tape))
        if (key in known and not repeats) or (bucket is not None and _bucket(key) not in BUCKETS[bucket]):
            continue
        trace = player.machine.run(tape, max_steps)
        if trace.steps:
            known.add(key)
            rows.append((*key, trace.halted))
    columns: dict[str, list[Any]] = {
        column: [row[at] for row in rows] for at, column in enumerate(("machine", "tape", "halts"))
    }
    return Split(name, range(len(rows)), columns, SOURCE)


def _draws(
    players: Sequence[Player], lengths: range, seed: str, attempts: int
) -> Iterator[tuple[Player, tuple[str, ...]]]:
    generator = random.Random(seed)  # noqa: S311 - no secret
    for attempt in range(attempts):
        player = players[attempt % len(players)]
        yield player, player.make_tape(generator, lengths[below(generator, len(lengths))])


def _bucket(key: tuple[str, str]) -> int:
    return hashlib.blake2b("|".join(key).encode(), digest_size=8).digest()[0] % 10
