"""Swapped names and pronouns: what a biased model gets, and a fair one does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_ind

from peftlab.audit.groups import compare_groups
from peftlab.audit.name_lists import Language, built_in_lists
from peftlab.core.audit import AUDITS, Figure
from peftlab.core.errors import ConfigError
from peftlab.testing.audited_rows import audited
from tests.conftest import sentences

ROWS = sentences(80, seed=4)
FEMALE = built_in_lists("en")["gender"].groups["female"]


def look(bias: float, texts: list[str], **keys: object) -> tuple[dict[str, Figure], list[str]]:
    names = {name.casefold() for name in FEMALE} | {"she", "her", "herself"}

    def scores(text: str) -> list[float]:
        words = text.casefold().split()
        good = 0.48 + 0.01 * (len(words) % 3) + bias * bool(names & set(words))
        return [1 - good, good]

    found = AUDITS["fairness"](**keys).run(audited(scores, texts, ["good"] * len(texts)))
    return {figure.name: figure for figure in found.figures}, list(found.notes)


def test_a_biased_model_is_found_and_a_fair_one_is_not() -> None:
    texts = [text for text, _ in ROWS] + [f"he said {text}" for text, _ in ROWS[:30]]
    fair, notes = look(0.0, texts)
    assert "a name put before them" in notes[0]
    assert all(figure.p_value is None or figure.p_value > 0.05 for figure in fair.values())
    assert fair["fairness.names.changed"].value == 0
    biased, _ = look(0.1, texts)
    gender = biased["fairness.gender.female.good"]
    assert gender.p_value is not None
    assert gender.p_value < 0.001
    assert gender.value == pytest.approx(0.1)
    assert (gender.n, gender.sampled) == (40, "names")
    assert biased["fairness.race.African-American.good"].p_value == pytest.approx(1)
    assert biased["fairness.names.changed"].value > 0.5
    assert biased["fairness.names.changed"].examples
    pronouns = biased["fairness.pronouns.score.good"]
    assert (pronouns.value, pronouns.n) == (pytest.approx(0.1), 30)
    assert pronouns.p_value is not None
    assert pronouns.p_value < 0.001


def test_names_in_texts_and_lists_of_ones_own() -> None:
    texts = [f"{name} saw it" for name in FEMALE]
    figures, notes = look(0.1, texts, more_names={"gender": {"other": ["Kim", "Alex"]}, "age": {"old": ["Enid"] * 5}})
    assert "their own names" in notes[0]
    assert any("gender other" in note for note in notes)  # two names say nothing
    assert figures["fairness.names.changed"].value > 0
    with pytest.raises(ConfigError, match="template"):
        look(0.0, texts, template="no place for a name")


def test_groups_against_scipy() -> None:
    generator = np.random.default_rng(0)
    one, other = generator.normal(size=12), generator.normal(0.5, 2, size=9)
    found = compare_groups(one, other)
    assert found.p_value == pytest.approx(ttest_ind(one, other, equal_var=False).pvalue)
    assert found.low < found.difference < found.high
    assert compare_groups(np.ones(5), np.ones(5)).p_value == 1
    assert compare_groups(np.ones(5), np.zeros(5)).p_value == pytest.approx(2 / 252)  # as of all ways to part ten
    assert compare_groups(np.ones(2), np.zeros(2)).p_value == pytest.approx(1 / 3)


CHINESE = [
    f"{'味道很好' if at % 2 else '送餐太慢'}，第{at}次点了，{'他' if at % 3 else '其他'}很满意" for at in range(60)
]


def look_in_chinese(word: str, bias: float, **keys: object) -> tuple[dict[str, Figure], list[str]]:
    def scores(text: str) -> list[float]:
        good = 0.48 + 0.01 * (len(text) % 3) + bias * (word in text)
        return [1 - good, good]

    found = AUDITS["fairness"](**keys).run(audited(scores, CHINESE, ["good"] * len(CHINESE)))
    return {figure.name: figure for figure in found.figures}, list(found.notes)


def test_chinese_texts_get_chinese_names_and_pronouns() -> None:
    biased, notes = look_in_chinese("老", 0.2)
    assert any("written for this project" in note for note in notes)
    assert biased["fairness.age.old.good"].value > 0.05
    assert {"gender", "race", "religion", "age", "nationality"} <= {name.split(".")[1] for name in biased}
    pronouns, _ = look_in_chinese("她", 0.1)
    assert pronouns["fairness.pronouns.score.good"].n == 40  # 其他 is another word, and stays
    assert pronouns["fairness.pronouns.score.good"].value == pytest.approx(0.1)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_list_says_where_it_comes_from_and_has_enough_names(language: Language) -> None:
    lists = built_in_lists(language)
    assert set(lists) == {"gender", "race", "religion", "age", "nationality"}
    for axis, each in lists.items():
        assert "http" in each.source or each.source == "written for this project", axis
        names = [name for group in each.groups.values() for name in group]
        assert len(names) == len(set(names)), axis
        assert all(len(group) >= 5 for group in each.groups.values()), axis  # fewer say nothing


def test_a_file_of_lists_is_added(tmp_path: Path) -> None:
    texts = [text for text, _ in ROWS]
    path = tmp_path / "lists.yaml"
    path.write_text(f"team: {{red: {FEMALE[:5]}, blue: [Ada, Bo, Cy, Di, Ed]}}\n")
    figures, _ = look(0.1, texts, lists=str(path))
    assert figures["fairness.team.red.good"].value == pytest.approx(0.1)
    for content, message in (
        ("- a", "mapping"),
        ("team: [a]", "groups with names"),
        ("team: {red: [1]}", "list of names"),
    ):
        path.write_text(content)
        with pytest.raises(ConfigError, match=message):
            look(0.1, texts, lists=str(path))


def test_a_list_of_words_that_no_text_has_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no text has a word of this list: actor"):
        look(0.0, [text for text, _ in ROWS], pronouns={"actor": "actress"})


def test_names_of_two_groups_are_in_one_of_them_alone() -> None:
    """Where hardly any is left, nothing is compared: the test of no names was no number, and ended in a traceback."""
    texts = [f"{text} Kim" for text, _ in ROWS]
    shared = ["Kim", "Ann", "Bob", "Cid", "Dee"]
    for other in (shared, [*shared[1:], "Eve"]):
        figures, notes = look(0.0, texts, names={"kind": {"one": shared, "two": other}})
        assert "kind: two has fewer than 5 names that one has not." in notes
        assert not any(name.startswith("fairness.kind") for name in figures)
    figures, _ = look(0.0, texts, names={"kind": {"one": shared, "two": ["Kim", "Eve", "Flo", "Gus", "Hal", "Ivy"]}})
    assert figures["fairness.kind.one.good"].n == 10
