"""A reference simulator of one-tape Turing machines: small, exact, and what every trace is made and checked by.

A configuration is written as in the textbooks (Hopcroft, Motwani and Ullman 2006, section 8.2): the cells of the tape
from the first to the last that is not blank, with the state just before the cell that the head is on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from peftlab.core.errors import DataError

BLANK = "_"
HALTING_STATES = ("H", "Y", "N")
"""Halt; halt and accept; halt and reject."""
STATE_NAMES = tuple(name for name in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if name not in (*HALTING_STATES, "L", "R", "S"))
"""Names of the states that go on; the three moves are left out, so that every token means one thing."""
SYMBOL_NAMES = (BLANK, *"01abcdefgh")

Move = Literal["L", "R", "S"]
SHIFTS: Mapping[str, int] = {"L": -1, "R": 1, "S": 0}


@dataclass(frozen=True)
class Rule:
    """What a machine does: write a symbol, move the head, go over to a state."""

    write: str
    move: Move
    state: str


@dataclass(frozen=True)
class Configuration:
    """A machine at a moment.

    Args:
        cells: The tape from its first to its last cell that is not blank or under the head.
        left: The number of the first of these cells; the head starts on cell 0.
        head: The number of the cell that the head is on.
        state: The state; a halting one ends the run.
    """

    cells: tuple[str, ...]
    left: int
    head: int
    state: str

    @property
    def halted(self) -> bool:
        """Whether no step follows."""
        return self.state in HALTING_STATES


@dataclass(frozen=True)
class Machine:
    """A deterministic machine with one tape that is endless on both sides.

    Args:
        rules: For every state that goes on and every symbol, what to do. The first rule's state is the start.
        name: For people.

    Raises:
        DataError: A rule is missing, nothing ever halts, or a name is none that machines may use.
    """

    rules: Mapping[tuple[str, str], Rule]
    name: str = ""

    def __post_init__(self) -> None:
        if not self.rules:
            raise DataError(f"the machine {self.name or 'without a name'} has no rules")
        self._check_names()
        for state in self.states:
            for symbol in self.symbols:
                if (state, symbol) not in self.rules:
                    raise DataError(f"the machine has no rule for state {state} reading {symbol}")
        if not any(rule.state in HALTING_STATES for rule in self.rules.values()):
            raise DataError(
                "the machine has no halting state: no rule leads to one",
                hint=f"A rule must go over to {', '.join(HALTING_STATES[:-1])} or {HALTING_STATES[-1]}.",
            )

    @cached_property
    def states(self) -> tuple[str, ...]:
        """The states that go on; the first is the start."""
        return tuple(dict.fromkeys(state for state, _ in self.rules))

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """The symbols that it reads or writes; the blank is always one of them."""
        read = (symbol for _, symbol in self.rules)
        return tuple(dict.fromkeys((BLANK, *read, *(rule.write for rule in self.rules.values()))))

    def start(self, tape: Iterable[str]) -> Configuration:
        """The first configuration: the head on the first cell of the tape.

        Raises:
            DataError: The tape holds a symbol that the machine lacks.
        """
        cells = tuple(tape)
        for symbol in cells:
            if symbol not in self.symbols:
                raise DataError(
                    f"the tape holds {symbol!r}, a symbol that the machine {self.name} lacks".replace("  ", " "),
                    hint=f"It has {' '.join(self.symbols)}.",
                )
        return _trimmed(cells or (BLANK,), 0, 0, self.states[0])

    def step(self, before: Configuration) -> Configuration:
        """The configuration that follows.

        Raises:
            ValueError: The machine has halted.
        """
        if before.halted:
            raise ValueError("the machine has halted")
        place = before.head - before.left
        rule = self.rules[before.state, before.cells[place]]
        cells = (*before.cells[:place], rule.write, *before.cells[place + 1 :])
        head, left = before.head + SHIFTS[rule.move], before.left
        if head < left:
            cells, left = (BLANK, *cells), head
        elif head >= left + len(cells):
            cells = (*cells, BLANK)
        return _trimmed(cells, left, head, rule.state)

    def run(self, tape: Iterable[str], max_steps: int) -> Trace:
        """Run until the machine halts, or for so many steps.

        Raises:
            DataError: The tape holds a symbol that the machine lacks.
        """
        configurations = [self.start(tape)]
        while not configurations[-1].halted and len(configurations) <= max_steps:
            configurations.append(self.step(configurations[-1]))
        return Trace(tuple(configurations), configurations[-1].halted)

    def _check_names(self) -> None:
        for (state, symbol), rule in self.rules.items():
            for name in (state, rule.state):
                if name not in STATE_NAMES and name not in HALTING_STATES:
                    raise DataError(
                        f"{name!r} is no name of a state",
                        hint=f"States are {' '.join(STATE_NAMES)}; halting ones {' '.join(HALTING_STATES)}.",
                    )
            if state in HALTING_STATES:
                raise DataError(f"the halting state {state} has a rule, but no step follows it")
            if rule.state not in self.states and rule.state not in HALTING_STATES:
                raise DataError(f"the state {rule.state} has no rules")
            for name in (symbol, rule.write):
                if name not in SYMBOL_NAMES:
                    raise DataError(f"{name!r} is no symbol", hint=f"Symbols are {' '.join(SYMBOL_NAMES)}.")
            if rule.move not in SHIFTS:
                raise DataError(f"{rule.move!r} is no move", hint="Moves are L, R and S (stay).")


@dataclass(frozen=True)
class Trace:
    """A run: its configurations, and whether it halted within the bound."""

    configurations: tuple[Configuration, ...]
    halted: bool

    @property
    def steps(self) -> int:
        """How many steps were made."""
        return len(self.configurations) - 1


def _trimmed(cells: tuple[str, ...], left: int, head: int, state: str) -> Configuration:
    """Drop the blanks at both ends, up to the head."""
    first, last = 0, len(cells)
    while last > 1 and cells[last - 1] == BLANK and left + last - 1 != head:
        last -= 1
    while first < last - 1 and cells[first] == BLANK and left + first != head:
        first += 1
    return Configuration(cells[first:last], left + first, head, state)
