"""The page for labelling in a real browser: by keys alone, on a phone, in the dark."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from browser import OVERFLOW, PHONE, Page, serve

from peftlab.board.label_app import build_label_app
from peftlab.board.label_table import LabelTable, Question

pytestmark = pytest.mark.slow

TOKEN = "a-long-secret"
LONG = "a very long text that goes on and on, with averyveryveryveryveryverylongwordthatfitsintonolineofaphoneatall"


@pytest.mark.parametrize("several", [False, True])
def test_rows_are_labelled_by_keys(tab: Page, tmp_path: Path, several: bool) -> None:
    rows = f'text,select_reason\nwhat a day,sure by 0.51\n"{LONG}",\n<i>so so</i>,\n'
    (tmp_path / "rows.csv").write_text(rows)
    names = tuple(f"class number {number}" for number in range(1, 12))
    question = Question(("text",), ("label",), names, several)
    table = LabelTable(tmp_path / "rows.csv", tmp_path / "labelled.csv", question)

    def at(path: str) -> None:
        tab.wait_for(f"location.pathname === '{path}' && document.readyState === 'complete'")

    def look(name: str) -> None:
        assert tab.evaluate(OVERFLOW) == 0, name
        if folder := os.environ.get("PEFTLAB_SCREENSHOTS"):
            tab.screenshot(Path(folder) / f"{name}-{several}.png", whole=True)

    with serve(build_label_app(table, token=TOKEN)) as address:
        tab.forget()
        tab.visit(f"{address}/?token={TOKEN}", **PHONE)
        at("/row/1")
        assert tab.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
        look("first")
        tab.press("2", 50, "2")
        if several:
            tab.press("3", 51, "3")
            tab.press("2", 50, "2")
            tab.press("1", 49, "1")
            look("ticked")
            tab.press("Enter", 13, "\r")
        at("/row/2")
        wanted = ("class number 1", "class number 3") if several else ("class number 2",)
        assert table.answer_of(0) == wanted
        look("long")
        tab.press("/", 191, "/")  # the tenth class and later ones are found by their names
        tab.type("NUMBER 11")
        assert tab.evaluate("document.querySelectorAll('.class:not([hidden])').length") == 1
        tab.press("Enter", 13, "\r")
        if several:
            tab.wait_for("document.querySelectorAll(':checked').length === 1")
            tab.press("Enter", 13, "\r")
        at("/row/3")
        assert table.answer_of(1) == ("class number 11",)
        assert tab.evaluate("document.querySelector('.text').textContent") == "<i>so so</i>"
        tab.press("u", 85, "u")
        at("/row/2")
        assert table.answer_of(1) is None
        tab.press("ArrowLeft", 37)
        at("/row/1")
        tab.press("ArrowRight", 39)
        at("/row/2")
        for number in (2, 3):
            tab.press("1", 49, "1")
            if several:
                tab.press("Enter", 13, "\r")
            at(f"/row/{number + 1}" if number == 2 else "/done")
        look("done")
        assert table.done == 3
        assert tab.errors == []
        assert tab.asked_elsewhere(address) == []
