"""Machines with a name, and tapes that they are meant for."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from peftlab.tasks.turing_machine.machine import BLANK, Machine
from peftlab.tasks.turing_machine.notation import read_machine
from peftlab.tasks.turing_machine.random_machines import below

MakeTape = Callable[[random.Random, int], tuple[str, ...]]
"""Draws a tape of about so many cells."""


@dataclass(frozen=True)
class NamedMachine:
    """A machine, what it does, and its tapes."""

    machine: Machine
    description: str
    make_tape: MakeTape


def binary_tape(generator: random.Random, length: int) -> tuple[str, ...]:
    """Zeros and ones; a number's first digit may be 0."""
    return tuple("01"[below(generator, 2)] for _ in range(max(1, length)))


def carrying_tape(generator: random.Random, length: int) -> tuple[str, ...]:
    """A binary number; every second one ends in ones, any count of them, along which the carry goes.

    Among numbers drawn alike one in a thousand carries over ten digits.
    """
    digits = binary_tape(generator, length)
    ones = below(generator, len(digits) + 1) if generator.random() < 0.5 else 0
    return (*digits[: len(digits) - ones], *"1" * ones)


def unary_sum_tape(generator: random.Random, length: int) -> tuple[str, ...]:
    """Two unary numbers with a 0 between them: ``1 1 0 1 1 1``."""
    ones = max(2, length - 1)
    first = 1 + below(generator, ones - 1)
    return (*"1" * first, "0", *"1" * (ones - first))


def any_tape(symbols: tuple[str, ...]) -> MakeTape:
    """Symbols of a machine, blanks among them."""

    def make(generator: random.Random, length: int) -> tuple[str, ...]:
        return tuple(symbols[below(generator, len(symbols))] for _ in range(max(1, length)))

    return make


_INCREMENT = """
A 0 0 R A ; A 1 1 R A ; A _ _ L B ;
B 1 0 L B ; B 0 1 S H ; B _ 1 S H
"""
# Remember the first symbol (B: it was 0, D: it was 1), erase it, run to the end, compare and erase, run back.
_PALINDROME = """
A 0 _ R B ; A 1 _ R D ; A _ _ S Y ;
B 0 0 R B ; B 1 1 R B ; B _ _ L C ;
C 0 _ L F ; C 1 1 S N ; C _ _ S Y ;
D 0 0 R D ; D 1 1 R D ; D _ _ L E ;
E 1 _ L F ; E 0 0 S N ; E _ _ S Y ;
F 0 0 L F ; F 1 1 L F ; F _ _ R A
"""
# Put a 1 in place of the 0 between the numbers, then take the last 1 away.
_ADDITION = """
A 1 1 R A ; A 0 1 R B ; A _ _ S H ;
B 1 1 R B ; B 0 0 S H ; B _ _ L C ;
C 1 _ S H ; C 0 0 S H ; C _ _ S H
"""
_BUSY_BEAVER_2 = "A _ 1 R B ; A 1 1 L B ; B _ 1 L A ; B 1 1 R H"
_BUSY_BEAVER_3 = "A _ 1 R B ; A 1 1 R H ; B _ _ R C ; B 1 1 R B ; C _ 1 L C ; C 1 1 L A"
_BUSY_BEAVER_4 = "A _ 1 R B ; A 1 1 L B ; B _ 1 L A ; B 1 _ L C ; C _ 1 R H ; C 1 1 L D ; D _ 1 R D ; D 1 _ R A"


def _named(name: str, table: str, description: str, make_tape: MakeTape) -> NamedMachine:
    return NamedMachine(read_machine(table, name=name), description, make_tape)


NAMED: Mapping[str, NamedMachine] = {
    machine.machine.name: machine
    for machine in (
        _named("binary_increment", _INCREMENT, "adds one to a binary number", carrying_tape),
        _named("palindrome", _PALINDROME, "accepts (Y) words of 0 and 1 that read the same backwards", binary_tape),
        _named("unary_addition", _ADDITION, "adds two unary numbers", unary_sum_tape),
        # Rado 1962; the champions of 2, 3 (most ones: 6) and 4 states run 6, 14 and 107 steps from a blank tape.
        _named("busy_beaver_2", _BUSY_BEAVER_2, "the busy beaver of 2 states", any_tape((BLANK, "1"))),
        _named("busy_beaver_3", _BUSY_BEAVER_3, "the busy beaver of 3 states by ones", any_tape((BLANK, "1"))),
        _named("busy_beaver_4", _BUSY_BEAVER_4, "the busy beaver of 4 states", any_tape((BLANK, "1"))),
    )
}
