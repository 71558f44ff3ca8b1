"""The board in a real browser, on a phone, in the dark, by keyboard; and a real run that is started, stopped and resumed there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser import OVERFLOW, PHONE, UNNAMED, Page, serve

from peftlab.board.app import build_board
from peftlab.board.jobs import Jobs
from peftlab.board.runs import RunIndex
from tests.patience import PATIENCE

pytestmark = pytest.mark.slow

TOKEN = "a-long-secret"
BUTTON = "[...document.querySelectorAll('button:enabled')].find((each) => each.textContent === '{}')"


class Board:
    """A board that is served, and what it shows."""

    def __init__(self, root: Path, address: str) -> None:
        self.address, self.index = address, RunIndex(root)

    def wait(self, key: str, status: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.index.folder(key) is None or self.index.row(key).status != status:
            assert time.monotonic() < deadline, status
            time.sleep(0.05)


@pytest.fixture(scope="module")
def board(tiny_run: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    root = tmp_path_factory.mktemp("board") / "runs"
    shutil.copytree(tiny_run(), root / "first")
    jobs = Jobs(root, ["--device", "cpu", "--threads", "1", "--offline"])
    with serve(build_board(root, token=TOKEN, token_to_look=False, jobs=jobs)) as address:
        yield Board(root, address)


@pytest.fixture
def address(board: Board) -> str:
    return board.address


def test_pages_fit_a_phone_and_a_run_is_asked_by_keyboard(tab: Page, address: str) -> None:
    tab.forget()
    tab.visit(f"{address}/?token={TOKEN}", **PHONE)
    tab.wait_for(f"location.href === '{address}/' && document.body.innerText.includes('New run')")
    for path in ("/", "/new?task=text_classification&method=lora", "/run/first"):
        tab.visit(address + path, **PHONE)
        tab.wait_for(f"location.href === '{address}{path}' && document.querySelector('h1') !== null")
        tab.evaluate("for (const item of document.querySelectorAll('details')) item.open = true")
        assert tab.evaluate(OVERFLOW) == 0, path
        assert tab.evaluate(UNNAMED) == 0, path
    tab.wait_for("document.querySelector('textarea') !== null")
    tab.evaluate("document.querySelector('textarea').focus()")
    tab.type("a good day")
    for _ in range(2):  # past the button that predicts, to the one that explains
        tab.press("Tab", 9)
    assert tab.evaluate("document.activeElement.value") == "explain"
    tab.press("Enter", 13, "\r")
    tab.wait_for("document.querySelector('.tokens')?.innerText.includes('good') ?? false")
    assert tab.evaluate("document.querySelector('textarea').value") == "a good day"
    assert tab.evaluate(OVERFLOW) == 0
    assert tab.errors == []
    assert tab.asked_elsewhere(address) == []


def test_a_page_of_another_origin_starts_nothing(tab: Page, address: str, tmp_path: Path) -> None:
    page = tmp_path / "evil.html"
    page.write_text(
        f'<form method="post" action="{address}/run/first/try"><input name="text.text" value="x"><button></form>'
    )
    tab.visit(f"{address}/?token={TOKEN}", width=800)
    tab.open(page, width=800)
    tab.evaluate("document.querySelector('form').submit()")
    tab.wait_for(
        "document.body.innerText.includes('only who has opened') || document.body.innerText.includes('another site')"
    )
    tab.forget()


def test_a_run_is_started_stopped_and_resumed_by_keyboard(
    tab: Page, board: Board, tiny_bert: Path, reviews: Path
) -> None:
    tab.forget()
    tab.visit(f"{board.address}/?token={TOKEN}", width=900)
    tab.visit(f"{board.address}/new?task=text_classification&method=lora", width=900)
    steps = 150
    typed = {"name": "mine", "model.path": str(tiny_bert), "data.source": str(reviews), "task.max_length": "32"}
    for key, value in (typed | {"training.max_steps": str(steps), "training.batch_size": "8"}).items():
        tab_to(tab, f"document.getElementById('{key}')")
        tab.type(value)
    tab_to(tab, "document.getElementById('measure')")
    tab.press("f", 70, "f")  # false, of a list
    tab_to(tab, BUTTON.format("Start the run"))
    tab.press("Enter", 13, "\r")
    tab.wait_for("location.pathname.startsWith('/job/') && !!document.querySelector('h1')")
    key = tab.evaluate("document.querySelector('h1').textContent")
    board.wait(key, "going")
    process = board.index.row(key).process
    assert process is not None
    assert os.getsid(process) == process
    os.kill(process, signal.SIGSTOP)  # so that it has not ended before it is asked to
    tab.wait_for(f"location.pathname === '/run/{key}'")
    tab_to(tab, BUTTON.format("Stop"))
    tab.press("Enter", 13, "\r")
    os.kill(process, signal.SIGCONT)
    board.wait(key, "cancelled")
    done = last_step(board.index.root / key)
    assert 0 < done < steps
    tab.wait_for("!!" + BUTTON.format("Resume"))  # the page that followed the run shows it by itself
    tab_to(tab, BUTTON.format("Resume"))
    tab.press("Enter", 13, "\r")
    board.wait(key, "success")
    assert last_step(board.index.root / key) == steps
    tab.visit(f"{board.address}/run/{key}", width=900)
    tab.wait_for("document.querySelector('#try') !== null")
    assert tab.evaluate("!" + BUTTON.format("Resume"))
    assert tab.errors == []


def test_a_page_says_that_the_board_does_not_answer(tab: Page, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    (root / "third").mkdir(parents=True)
    (root / "third/recipe.yaml").write_text("name: third\n")
    (root / "third/metrics.jsonl").write_text('{"step": 7, "epoch": 1, "loss": 0.25}\n')
    lost = "document.body.innerText.includes('The board does not answer')"
    jobs = Jobs(root, ["--device", "cpu"])
    tab.forget()
    with serve(build_board(root, token=TOKEN, token_to_look=False, jobs=jobs)) as address:
        tab.visit(f"{address}/run/third", **PHONE)
        tab.wait_for("document.body.innerText.includes('step 7')")
        assert not tab.evaluate(lost)
    tab.wait_for(lost)
    tab.forget()


def tab_to(tab: Page, element: str) -> None:
    """Go to an element by the keyboard alone; what is folded in on the way is opened if it holds the element."""
    tab.wait_for(f"!!{element}")
    for _ in range(200):
        if tab.evaluate(f"document.activeElement === {element}"):
            return
        if tab.evaluate(f"document.activeElement.tagName === 'SUMMARY' && document.activeElement.parentElement.contains({element})"
                        " && !document.activeElement.parentElement.open"):  # fmt: skip
            tab.press("Enter", 13, "\r")
        tab.press("Tab", 9)
    raise AssertionError(f"the keyboard does not reach {element}")


def last_step(folder: Path) -> int:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return max(line.get("step", 0) for line in lines)
