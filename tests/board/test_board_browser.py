"""The board in a real browser, on a phone, in the dark, by keyboard; and a real run that is started and stopped there."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn
from browser import Page
from fastapi.testclient import TestClient

from peftlab.board.app import build_board
from peftlab.board.jobs import Jobs
from peftlab.board.runs import RunIndex

pytestmark = pytest.mark.slow

OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
UNNAMED = """[...document.querySelectorAll("input:not([type=hidden]), select, textarea, button")]
  .filter((each) => !each.labels?.length && !each.getAttribute("aria-label") && !each.textContent.trim()).length"""
PHONE = {"width": 360, "height": 740, "phone": True, "dark": True}
TOKEN = "a-long-secret"


@pytest.fixture(scope="module")
def address(tiny_run: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("board") / "runs"
    shutil.copytree(tiny_run(), root / "first")
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    bound.listen()  # else a browser that comes before the server is there is shown its own page of an error
    app = build_board(root, token=TOKEN, token_to_look=False)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    server.should_exit = True
    thread.join()


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


def test_a_run_is_started_in_a_session_of_its_own_and_stopped(tmp_path: Path, tiny_bert: Path, reviews: Path) -> None:
    (tmp_path / "runs").mkdir()
    jobs = Jobs(tmp_path / "runs", ["--device", "cpu", "--threads", "1", "--offline"])
    client = TestClient(build_board(tmp_path / "runs", token=TOKEN, jobs=jobs))
    client.get("/", params={"token": TOKEN})
    form = {"task": "text_classification", "method": "lora", "name": "mine", "measure": "false"}
    form |= {
        "model.path": str(tiny_bert),
        "data.source": str(reviews),
        "training.max_steps": "100000",
        "task.max_length": "32",
    }
    own = {"Origin": "http://testserver"}
    started = client.post("/new", data=form, headers=own)
    assert "starting" in started.text
    key, index = started.text.split("<h1>")[1].split("</h1>")[0], RunIndex(tmp_path / "runs")

    def wait(status: str) -> None:
        deadline = time.monotonic() + 120
        while index.folder(key) is None or index.row(key).status != status:
            assert time.monotonic() < deadline, status
            time.sleep(0.1)

    wait("going")
    process = index.row(key).process
    assert process is not None
    assert os.getsid(process) == process
    assert "Stop" in client.get(f"/run/{key}").text
    client.post(f"/run/{key}/stop", data={"act": ""}, headers=own)
    wait("cancelled")
    assert "Resume" in client.get(f"/run/{key}").text
