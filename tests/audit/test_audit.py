"""Audits: the verb on a tiny run, and planted faults that its parts must find."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peftlab.audit.page import render_page, shown_value
from peftlab.audit.report import ReportedFigure
from peftlab.audit.run_audit import build_report, choose_parts, rank
from peftlab.audit.slices import all_slices
from peftlab.audit.thresholds import meant_by
from peftlab.audit.worst_case import SUBSTITUTIONS, Substitution, search_worst_case
from peftlab.cli.audit import _summary
from peftlab.core.audit import AUDITS, Audited, Figure, Findings, Unit, errors_of, texts_of
from peftlab.core.errors import ConfigError
from peftlab.core.perturbation import PERTURBATIONS
from peftlab.core.splits import Split
from peftlab.core.task import TASKS, Prediction
from peftlab.statistics.means import exceeds, mean_with_interval
from peftlab.statistics.slices import slice_p_values
from peftlab.testing.audited_rows import FunctionModel, audited, audited_numbers
from tests.conftest import Command, sentences

SMALL = ("--parts", "errors,robustness", "--set", "robustness.texts=20", "--set", "robustness.worst_case_texts=1")
FEW = ("--set", "robustness.perturbations=[typos, entities, negation_added]")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = [
        f"{text},{label},{'mail' if at % 3 else 'phone'}\n" for at, (text, label) in enumerate(sentences(90, seed=9))
    ]
    path = tmp_path / "new.csv"
    path.write_text("text,label,source\n" + "".join(rows))
    return path


def test_an_audit_gives_figures_a_page_and_a_gate(
    command: Command, tiny_run: Callable[..., Path], table: Path, tmp_path: Path
) -> None:
    limits = tmp_path / "limits.yaml"
    limits.write_text("errors.overall: 1.0\nrobustness.*.flipped: {at_least: 1.1}\n")
    page = tmp_path / "page.html"
    arguments = ("--data", table, "--slices", "source", "--output", page, "--fail-under", limits, "--json")
    done = command("audit", tiny_run(), *arguments, *SMALL, *FEW)
    assert done.returncode == 1, done.stderr  # a share cannot be 1.1, so each of these figures fails
    report = json.loads(done.stdout)
    assert report["rows"] == 90
    assert report["thresholds"] == 2
    figures: dict[str, Any] = report["figures"]
    flipped = {name for name in figures if name.startswith("robustness.") and name.endswith(".flipped")}
    assert {breach["figure"] for breach in report["breaches"]} == flipped
    assert {"errors.overall", "errors.column.source.mail", "errors.class.good"} <= figures.keys()
    assert "robustness.typos.flipped" in flipped
    for figure in figures.values():
        assert figure["low"] <= figure["value"] <= figure["high"]
        assert figure["n"] > 0
        assert figure["sentence"]
    assert any("entities" in note for note in report["parts"]["robustness"]["notes"])  # no names in these texts
    html = page.read_text()
    assert "Audit of tiny-bert" in html
    assert "http" not in html.split("</style>")[1]
    again = command("audit", tiny_run(), "--data", table, "--parts", "errors", "--output", page)
    assert again.returncode == 0, again.stderr  # a page of its own is made anew
    assert again.stdout.endswith(f"page: {page}\n")
    assert "wrong" not in again.stdout or "errors.overall" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "errrors.clusters=1"), "Did you mean `errors`?"),
        (("--set", "robustness.text=3"), "Did you mean `texts`?"),
        (("--set", "robustness.perturbations=[typoss]"), "typos"),
        (("--slices", "sourcee"), "sourcee"),
        (("--fail-under", "limits.yaml"), "errors.overal"),
    ],
)
def test_bad_input_gets_a_message(
    command: Command, tiny_run: Callable[..., Path], table: Path, tmp_path: Path, arguments: Any, message: str
) -> None:
    (tmp_path / "limits.yaml").write_text("errors.overal: 0.1\n")
    done = command(
        "audit", tiny_run(), "--data", table, *arguments, *(() if "--set" in arguments else ("--parts", "errors"))
    )
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_slice_with_more_errors_is_found_and_others_are_not() -> None:
    generator = np.random.default_rng(0)
    members = np.zeros((12, 1000), dtype=bool)
    for at in range(12):
        members[at, generator.choice(1000, 100, replace=False)] = True
    errors = (generator.random(1000) < np.where(members[3], 0.4, 0.1)).astype(float)
    p_values = slice_p_values(errors, members, generator, draws=400)
    assert p_values.argmin() == 3
    assert p_values[3] < 0.01
    alarms = [
        slice_p_values((generator.random(300) < 0.1).astype(float), members[:, :300], generator, draws=100).min()
        <= 0.05
        for _ in range(100)
    ]
    assert sum(alarms) <= 12  # of 5 expected; binomial, p < 0.005 beyond


def test_values_that_differ_by_blanks_are_one_slice() -> None:
    columns = {"text": ["a"] * 90, "label": ["good"] * 90, "city": ["New York", "New  York ", "Rome"] * 30}
    rows = Split("test", range(90), columns)
    model = FunctionModel(lambda _: (0.2, 0.8), ("bad", "good"))
    slices, _ = all_slices(Audited(model, rows, model.predict(rows), None, slices=("city",)), fewest=20)
    found = {each.name: int(each.members.sum()) for each in slices if each.name.startswith("column.")}
    assert found == {"column.city.New_York": 60, "column.city.Rome": 30}


def test_slices_of_distances_too() -> None:
    generator = np.random.default_rng(1)
    members = np.zeros((2, 400), dtype=bool)
    members[0, :60] = members[1, 100:160] = True
    errors = generator.exponential(1 + members[0])
    assert slice_p_values(errors, members, generator, draws=400)[0] < 0.05


def test_means() -> None:
    values = np.array([0.0] * 90 + [1.0] * 10)
    alone, among = mean_with_interval(values), mean_with_interval(values, looked_at=20)
    assert among.low < alone.low < 0.1 < alone.high < among.high
    from scipy.stats import binomtest

    assert exceeds(values, 0.05) == pytest.approx(binomtest(10, 100, 0.05, alternative="greater").pvalue)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("case", "We SAW it", "we saw it"),
        ("contractions", "I'm sure it is not, and you don't", "I am sure it's not, and you do not"),
        ("punctuation", "Well, I don't: 3.5!", "Well I don't 3.5"),
        ("negation_added", "It is good and was fine", "It is not good and was fine"),
        ("negation_removed", "We won't go", "We will go"),
        ("truncation", "a b c d e", "a b c d"),
        ("synonyms", "MOVIE nights: I Buy it", "MOVIE nights: I Purchase it"),
        ("synonyms", "Nothing here", "Nothing here"),
        ("paraphrase", "a b", "a b"),
    ],
)
def test_perturbations(name: str, text: str, expected: str) -> None:
    import random

    assert PERTURBATIONS[name]().perturb(text, random.Random(0)) == expected


def test_words_with_labels_are_changed_too() -> None:
    import random

    words = ["Wonderful", "weather", "in", "London"]
    assert PERTURBATIONS["typos"]().perturb(words, random.Random(0)) != words
    assert [part.registered_name for part in choose_parts([], [])][:2] == ["errors", "robustness"]


def test_a_wrong_setting_is_told_as_it_was_written() -> None:
    with pytest.raises(ConfigError, match=r"--set: robustness\.texts: should be"):
        choose_parts(["robustness"], ["robustness.texts=10"])
    with pytest.raises(ConfigError, match=r"--set: robustness\.text: unknown key"):
        choose_parts([], ["robustness.text=300"])


def test_alarms_come_in_the_order_of_what_they_cost() -> None:
    """A small effect that is told apart with certainty is still a small one."""

    def alarm(value: float, p_value: float | None, unit: str = "share") -> ReportedFigure:
        return ReportedFigure(
            value=value, low=None, high=None, n=100, sampled="texts", unit=unit, higher_is_better=False,
            p_value=p_value, alarm=True, sentence="", examples=[],
        )  # fmt: skip

    leak, group, trifle = alarm(0.02, None), alarm(0.5, 0.04), alarm(-0.006, 1e-9, "difference")
    assert sorted([trifle, group, leak], key=rank) == [leak, group, trifle]


def test_texts_are_put_in_other_words_by_a_run_that_writes(
    command: Command, tiny_run: Callable[..., Path], table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All texts in one call; a run that writes nothing, or no run, gets a message."""
    from peftlab.audit.audited_run import AuditedRun

    asked: list[list[str]] = []

    def write(self: AuditedRun, prompts: list[str]) -> list[str]:
        asked.append(list(prompts))
        return [prompt.replace("Rephrase:", "it was") if "good" in prompt else " " for prompt in prompts]

    def audit(keys: str) -> Any:
        perturbations = f"robustness.perturbations=[{{type: paraphrase{keys}}}]"
        return command("audit", tiny_run(), "--data", table, "--parts", "robustness", "--set", perturbations,
                       "--set", "robustness.worst_case_texts=0", "--json")  # fmt: skip

    model = f", model: {tiny_run()}"
    assert "writes no texts" in audit(model).stderr
    assert "no such run" in audit(", model: nowhere").stderr
    assert "needs {text}" in audit(f"{model}, prompt: x").stderr
    note = json.loads(audit("").stdout)["parts"]["robustness"]["notes"][0]
    assert "give a run that writes" in note
    monkeypatch.setattr(AuditedRun, "write", write)
    figure = json.loads(audit(f"{model}, prompt: 'Rephrase: {{text}}'").stdout)["figures"][
        "robustness.paraphrase.flipped"
    ]
    assert len(asked) == 1
    assert len(asked[0]) == 90
    assert 0 < figure["n"] == sum("good" in prompt for prompt in asked[0])


