"""Groups of methods that the data cannot tell apart."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from string import ascii_lowercase

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Grouping:
    """A compact letter display.

    Args:
        groups: Names that no comparison tells apart, best first; the group with the best method first. A method can be
            in several groups.
        letters: The letters of a method's groups, as ``ab``: two methods differ where they share none. From the 27th
            group on a letter has a number behind it: ``a1``.
    """

    groups: list[list[str]]
    letters: dict[str, str]


def group_indistinguishable(names_best_first: Sequence[str], differing: Collection[frozenset[str]]) -> Grouping:
    """Group methods so that two share a group exactly where they do not differ.

    The display is Piepho's (Journal of Computational and Graphical Statistics 13, 2004). His insert-and-absorb can need
    exponentially many groups; this is the equivalent cover of a graph's edges by cliques (Gramm et al., Computational
    Statistics & Data Analysis 52, 2007), greedy: each pair that shares no group yet starts one, which takes in the
    methods that differ from none of it, first those with most such pairs. So there are at most as many groups as
    methods and pairs that do not differ, in O(n²) steps each. Then groups are dropped whose pairs all lie in others
    too, the worst first (Piepho's sweeping).

    Args:
        names_best_first: Every method once, ranked.
        differing: Pairs of names that a test tells apart.

    Raises:
        ValueError: A name is there twice, or a pair is not two of the names.
    """
    names = list(names_best_first)
    position = {name: at for at, name in enumerate(names)}
    if len(position) < len(names):
        raise ValueError("A method's name is there twice.")
    alike = _alike(position, differing)
    members = [_members(group) for group in _without_redundant(_cover(alike))]
    members.sort()
    signs = [ascii_lowercase[at % 26] + (str(at // 26) if at >= 26 else "") for at in range(len(members))]
    letters = dict.fromkeys(names, "")
    for sign, group in zip(signs, members, strict=True):
        for at in group:
            letters[names[at]] += sign
    return Grouping([[names[at] for at in group] for group in members], letters)


def _alike(position: dict[str, int], differing: Collection[frozenset[str]]) -> list[int]:
    """For each method the set of those that it does not differ from, itself included, as the bits of a number."""
    everyone = (1 << len(position)) - 1
    alike = [everyone] * len(position)
    for pair in differing:
        if len(pair) != 2 or not pair <= position.keys():
            raise ValueError(f"{sorted(pair)} is not a pair of the methods.")
        first, second = (position[name] for name in pair)
        alike[first] &= ~(1 << second)
        alike[second] &= ~(1 << first)
    return alike


def _cover(alike: list[int]) -> list[int]:
    """Maximal groups such that each method is in one, and each pair that is alike."""
    groups: list[int] = []
    rows = _matrix(alike)
    shared = np.zeros_like(rows)
    for first, candidates in enumerate(rows):
        # A method shares a group with itself once it is in any, so lonely methods get a group too.
        while (missing := candidates & ~shared[first]).any():
            members = _grow(first, int(missing.argmax()), rows, shared)
            shared[np.ix_(members, members)] = True
            groups.append(sum(1 << at for at in members))
    return groups


def _grow(first: int, second: int, rows: NDArray[np.bool_], shared: NDArray[np.bool_]) -> list[int]:
    """A maximal group around two methods that are alike, or around one."""
    members = list({first: None, second: None})
    open_to = rows[first] & rows[second]
    open_to[members] = False
    unsettled = (~shared[members]).sum(axis=0)
    while open_to.any():
        # The one that settles most pairs; of several the best. Always the best would need very many groups.
        chosen = int(np.where(open_to, unsettled, -1).argmax())
        members.append(chosen)
        unsettled += ~shared[chosen]
        open_to &= rows[chosen]
        open_to[chosen] = False
    return members


def _matrix(alike: list[int]) -> NDArray[np.bool_]:
    """The bits of the numbers, a row each."""
    size, width = len(alike), (len(alike) + 7) // 8
    octets = np.frombuffer(b"".join(bits.to_bytes(width, "little") for bits in alike), np.uint8)
    bits = np.unpackbits(octets.reshape(size, width), axis=1, count=size, bitorder="little")
    return np.asarray(bits.astype(np.bool_))


def _without_redundant(groups: list[int]) -> list[int]:
    """Drop groups whose every member and pair is in another group that is kept."""
    by_member: dict[int, set[int]] = {}
    for number, group in enumerate(groups):
        for at in _members(group):
            by_member.setdefault(at, set()).add(number)
    for number in reversed(range(len(groups))):
        members = _members(groups[number])
        others = [by_member[at] - {number} for at in members]
        if all(_reach(groups, other) & groups[number] == groups[number] for other in others):
            for at in members:
                by_member[at].discard(number)
    kept = set().union(*by_member.values()) if by_member else set()
    return [group for number, group in enumerate(groups) if number in kept]


def _reach(groups: list[int], numbers: set[int]) -> int:
    """Everyone who is in one of the groups."""
    reach = 0
    for number in numbers:
        reach |= groups[number]
    return reach


def _lowest(bits: int) -> int:
    return (bits & -bits).bit_length() - 1


def _members(group: int) -> list[int]:
    members = []
    while group:
        members.append(_lowest(group))
        group &= group - 1
    return members
