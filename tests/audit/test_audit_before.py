"""An audit before and after: the same rows, differences in pairs, and what is called better or worse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_ind

from peftlab.audit.before import check_alike, compare
from peftlab.audit.name_lists import built_in_lists
from peftlab.audit.report import BeforeReport
from peftlab.audit.run_audit import choose_parts, run_parts
from peftlab.core.audit import Figure, Findings, Sample
from peftlab.core.errors import UserError
from peftlab.core.task import TASKS
from peftlab.testing.audited_rows import audited
from tests.conftest import Command, sentences

pytestmark = pytest.mark.slow
ROWS = sentences(120, seed=4)
TEXTS, LABELS = [text for text, _ in ROWS], [label for _, label in ROWS]
GOOD = {"good", "great", "lovely", "happy", "bright", "kind"}


def findings(bias: float, wrong: int) -> dict[str, Findings]:
    """What parts find of a model that likes women's names, and is wrong about the first so many texts."""
    names = {name.casefold() for name in built_in_lists("en")["gender"].groups["female"]}
    unlucky = set(TEXTS[:wrong])

    def scores(text: str) -> list[float]:
        words = set(text.casefold().split())
        good = (0.7 if words & GOOD else 0.3) + bias * bool(words & names)
        good = 1 - good if text in unlucky else good
        return [1 - good, good]

    found, _ = run_parts(audited(scores, TEXTS, LABELS), choose_parts(["errors", "fairness"], ["errors.clusters=0"]))
    return found