def test_what_a_change_does_to_numbers_is_how_far_they_move() -> None:
    rows = audited_numbers(lambda text: float(len(text)), [f"it is {at} good films" for at in range(60)], [20.0] * 60)
    part = choose_parts(["robustness"], ["robustness.perturbations=[{type: case, to: upper}, distractor]"])[0]
    figures = {figure.name: figure for figure in part.run(rows).figures}
    assert not any(name.endswith(".flipped") for name in figures)
    assert figures["robustness.case.distance"].value == 0
    assert figures["robustness.distractor.distance"].value > 10
    assert figures["robustness.distractor.distance"].unit == "number"
    assert "an answer moves by" in figures["robustness.distractor.distance"].sentence


def test_a_change_that_is_named_twice_has_figures_for_both() -> None:
    rows = audited_numbers(lambda text: float(len(text)), [f"these films are good {at}" for at in range(40)], [2] * 40)
    changes = "[{type: truncation, share: 0.2}, {type: truncation, share: 0.6}]"
    part = choose_parts(["robustness"], [f"robustness.perturbations={changes}"])[0]
    figures = {figure.name: figure for figure in part.run(rows).figures}
    less, more = figures["robustness.truncation.distance"], figures["robustness.truncation_2.distance"]
    assert more.value > less.value > 0
    assert ("the last 20 %" in less.sentence, "the last 60 %" in more.sentence) == (True, True)


