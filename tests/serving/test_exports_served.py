"""Exports are served as runs are; and what cannot be served is told in words, without a harm to the others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from test_service import TEXTS, same, told_by_predict

from peftlab.core.reporter import Silent
from peftlab.inference.export.export import export_run

pytestmark = pytest.mark.slow

Run = Callable[..., Path]


@pytest.fixture(scope="module")
def exports(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exports")
    for kind in ("merged", "onnx"):
        export_run(tiny_run(), kind, folder / kind, offline=True, reporter=Silent())
    return {kind: folder / kind for kind in ("merged", "onnx")}


@pytest.mark.parametrize("kind", ["merged", "onnx"])
def test_one_export_by_itself(kind: str, start, exports: dict[str, Path], tiny_run: Run) -> None:
    client = start({"only": exports[kind]})
    (only,) = client.request("GET", "/v1/adapters")[1]["adapters"]
    assert not only["rides_with_others"]
    status, body = client.predict(TEXTS)
    assert status == 200, body
    for folder in (exports[kind], tiny_run()):
        for answer, expected in zip(body["predictions"], told_by_predict(folder, TEXTS), strict=True):
            same(answer, expected)


def test_exports_come_and_go_beside_a_run(start, exports: dict[str, Path], tiny_run: Run) -> None:
    client = start({"run": tiny_run(seed=1)}, adapter_folders=(exports["onnx"].parent,))
    for kind, folder in exports.items():
        status, body, _ = client.request("POST", "/v1/adapters", {"name": kind, "folder": str(folder)})
        assert status == 201, body
    expected = {"run": tiny_run(seed=1), **exports}
    for name, folder in expected.items():
        answers = client.predict(TEXTS[:5], name)[1]["predictions"]
        for answer, wanted in zip(answers, told_by_predict(folder, TEXTS[:5]), strict=True):
            same(answer, wanted)
    for name in ("merged", "run"):
        assert client.request("DELETE", f"/v1/adapters/{name}")[0] == 204
    same(client.predict(TEXTS[:1])[1]["predictions"][0], told_by_predict(exports["onnx"], TEXTS[:1])[0])


def test_what_cannot_be_added(start, tiny_run: Run, tmp_path: Path) -> None:
    failed, unfinished, other = tmp_path / "failed", tmp_path / "unfinished", tiny_run(base="gpt2")
    shutil.copytree(tiny_run(seed=1), failed)
    record = json.loads((failed / "record.json").read_text())
    (failed / "record.json").write_text(json.dumps({**record, "status": "failed", "error": "a guard found it broken"}))
    shutil.copytree(tiny_run(seed=1), unfinished)
    (unfinished / "record.json").unlink()
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_run(seed=1), damaged)
    weights = damaged / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    client = start({"good": tiny_run()}, adapter_folders=(tmp_path, other.parent))
    for folder, expected in {
        failed: "a guard found it broken",
        unfinished: "no record.json",
        damaged: "not fully covered",
        other: "another base",
        tmp_path: "no record.json",
        tmp_path / "nothing": "no such folder",
    }.items():
        status, body, _ = client.request("POST", "/v1/adapters", {"name": "new", "folder": str(folder)})
        assert (status, expected in body["error"]) == (422, True), (folder, status, body)
    same(client.predict(TEXTS[:1])[1]["predictions"][0], told_by_predict(tiny_run(), TEXTS[:1])[0])
    assert client.request("GET", "/healthz")[1]["adapters"] == 1