def test_what_a_remedy_changes_is_said_and_nothing_else() -> None:
    biased, fair = findings(0.05, wrong=40), findings(0.0, wrong=10)
    found = compare("biased", biased, fair)
    assert {"errors.overall", "fairness.gender.female.good"} <= set(found.better)
    assert not found.worse
    back = compare("fair", fair, biased)
    assert set(back.worse) == set(found.better)
    assert not back.better
    same = compare("fair", fair, findings(0.0, wrong=10))
    assert not [*same.better, *same.worse, *same.moved]
    assert same.figures["errors.overall"].difference == 0

    errors = found.figures["errors.overall"]
    changes = np.array([-1.0 if 10 <= at < 40 else 0.0 for at in range(120)])
    assert errors.paired
    assert errors.difference == pytest.approx(changes.mean())
    interval = ttest_1samp(changes, 0).confidence_interval(0.95)
    assert (errors.low, errors.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def figure(name: str, values: Any, *, units: Any = None, is_first: Any = None, **more: Any) -> Figure:
    values = np.asarray(values, dtype=np.float64)
    value = float(values.mean() if is_first is None else values[is_first].mean() - values[~is_first].mean())
    sample = Sample(range(len(values)) if units is None else units, values, is_first)
    return Figure(name, value, len(values), "…", sample=sample, **more)


def one(before: Figure, after: Figure) -> BeforeReport:
    return compare("before", {"part": Findings([before])}, {"part": Findings([after])})


def test_two_groups_are_compared_by_the_changes_of_their_names() -> None:
    generator = np.random.default_rng(0)
    own = generator.normal(size=20)  # what each name does in both models, which is far more than the bias
    is_first = np.arange(20) < 10
    before = figure("gap", own + 0.2 * is_first + generator.normal(size=20) / 30, is_first=is_first, unit="difference",
                    higher_is_better=None)  # fmt: skip
    after = figure("gap", own + generator.normal(size=20) / 30, is_first=is_first, unit="difference",
                   higher_is_better=None)  # fmt: skip
    found = one(before, after).figures["gap"]
    changes = after.sample.values - before.sample.values  # type: ignore[union-attr]
    assert found.p_value == pytest.approx(ttest_ind(changes[:10], changes[10:], equal_var=False).pvalue)
    assert found.p_value < 1e-6
    assert found.change == "moved"  # names differ so much that nobody knows which of the two gaps is nearer to none


@pytest.mark.parametrize(("gap", "change"), [(-0.02, "better"), (-0.2, "better"), (0.09, "moved"), (0.3, "worse")])
def test_a_gap_is_better_where_it_is_surely_nearer_to_none(gap: float, change: str) -> None:
    """From 10 points for one group to 9 for the other, something has changed, and not surely for the better."""
    draws = np.random.default_rng(0).normal(0, 0.03, (2, 60))
    is_first, more = np.arange(60) < 30, {"unit": "difference", "higher_is_better": None}
    start = 0.5 if gap == -0.2 else 0.1  # any size, so long as it is nearer
    before = figure("gap", draws[0] - start * is_first, is_first=is_first, **more)
    after = figure("gap", draws[1] + gap * is_first, is_first=is_first, **more)
    assert one(before, after).figures["gap"].change == change
    ends = [{"low": value - 0.03, "high": value + 0.03, **more} for value in (-start, gap)]
    unpaired = one(*(Figure("gap", value, 60, "…", **own) for value, own in zip((-start, gap), ends, strict=True)))
    assert unpaired.figures["gap"].change == change


def test_figures_of_other_rows_are_not_compared_and_those_without_rows_by_their_intervals() -> None:
    other = one(figure("a", [0, 1, 1]), figure("a", [0, 1, 1], units=[5, 6, 7]))
    assert (other.figures, other.only_before, other.only_after) == ({}, ["a"], ["a"])
    far = one(Figure("ece", 0.2, 500, "…", low=0.16, high=0.24), Figure("ece", 0.05, 500, "…", low=0.02, high=0.08))
    assert far.better == ["ece"]
    assert (far.figures["ece"].low, far.figures["ece"].high) == (pytest.approx(-0.2), pytest.approx(-0.1))
    near = one(Figure("ece", 0.1, 500, "…", low=0.06, high=0.14), Figure("ece", 0.09, 500, "…", low=0.05, high=0.13))
    assert near.figures["ece"].change == "unclear"
    assert not near.figures["ece"].paired
    count = one(Figure("conflicts", 3, 9, "…", unit="count"), Figure("conflicts", 1, 9, "…", unit="count"))
    assert (count.figures["conflicts"].p_value, count.better) == (None, [])


def test_an_answer_that_got_wrong_by_chance_is_in_an_interval_around_no_change() -> None:
    found = one(figure("a", np.zeros(100)), figure("a", np.arange(100) == 0)).figures["a"]
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0 < found.difference < found.high
    assert found.change == "unclear"


def test_two_models_that_do_not_differ_are_rarely_told_apart() -> None:
    generator = np.random.default_rng(1)
    said = 0
    for _ in range(200):
        draws = generator.random((2, 4, 150)) < 0.2
        before, after = ({"part": Findings([figure(f"f{at}", own[at]) for at in range(4)])} for own in draws)
        found = compare("before", before, after)
        said += bool(found.better or found.worse)
    assert said <= 20  # 10 are expected at most; binomial, p < 0.002 beyond


def test_a_run_that_cannot_answer_the_same_rows_is_refused() -> None:
    def run(name: str, labels: tuple[str, ...] = ("bad", "good"), **keys: Any) -> Any:
        return SimpleNamespace(name=name, task=TASKS["text_classification"](**keys), labels=labels)

    check_alike(run("after"), run("before", ("good", "bad")))
    for other, expected in (
        (run("before", ("bad", "fine")), "before has the classes bad, fine, and after bad, good"),
        (run("before", text="review"), "before reads the column review, and after text"),
        (run("before", label="stars"), "before learned the column stars, and after label"),
    ):
        with pytest.raises(UserError, match=expected):
            check_alike(run("after"), other)


def test_the_verb_puts_both_on_one_page(command: Command, tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    table = tmp_path / "new.csv"
    table.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in sentences(60, seed=9)))
    limits, page = tmp_path / "limits.yaml", tmp_path / "page.html"
    limits.write_text("worse: 0\n")
    weak = tiny_run(steps=1)
    arguments = ("--data", table, "--parts", "errors", "--set", "errors.clusters=2")
    done = command("audit", tiny_run(), *arguments, "--before", weak, "--output", page, "--json")
    assert done.returncode == 0, done.stderr
    before = json.loads(done.stdout)["before"]
    overall = before["figures"]["errors.overall"]
    assert overall["paired"]
    assert overall["difference"] == pytest.approx(overall["after"] - overall["before"])
    assert before["rows_learned"] == 0
    html = page.read_text()
    assert "better" in html.split("</style>")[1]
    assert "errors.overall" in html
    strong = tiny_run()
    done = command("audit", weak, *arguments, "--before", strong, "--fail-under", limits)
    assert f"first {strong}, the run before" in done.stderr  # both are called tiny-bert
    assert f"Since {strong}: " in done.stdout
    assert done.returncode == (1 if "worse" in before["figures"]["errors.overall"]["change"] or before["better"] else 0)

    done = command("audit", weak, *arguments, "--fail-under", limits)
    assert (done.returncode, "--before" in done.stderr) == (2, True), done.stderr
    done = command("audit", weak, *arguments, "--before", tmp_path / "nothing")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_run_before_that_has_learned_the_rows_is_told(
    command: Command, tiny_run: Callable[..., Path], reviews: Path
) -> None:
    arguments = ("--data", reviews, "--parts", "errors", "--set", "errors.clusters=0", "--before", tiny_run(steps=1))
    done = command("audit", tiny_run(), *arguments)
    assert done.returncode == 0, done.stderr
    assert "The run before was trained on " in done.stdout