def test_what_a_change_is_said_to_do_is_what_it_is_set_to() -> None:
    assert PERTURBATIONS["case"](to="upper").described() == "all letters are capitals"
    assert PERTURBATIONS["typos"](share=0.5).described() == "50 % of the words have a typing error"
    assert PERTURBATIONS["synonyms"]().described() == PERTURBATIONS["synonyms"].what


def test_an_error_says_nothing_where_the_meaning_should_turn() -> None:
    """A model that minds a negation would seem worse than one that does not."""
    rows = audited(lambda text: [0.9, 0.1] if "not" in text else [0.1, 0.9], [f"it is good {at}" for at in range(60)],
                   ["good"] * 60)  # fmt: skip
    part = choose_parts(["robustness"], ["robustness.perturbations=[negation_added]"])[0]
    figures = {figure.name: figure for figure in part.run(rows).figures}
    assert "robustness.negation_added.loss" not in figures
    assert figures["robustness.negation_added.moved"].value == 1
    assert figures["robustness.negation_added.flipped"].higher_is_better is None


@pytest.mark.parametrize(
    ("task", "right", "said", "error"),
    [
        ("question_answering", ["The Tower.", "it"], "tower", 0),
        ("question_answering", [], "", 0),
        ("question_answering", ["Paris"], "London", 1),
        ("text_generation", ["one", "another"], "another ", 0),
        ("text_generation", ["one"], "two", 1),
    ],
)
def test_one_of_several_right_texts_is_right(task: str, right: list[str], said: str, error: float) -> None:
    assert errors_of(TASKS[task](), [Prediction(right, said, [])]).tolist() == [error]


def test_the_worst_synonyms_are_searched_for() -> None:
    rows = [f"a {word} film {at}" for at, word in enumerate(["good", "fine", "decent", "bad", "poor"] * 8)]
    labels = ["good" if row.split()[1] in ("good", "fine", "decent") else "bad" for row in rows]

    def scores(text: str) -> list[float]:
        known = {"good": 0.9, "fine": 0.8, "decent": 0.2}  # the model has not learned this one
        good = next((value for word, value in known.items() if word in text), 0.1)
        return [1 - good, good]

    found = search_worst_case(audited(scores, rows, labels), SUBSTITUTIONS[1], texts=40, budget=1)
    (figure,) = found
    assert figure.name == "robustness.worst_synonyms.flipped"
    assert figure.n == 32  # the right answers, of which those to good and fine can be turned round
    assert figure.value == 0.5
    assert all("decent" in str(example["changed_text"]) for example in figure.examples)
    assert not search_worst_case(audited(scores, ["none here"] * 30, ["bad"] * 30), SUBSTITUTIONS[1], texts=9, budget=1)


