"""How machines and configurations are written: tokens between blanks, which a word-level tokenizer takes one by one.

A rule is ``A 1 0 R B ;`` (in state A reading 1: write 0, move right, go over to B). A configuration is ``1 0 A 1 1``:
the state stands before the cell under the head. With addresses every cell has its number before it, modulo their
count: ``@3 1 @4 0 A @5 1 @6 1``. Such index hints let a model copy a cell by its address, which is what makes
transformers go beyond the trained length (Zhou et al. 2023, https://arxiv.org/abs/2310.16028).
"""

from __future__ import annotations

from typing import cast

from peftlab.core.errors import DataError
from peftlab.tasks.turing_machine.machine import (
    HALTING_STATES,
    STATE_NAMES,
    SYMBOL_NAMES,
    Configuration,
    Machine,
    Move,
    Rule,
)

TABLE_END, NEXT, BETWEEN, HALTS, GOES_ON = "|", "=", ",", ".", "?"
"""After the table; before what follows; between two configurations; after a run that halted, or that was cut."""
WORDS = (*SYMBOL_NAMES, *STATE_NAMES, *HALTING_STATES, "L", "R", "S", ";", TABLE_END, NEXT, BETWEEN, HALTS, GOES_ON)


def write_machine(machine: Machine) -> str:
    """The table of a machine."""
    return " ".join(
        f"{state} {symbol} {rule.write} {rule.move} {rule.state} ;" for (state, symbol), rule in machine.rules.items()
    )


def read_machine(text: str, *, name: str = "") -> Machine:
    """Read a table.

    Args:
        text: Rules of five words, each ended by ``;``. The first rule's state is the start.
        name: Of the machine.

    Raises:
        DataError: The text is no table, or the machine cannot run.
    """
    rules: dict[tuple[str, str], Rule] = {}
    for part in filter(str.strip, text.split(";")):
        words = part.split()
        if len(words) != 5:
            raise DataError(
                f"`{part.strip()}` is no rule",
                hint="A rule is STATE READ WRITE MOVE NEXT, such as `A 1 0 R B`, and rules are separated by `;`.",
            )
        state, symbol, write, move, target = words
        if (state, symbol) in rules:
            raise DataError(f"there are two rules for state {state} reading {symbol}")
        rules[state, symbol] = Rule(write, cast("Move", move), target)
    return Machine(rules, name)


def write_configuration(configuration: Configuration, *, addresses: int = 0, shift: int = 0) -> str:
    """A configuration as words.

    Args:
        configuration: What to write.
        addresses: Number the cells modulo this many; 0: no numbers.
        shift: Is added to the number of every cell.
    """
    words: list[str] = []
    for place, symbol in enumerate(configuration.cells):
        number = configuration.left + place
        if number == configuration.head:
            words.append(configuration.state)
        if addresses:
            words.append(f"@{(number + shift) % addresses}")
        words.append(symbol)
    return " ".join(words)


def vocabulary(addresses: int) -> tuple[str, ...]:
    """Every word that can occur."""
    return (*WORDS, *(f"@{number}" for number in range(addresses)))
