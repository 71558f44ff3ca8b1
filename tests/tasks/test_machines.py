"""The simulator against a second one, the named machines against what they are known to compute, the notation."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peftlab.core.errors import DataError
from peftlab.tasks.turing_machine.machine import BLANK, Machine
from peftlab.tasks.turing_machine.named import NAMED
from peftlab.tasks.turing_machine.notation import read_machine, vocabulary, write_configuration, write_machine
from peftlab.tasks.turing_machine.random_machines import random_machine, random_tape


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    generator = random.Random(draw(st.integers(0, 10**9)))
    return random_machine(generator, states=draw(st.integers(1, 6)), symbols=draw(st.integers(2, 5)))


def simulate(machine: Machine, tape: list[str], steps: int) -> list[tuple[dict[int, str], int, str]]:
    """Another simulator: a dict of the cells that are not blank."""
    cells = {place: symbol for place, symbol in enumerate(tape) if symbol != BLANK}
    head, state = 0, next(iter(machine.rules))[0]
    seen = [(dict(cells), head, state)]
    for _ in range(steps):
        if state in ("H", "Y", "N"):
            break
        rule = machine.rules[state, cells.get(head, BLANK)]
        cells[head] = rule.write
        if rule.write == BLANK:
            del cells[head]
        head += {"L": -1, "R": 1, "S": 0}[rule.move]
        state = rule.state
        seen.append((dict(cells), head, state))
    return seen


@settings(max_examples=150, deadline=None)
@given(machines(), st.integers(0, 10**9), st.integers(0, 8))
def test_two_simulators_agree(machine: Machine, seed: int, length: int) -> None:
    tape = list(random_tape(random.Random(seed), length, machine=machine))
    trace = machine.run(tape, 60)
    seen = simulate(machine, tape, 60)
    assert len(trace.configurations) == len(seen)
    for ours, (cells, head, state) in zip(trace.configurations, seen, strict=True):
        assert {ours.left + at: symbol for at, symbol in enumerate(ours.cells) if symbol != BLANK} == cells
        assert (ours.head, ours.state) == (head, state)
        assert ours.left <= head < ours.left + len(ours.cells)
        # Nothing is written that need not be: at both ends is the head, or no blank.
        for end in (0, -1):
            place = ours.left + (end % len(ours.cells))
            assert ours.cells[end] != BLANK or place == head
    assert trace.halted == (trace.configurations[-1].state in "HYN")
    assert trace.halted or trace.steps == 60


@settings(max_examples=100, deadline=None)
@given(machines())
def test_a_table_is_written_and_read_back(machine: Machine) -> None:
    assert read_machine(write_machine(machine)).rules == machine.rules


@given(st.integers(0, 2**14 - 1), st.integers(0, 3))
def test_binary_increment_adds_one(number: int, zeros: int) -> None:
    tape = "0" * zeros + f"{number:b}"
    trace = NAMED["binary_increment"].machine.run(tape, 200)
    assert trace.halted
    result = "".join(trace.configurations[-1].cells)
    assert int(result, 2) == number + 1
    assert len(result) == max(len(tape), len(f"{number + 1:b}"))


@given(st.text("01", max_size=12))
def test_palindrome_accepts_palindromes(word: str) -> None:
    trace = NAMED["palindrome"].machine.run(word, 500)
    assert trace.configurations[-1].state == ("Y" if word == word[::-1] else "N")


@given(st.integers(1, 9), st.integers(1, 9))
def test_unary_addition_adds(first: int, second: int) -> None:
    trace = NAMED["unary_addition"].machine.run("1" * first + "0" + "1" * second, 100)
    assert trace.halted
    assert "".join(trace.configurations[-1].cells).strip(BLANK) == "1" * (first + second)


@pytest.mark.parametrize(("name", "steps", "ones"), [("2", 6, 4), ("3", 14, 6), ("4", 107, 13)])
def test_busy_beavers_write_their_known_number_of_ones(name: str, steps: int, ones: int) -> None:
    trace = NAMED[f"busy_beaver_{name}"].machine.run("", 1000)
    assert trace.halted
    assert (trace.steps, trace.configurations[-1].cells.count("1")) == (steps, ones)


@pytest.mark.parametrize("name", NAMED)
def test_named_machines_take_their_own_tapes(name: str) -> None:
    named, generator = NAMED[name], random.Random(0)
    for length in range(1, 20):
        tape = named.make_tape(generator, length)
        trace = named.machine.run(tape, 50)
        assert trace.halted or trace.steps == 50
        assert len(trace.configurations) == trace.steps + 1
        assert "".join(trace.configurations[0].cells).strip(BLANK) == "".join(tape).strip(BLANK)
        for before, after in pairwise(trace.configurations):
            assert named.machine.step(before) == after


def test_binary_increment_carries_over_any_count_of_digits() -> None:
    """Of ten digits drawn alike one number in a thousand is all ones; of these tapes one in twenty is."""
    generator = random.Random(0)
    tapes = ["".join(NAMED["binary_increment"].make_tape(generator, 10)) for _ in range(3000)]
    ones = [len(tape) - len(tape.rstrip("1")) for tape in tapes]
    assert {len(tape) for tape in tapes} == {10}
    assert all(ones.count(count) > 80 for count in range(11))
    assert ones.count(0) > 600


def test_a_run_that_is_cut_says_so() -> None:
    machine = read_machine("A _ 1 R A ; A 1 1 S H")
    trace = machine.run("", 7)
    assert (trace.halted, trace.steps) == (False, 7)
    with pytest.raises(ValueError, match="halted"):
        machine.step(machine.run("1", 5).configurations[-1])


def test_configurations_as_words() -> None:
    trace = NAMED["binary_increment"].machine.run("101", 2)
    assert [write_configuration(item) for item in trace.configurations] == ["A 1 0 1", "1 A 0 1", "1 0 A 1"]
    assert write_configuration(trace.configurations[1], addresses=4, shift=3) == "@3 1 A @0 0 @1 1"


def test_every_word_is_in_the_vocabulary_once() -> None:
    words = vocabulary(16)
    assert len(set(words)) == len(words)
    for named in NAMED.values():
        start = named.machine.start(named.make_tape(random.Random(1), 6))
        text = f"{write_machine(named.machine)} {write_configuration(start, addresses=16, shift=5)}"
        assert set(text.split()) <= set(words)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("A 0 1 R A ; A 1 1 L A ; A _ _ L A", "has no halting state"),
        ("A 0 1 R A ; A _ _ S H ; A 1 1", "`A 1 1` is no rule"),
        ("A 0 1 R B ; A _ _ S H ; A 1 1 S H", "the state B has no rules"),
        ("A 0 1 R A ; A _ _ S H", "no rule for state A reading 1"),
        ("A 0 1 X A ; A _ _ S H", "'X' is no move"),
        ("A 0 ! R A ; A _ _ S H", "'!' is no symbol"),
        ("A 0 0 R A ; A 0 1 R A ; A _ _ S H", "two rules for state A reading 0"),
        ("zz 0 0 R zz ; zz _ _ S H", "'zz' is no name of a state"),
        ("H 0 0 R H ; H _ _ S H", "halting state H has a rule"),
        ("", "has no rules"),
    ],
)
def test_machines_that_cannot_run_are_refused(table: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_machine(table)


def test_a_tape_with_a_foreign_symbol_is_refused() -> None:
    with pytest.raises(DataError, match=r"'a', a symbol that the machine binary_increment lacks"):
        NAMED["binary_increment"].machine.run("1a1", 5)


def test_the_package_does_not_import_torch() -> None:
    import subprocess
    import sys

    code = "import sys, peftlab.tasks.turing_machine.named; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_random_machines_are_the_same_everywhere() -> None:
    machine = random_machine(random.Random(7), states=2, symbols=2)
    assert write_machine(machine) == "A _ _ L B ; A 0 _ L H ; B _ _ L H ; B 0 _ R A ;"
