"""Code that comes with a model runs by the user's own word alone: not by that of a run that was received."""

from __future__ import annotations

import ast
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import peftlab
from peftlab.artifact.saved_export import SavedExport
from peftlab.artifact.saved_run import SavedRun
from peftlab.core.errors import SourceError, UnsupportedError
from peftlab.core.reporter import Silent
from peftlab.core.task import Head
from peftlab.models import remote_code
from peftlab.models.base_model import load_base_model, load_tokenizer
from peftlab.models.model_config import KNOWN, ModelConfig
from peftlab.recipe.schema import Recipe, load_recipe
from peftlab.run.continuation import continuation_recipe
from peftlab.run.reproduce import rerun
from peftlab.run.run import run_recipe

CODE = """from pathlib import Path

from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from .mark import MARK

Path(MARK).touch()


class OwnTokenizer(BertTokenizerFast):
    pass


class OwnModel(BertForSequenceClassification):
    config_class = BertConfig
"""


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_code, "state_folder", lambda: tmp_path / "state")
    monkeypatch.delenv(remote_code.VARIABLE, raising=False)


def put_code(folder: Path, mark: Path, *, model: bool = False) -> None:
    """Python files in a folder, for its tokenizer or its model; they leave a mark where they run."""
    (folder / "own.py").write_text(CODE)
    (folder / "mark.py").write_text(f"MARK = {str(mark)!r}\n")
    name, key, cls = ("config.json", "AutoModelForSequenceClassification", "own.OwnModel")
    if not model:
        name, key, cls = ("tokenizer_config.json", "AutoTokenizer", ["own.OwnTokenizer", "own.OwnTokenizer"])  # type: ignore[assignment]
    values = json.loads((folder / name).read_text())
    values |= {"auto_map": {key: cls}} | ({} if model else {"tokenizer_class": "OwnTokenizer"})
    (folder / name).write_text(json.dumps(values))


def has_run(mark: Path) -> bool:
    found = mark.exists()
    mark.unlink(missing_ok=True)
    return found


@pytest.fixture
def received(tmp_path: Path, tiny_run: Callable[..., Path], tiny_bert: Path) -> Path:
    """A run whose recipe trusts code; its base lies beside it."""
    shutil.copytree(tiny_run(), tmp_path / "run")
    shutil.copytree(tiny_bert, tmp_path / "base")
    recipe = tmp_path / "run" / "recipe.yaml"
    text = recipe.read_text().replace("trust_remote_code: false", "trust_remote_code: true")
    recipe.write_text(text.replace(str(tiny_bert.resolve()), str(tmp_path / "base")))
    assert "trust_remote_code: true" in recipe.read_text()
    assert str(tmp_path / "base") in recipe.read_text()
    return tmp_path / "run"


def test_code_of_a_received_run_does_not_run(received: Path, tmp_path: Path) -> None:
    put_code(received / "adapter", tmp_path / "mark")
    run = SavedRun.open(received)
    assert run.recipe.model.trust_remote_code == KNOWN
    with pytest.raises(SourceError, match="you have not let it run on this machine before") as caught:
        _ = run.tokenizer
    assert f"{remote_code.VARIABLE}=1" in str(caught.value)
    assert "own.py" in str(caught.value)
    assert not has_run(tmp_path / "mark")


def test_code_of_its_base_does_not_run(received: Path, tmp_path: Path) -> None:
    put_code(tmp_path / "base", tmp_path / "mark", model=True)
    run = SavedRun.open(received)
    for load in (run.load_model, run.load_base):
        with pytest.raises(SourceError, match="you have not let it run"):
            load(offline=True)
    assert not has_run(tmp_path / "mark")