def test_an_answer_that_is_turned_round_counts_though_another_change_is_less_probable() -> None:
    def scores(text: str) -> list[float]:
        if "decent" in text:
            return [0.45, 0.1, 0.44]  # another class is the likeliest
        return [0.3, 0.29, 0.41] if "odd" in text else [0.1, 0.1, 0.8]

    rows = audited(scores, ["a good film"] * 30, ["c"] * 30, ("a", "b", "c"))
    kind = Substitution("worst", "words for", lambda word: word == "good", lambda word, _: ["odd", "decent", "even"])
    (found,) = search_worst_case(rows, kind, texts=20, budget=1)
    assert found.value == 1


def test_a_figure_of_one_number_has_no_interval() -> None:
    """One text that a perturbation changes, of tags or numbers: the report refused the infinite ends."""
    one = mean_with_interval(np.array([0.3]))
    units: list[Unit] = ["share", "difference", "number"]
    figures = [one.figure(f"robustness.{unit}", "…", unit=unit) for unit in units]
    rows = audited(lambda text: [0.4, 0.6], ["x"] * 30, ["good"] * 30)
    report = build_report(rows, {"robustness": Findings(figures)}, {}, data="x", began=0)
    assert [(each.low, each.high) for each in report.figures.values()] == [(0, 1), (-1, 1), (None, None)]
    assert json.loads(json.dumps(report.model_dump(mode="json"), allow_nan=False))
    assert render_page(report)


def test_nothing_is_below_nothing() -> None:
    figure = ReportedFigure(value=0, low=None, high=None, n=1, sampled="texts", unit="difference", alarm=False,
                            higher_is_better=None, p_value=None, sentence="", examples=[])  # fmt: skip
    assert shown_value(figure, -0.00001) == "+0.0 points"


def test_brackets_in_the_name_of_a_figure_are_no_pattern() -> None:
    names = ["errors.column.kind.[a]", "errors.column.kind.a", "errors.overall"]
    assert meant_by("errors.column.kind.[a]", names) == ["errors.column.kind.[a]"]
    assert meant_by("errors.column.kind.*", names) == names[:2]
    assert meant_by("errors.column.kind.[a]", names[1:]) == ["errors.column.kind.a"]


def test_hostile_texts_stay_texts_on_the_page_and_on_the_screen() -> None:
    evil = '"><script>alert(1)</script>\x1b[2J'
    figure = Figure(f"errors.{evil}", 0.5, 9, evil, low=0.4, high=0.6, is_fault=True, examples=[{evil: evil}])
    rows = audited(lambda text: [0.4, 0.6], ["x"] * 30, ["good"] * 30)
    report = build_report(rows, {"errors": Findings([figure], [evil])}, {"words": evil}, data=evil, began=0)
    page = render_page(report)
    assert page.count("alert(1)") >= 6
    assert "<script" not in page
    assert "\x1b" not in _summary(report)


@pytest.mark.parametrize(
    ("task", "column", "label", "said", "why"),
    [
        ("text_generation", "context", ["good"], "good", "a row is a conversation"),
        ("question_answering", "context", ["good"], "good", "an answer is a place in its passage"),
        ("image_classification", "image", "good", "good", "its rows hold images"),
    ],
)
def test_rows_that_cannot_be_changed_are_not(task: str, column: str, label: Any, said: str, why: str) -> None:
    """A typing error would break the conversation, the place of the answer, or the name of the file."""
    rows = audited(lambda text: [0.1, 0.9], [f"it is good {at}" for at in range(30)], ["good"] * 30)
    model = FunctionModel(lambda text: [0.1, 0.9], ("bad", "good"))
    model.task = TASKS[task]()
    columns = dict.fromkeys([column, "question"], rows.texts)
    own = Audited(model, Split("test", range(30), columns), [Prediction(label, said, [0.1, 0.9])] * 30)
    for part in choose_parts(["robustness", "fairness"], []):
        assert why in str(part.why_not(own))


def test_a_conversation_is_shown_and_counted_as_what_is_said() -> None:
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Where is my card?"}]
    rows = Split("test", [0], {"context": [json.dumps(messages)]})
    assert texts_of(rows, TASKS["instruction_tuning"]()) == ["Be kind.\n\nWhere is my card?"]
    own = [json.dumps([{"role": "user", "content": f"one two three four five six {word}"}]) for word in ("red", "blue")]
    model = FunctionModel(lambda text: [1.0], ())
    model.task = TASKS["instruction_tuning"]()
    test, train = (Split(name, [0], {"context": [text]}) for name, text in zip(("test", "train"), own, strict=True))
    figures = AUDITS["data"]().run(Audited(model, test, [Prediction(["x"], "x", [])], train=train)).figures
    near = next(figure for figure in figures if figure.name == "data.near_leaks")
    assert near.value == 0  # six words of eight are shared; with those that JSON adds it would be nine of eleven
