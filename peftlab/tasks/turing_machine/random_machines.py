"""Random machines: every rule drawn alike, and one rule at least that halts."""

from __future__ import annotations

import random

from peftlab.tasks.turing_machine.machine import STATE_NAMES, SYMBOL_NAMES, Machine, Move, Rule

HALTING_SHARE = 0.15
"""Share of the rules that halt. Rarer ones leave most runs without an end, more frequent ones make them short."""
MOVES: tuple[Move, ...] = ("L", "R")


def random_machine(generator: random.Random, *, states: int, symbols: int) -> Machine:
    """Draw a machine.

    Args:
        generator: Only its ``random()`` is used, whose sequence Python promises to keep.
        states: States that go on, at most 20.
        symbols: Symbols, the blank among them, at most 11.
    """
    names, marks = STATE_NAMES[:states], SYMBOL_NAMES[:symbols]
    pairs = [(state, symbol) for state in names for symbol in marks]
    halting = {below(generator, len(pairs))}
    halting |= {place for place in range(len(pairs)) if generator.random() < HALTING_SHARE}
    if len(halting) == len(pairs):
        halting.discard(0)
    rules = {}
    for place, pair in enumerate(pairs):
        write, move = marks[below(generator, symbols)], MOVES[below(generator, 2)]
        rules[pair] = Rule(write, move, "H" if place in halting else names[below(generator, states)])
    return Machine(rules)


def random_tape(generator: random.Random, length: int, *, machine: Machine) -> tuple[str, ...]:
    """Draw a tape of so many cells, blanks among them."""
    return tuple(machine.symbols[below(generator, len(machine.symbols))] for _ in range(length))


def below(generator: random.Random, count: int) -> int:
    """A whole number from 0 to less than the count, from ``random()`` alone."""
    return int(generator.random() * count)