def test_the_same_code_runs_after_a_recipe_of_the_user_has_let_it(received: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    put_code(received / "adapter", mark)
    own = tmp_path / "own"
    shutil.copytree(received / "adapter", own)
    load_tokenizer(str(own), ModelConfig(path=str(own), trust_remote_code=True), offline=True)
    assert has_run(mark)
    shutil.move(received, tmp_path / "moved")
    assert type(SavedRun.open(tmp_path / "moved").tokenizer).__name__ == "OwnTokenizer"
    # A file that the first one imports counts as well.
    file = tmp_path / "moved" / "adapter" / "mark.py"
    file.write_text(file.read_text() + "# changed\n")
    mark.unlink(missing_ok=True)
    with pytest.raises(SourceError, match="you have not let it run"):
        _ = SavedRun.open(tmp_path / "moved").tokenizer
    assert not has_run(mark)


def test_a_variable_is_the_users_word_and_is_kept(
    received: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_code(received / "adapter", tmp_path / "mark")
    with monkeypatch.context() as patch:
        patch.setenv(remote_code.VARIABLE, "1")
        _ = SavedRun.open(received).tokenizer
    assert has_run(tmp_path / "mark")
    assert type(SavedRun.open(received).tokenizer).__name__ == "OwnTokenizer"
    if os.name == "posix":
        assert (tmp_path / "state").stat().st_mode & 0o77 == 0


def test_a_recipe_that_trusts_nothing_runs_nothing(tmp_path: Path, tiny_bert: Path) -> None:
    shutil.copytree(tiny_bert, tmp_path / "base")
    put_code(tmp_path / "base", tmp_path / "mark")
    tokenizer = load_tokenizer(str(tmp_path / "base"), ModelConfig(path="base"), offline=True)
    assert type(tokenizer).__name__ != "OwnTokenizer"  # transformers has one of its own for the model
    assert not has_run(tmp_path / "mark")


def test_what_a_program_loads_itself_is_not_asked_about(tmp_path: Path, tiny_bert: Path) -> None:
    import transformers

    shutil.copytree(tiny_bert, tmp_path / "base")
    put_code(tmp_path / "base", tmp_path / "mark")
    config = ModelConfig(path="base", trust_remote_code=KNOWN)
    load_tokenizer(str(tiny_bert), config, offline=True)  # peftlab has been at work in the process
    transformers.AutoTokenizer.from_pretrained(tmp_path / "base", trust_remote_code=True)
    assert has_run(tmp_path / "mark")
    assert not (tmp_path / "state").exists()


def test_an_export_is_the_word_of_another_too(received: Path, tmp_path: Path) -> None:
    from peftlab.inference.export.export import export_run

    recipe = received / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("trust_remote_code: true", "trust_remote_code: false"))
    export_run(received, "merged", tmp_path / "export", offline=True, reporter=Silent())
    description = tmp_path / "export" / "peftlab_export.json"
    values = json.loads(description.read_text())
    values["recipe"]["model"]["trust_remote_code"] = True
    description.write_text(json.dumps(values))
    put_code(tmp_path / "export", tmp_path / "mark")
    with pytest.raises(SourceError, match="you have not let it run"):
        _ = SavedExport.open(tmp_path / "export").tokenizer
    assert not has_run(tmp_path / "mark")


OWN_TYPE = """from transformers import BertConfig, BertForSequenceClassification


class OwnConfig(BertConfig):
    model_type = "of_its_own"


class OwnModel(BertForSequenceClassification):
    config_class = OwnConfig
"""


def test_a_model_of_an_unknown_type_is_tuned_and_used_by_who_trusts_it(
    tmp_path: Path, tiny_bert: Path, reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_bert, tmp_path / "base")
    (tmp_path / "base" / "own.py").write_text(OWN_TYPE)
    config = tmp_path / "base" / "config.json"
    names = {"AutoConfig": "own.OwnConfig", "AutoModelForSequenceClassification": "own.OwnModel"}
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "of_its_own", "auto_map": names}))
    values = {
        "name": "own",
        "model": {"path": str(tmp_path / "base"), "trust_remote_code": True},
        "task": {"type": "text_classification", "max_length": 32},
        "data": {"source": str(reviews), "test_fraction": 0.2, "validation_fraction": 0.2},
        "training": {"max_steps": 3, "batch_size": 8},
        "measure": False,
        "waive_guards": ["adapter_has_effect", "answers_vary"],
    }
    result = run_recipe(Recipe.from_dict({**values, "method": {"type": "lora"}}), output_dir=tmp_path / "run")
    assert result.record.status == "success", result.record.error
    assert type(SavedRun.open(tmp_path / "run").load_base(offline=True)).__name__ == "OwnModel"
    assert SavedRun.open(tmp_path / "run").load_model(offline=True) is not None
    monkeypatch.setattr(remote_code, "state_folder", lambda: tmp_path / "another user")
    with pytest.raises(SourceError, match="you have not let it run"):
        SavedRun.open(tmp_path / "run").load_model(offline=True)
    with pytest.raises(UnsupportedError, match="loaded by transformers' own alone"):
        run_recipe(Recipe.from_dict({**values, "method": {"type": "full"}}), output_dir=tmp_path / "whole")


@pytest.mark.parametrize("trusted", [False, KNOWN, True])
def test_code_that_writes_texts_is_code_too(tmp_path: Path, tiny_gpt2: Path, trusted: Any) -> None:
    shutil.copytree(tiny_gpt2, tmp_path / "base")
    (tmp_path / "base" / "custom_generate").mkdir()
    code = f"from pathlib import Path\n\nPath({str(tmp_path / 'mark')!r}).touch()\n\n\ndef generate(model):\n    pass\n"
    (tmp_path / "base" / "custom_generate" / "generate.py").write_text(code)

    def load() -> None:
        load_base_model(
            str(tmp_path / "base"), ModelConfig(path="base", trust_remote_code=trusted),
            Head("AutoModelForCausalLM", kind="own"), dtype=torch.float32, dropout=0.0, pad_token_id=0, offline=True,
        )  # fmt: skip

    if trusted == KNOWN:
        with pytest.raises(SourceError, match="you have not let it run"):
            load()
    else:
        load()
    assert has_run(tmp_path / "mark") is (trusted is True)


def test_what_goes_on_from_a_run_takes_its_recipe_for_anothers_word(
    received: Path, reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = received / "record.json"
    values = json.loads(record.read_text())
    values["recipe"]["model"]["trust_remote_code"] = True
    record.write_text(json.dumps(values))
    made: list[Recipe] = []

    def note(recipe: Recipe, *_: object, **__: object) -> None:
        made.append(recipe)
        raise UnsupportedError("enough")

    monkeypatch.setattr(rerun, "run_recipe", note)
    with pytest.raises(UnsupportedError, match="enough"):
        rerun.reproduce(received)
    made.append(continuation_recipe(SavedRun.open(received), str(reviews), replay=0.0)[0])
    assert [recipe.model.trust_remote_code for recipe in made] == [KNOWN, KNOWN]
    own, _ = load_recipe(received / "recipe.yaml")  # as it is given to `peftlab run`
    assert own.model.trust_remote_code is True


def test_no_call_leaves_it_to_transformers_to_ask() -> None:
    """Without a word, transformers asks on the terminal whether code may run."""
    silent = []
    for file in sorted(Path(peftlab.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            loads = node.func.attr in ("from_pretrained", "from_config")
            is_auto = loads and "auto" in ast.unparse(node.func.value).lower()
            if is_auto and not {"trust_remote_code", None} & {keyword.arg for keyword in node.keywords}:
                silent.append(f"{file.name}:{node.lineno}")
    assert silent == []
