"""The page in a real browser: no error on the console, nothing wider than a phone, answers that are Python's."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import OVERFLOW, Page
from fakes import METHODS, FakeData, write_run

from peftlab.report.choice import Limits, choose
from peftlab.report.document import build_report
from peftlab.report.page import write_report

pytestmark = pytest.mark.slow

SCREENS = {"desktop": {"width": 1280}, "phone": {"width": 360, "height": 740, "phone": True}}
LABELS = """
[...document.querySelectorAll("svg.chart")].filter((svg) => svg.getBoundingClientRect().width > 0).map((svg) =>
  [...svg.querySelectorAll("text.label")].map((text) => {
    const box = text.getBBox();
    return [text.textContent, box.x, box.y + 1.5, box.x + box.width, box.y + box.height - 1.5];
  }))
"""


@pytest.fixture(scope="module")
def html(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report([suite], path)
    return path


def open_all(tab: Page) -> None:
    tab.evaluate("for (const item of document.querySelectorAll('details')) item.open = true")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_no_errors_no_requests_and_nothing_too_wide(tab: Page, html: Path, screen: str, dark: bool) -> None:
    tab.forget()
    tab.open(html, dark=dark, **SCREENS[screen])
    assert tab.evaluate(OVERFLOW) == 0
    open_all(tab)
    assert tab.evaluate(OVERFLOW) == 0
    assert tab.evaluate("document.body.innerText.length") > 3000
    assert tab.asked_elsewhere("file:") == []
    assert tab.errors == []


def test_text_stands_out_in_light_and_dark(tab: Page, html: Path) -> None:
    """The contrast of text, and of the colours of the methods, against the page: 4.5 to 1 (WCAG 2.2, 1.4.3)."""
    names = ["text", "muted", "accent", "warning", "good", "bad", *(f"c{number}" for number in range(12))]
    script = """(() => {
      const probe = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
      const luminance = (name) => {
        probe.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
        probe.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...probe.getImageData(0, 0, 1, 1).data].slice(0, 3)
          .map((value) => value / 255).map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const page = luminance("--page");
      return %s.map((name) => { const own = luminance("--" + name); return (Math.max(page, own) + 0.05) / (Math.min(page, own) + 0.05); });
    })()"""
    for dark in (False, True):
        tab.open(html, width=1280, dark=dark)
        ratios = dict(zip(names, tab.evaluate(script % names), strict=True))
        assert {name: ratio for name, ratio in ratios.items() if ratio < 4.5} == {}, f"dark: {dark}"


@pytest.mark.parametrize("screen", SCREENS)
def test_labels_as_they_are_drawn_do_not_overlap(tab: Page, html: Path, screen: str) -> None:
    tab.open(html, **SCREENS[screen])
    open_all(tab)
    charts = tab.evaluate(LABELS)
    assert len(charts) == 6
    for labels in charts:
        assert len(labels) == len(METHODS)
        for number, (text, left, top, right, bottom) in enumerate(labels):
            for other, left2, top2, right2, bottom2 in labels[number + 1 :]:
                apart = right <= left2 or right2 <= left or bottom <= top2 or bottom2 <= top
                assert apart, f"{text} and {other}"


@pytest.mark.parametrize(
    ("fragment", "limits"),
    [
        ("", Limits()),
        ("#memory=700MB", Limits(memory_bytes=7e8)),
        ("#memory=800MB&loss=1", Limits(memory_bytes=8e8, loss_points=1)),
        ("#loss=3.5", Limits(loss_points=3.5)),
        ("#seconds=240&loss=9", Limits(seconds=240, loss_points=9)),
        ("#seconds=1", Limits(seconds=1)),
        ("#memory=0.2GB&loss=0.5", Limits(memory_bytes=2e8, loss_points=0.5)),
    ],
)
def test_the_page_answers_as_python_does(tab: Page, html: Path, suite: Path, fragment: str, limits: Limits) -> None:
    choice = choose(build_report([suite]).comparisons[0], limits)
    tab.open(html, width=1280, fragment=fragment)
    answer = tab.evaluate("document.querySelector('.verdict').textContent")
    evidence = tab.evaluate("[...document.querySelectorAll('.evidence li')].map((item) => item.textContent)")
    assert answer.replace("\N{NO-BREAK SPACE}", " ") == choice.answer
    assert [line.replace("\N{NO-BREAK SPACE}", " ") for line in evidence] == choice.evidence


def test_the_page_too_says_what_no_test_compares(tab: Page, tmp_path: Path) -> None:
    for number, (method, seeds) in enumerate(((METHODS[0], (0, 1)), (METHODS[1], (0, 1)), (METHODS[9], (0,)))):
        for seed in seeds:
            write_run(tmp_path / f"{number}-{seed}", method, seed, FakeData(100), predictions=False)
    report = write_report([tmp_path], tmp_path / "report.html")
    tab.open(tmp_path / "report.html", width=1280)
    answer = tab.evaluate("document.querySelector('.verdict').textContent").replace("\N{NO-BREAK SPACE}", " ")
    assert answer == report.choices()[0].answer
    assert "No test compares prompt_tuning with full." in answer


def test_inputs_and_methods_react(tab: Page, html: Path) -> None:
    tab.open(html, width=1280)
    before = tab.evaluate("document.querySelector('.verdict').textContent")
    change = "(() => { const i = document.querySelector('[name=memory]'); i.value = %r; i.dispatchEvent(new Event('input', {bubbles: true})); })()"
    tab.evaluate(change % "150MB")
    assert tab.evaluate("document.querySelector('.verdict').textContent") != before
    tab.evaluate(change % "much")
    assert tab.evaluate("document.querySelector('[name=memory]').getAttribute('aria-invalid')") == "true"
    tab.evaluate(
        "document.querySelector('svg.chart [data-m=\"2\"]').dispatchEvent(new PointerEvent('pointerover', {bubbles: true}))"
    )
    assert tab.evaluate("document.querySelectorAll('.on').length") > 5
    assert tab.evaluate("document.getElementById('tip').hidden") is False
    assert "trainable parameters" in tab.evaluate("document.getElementById('tip').innerText")
    assert tab.errors == []


def test_a_page_of_many_methods_is_usable(tab: Page, tmp_path: Path) -> None:
    data = FakeData(100)
    for number in range(60):
        write_run(tmp_path / str(number), METHODS[number % 11], 0, data, name=f"a-method-with-a-long-name-{number}")
    write_report([tmp_path], tmp_path / "report.html")
    for screen in SCREENS.values():
        tab.open(tmp_path / "report.html", **screen)
        assert tab.evaluate(OVERFLOW) == 0
        assert tab.evaluate("document.querySelector('.tall').getBoundingClientRect().height < innerHeight")
    assert tab.errors == []


def test_long_names_leave_room_for_the_figures(tab: Page, tmp_path: Path) -> None:
    """On a phone the score beside the longest name is on the screen, and no name is torn into single letters."""
    data = FakeData(100)
    long = "AnExperimentOfOursWithoutAnyPlaceToBreakTheNameAtAllThatGoesOnAndOn"
    for name, method in ((f"{long}One", METHODS[0]), (f"{long}Two", METHODS[1]), ("short", METHODS[2])):
        write_run(tmp_path / name, method, 0, data, name=name)
    write_report([tmp_path], tmp_path / "report.html")
    for screen in ({"width": 390, "height": 844, "phone": True}, {"width": 1280}):
        tab.open(tmp_path / "report.html", **screen)
        open_all(tab)
        assert tab.evaluate(OVERFLOW) == 0
        right, height = tab.evaluate(
            "(() => { const row = document.querySelector('.ranking tbody tr');"
            "return [row.querySelector('.score').getBoundingClientRect().right, row.offsetHeight]; })()"
        )
        assert right <= screen["width"]
        assert height < 150
    assert tab.errors == []
