"""A finished run is opened in one place, whatever part of it a user names; what cannot be used is refused there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from peftlab.acceleration.accelerated import is_off
from peftlab.artifact import saved_run
from peftlab.artifact.saved_export import SavedExport, inputs_of_saved, open_saved
from peftlab.artifact.saved_run import SavedRun
from peftlab.artifact.soup import check_soup
from peftlab.core.errors import UserError
from peftlab.core.record import read_record, write_record
from peftlab.inference.load_tuned import load_tuned
from peftlab.models import base_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tiny_run: Callable[..., Path]) -> Path:
    return tiny_run()


@pytest.mark.parametrize("part", [".", "adapter", "record.json"])
def test_any_part_of_a_run_names_it(part: str, finished: Path) -> None:
    run = SavedRun.open(finished / part)
    assert run.folder == finished
    assert isinstance(open_saved(finished / part), SavedRun)
    record = read_record(finished)
    assert (run.record, run.name, list(run.labels)) == (record, record.name, record.labels)
    assert run.recipe.method.registered_name == "lora"
    assert inputs_of_saved(finished / part)[0] == finished


def test_a_run_gives_its_tokenizer_its_base_and_its_model(finished: Path) -> None:
    run = SavedRun.open(finished)
    batch = run.tokenizer(["a good film"], return_tensors="pt")
    base, model = run.load_base(offline=True), run.load_model(offline=True)
    with torch.inference_mode():
        untouched, tuned = base(**batch).logits, model(**batch).logits
        expected = load_tuned(run, device=torch.device("cpu")).model(**batch).logits
    assert untouched.shape == tuned.shape == (1, len(run.labels))
    assert not torch.allclose(untouched, tuned, atol=1e-3)
    torch.testing.assert_close(tuned, expected, atol=1e-5, rtol=1e-5)


def test_whoever_draws_goes_on_undisturbed_when_a_run_is_loaded(finished: Path) -> None:
    run = SavedRun.open(finished)
    for load in (run.load_base, run.load_model):
        torch.manual_seed(5)
        before = torch.get_rng_state()
        load(offline=True)
        assert torch.equal(torch.get_rng_state(), before), load.__name__


@pytest.mark.parametrize("method", ["{type: full}", "{type: lora, rank: 4}"])
def test_a_loaded_model_computes_by_its_own_code_where_the_recipe_wants_it(
    method: str, tiny_run: Callable[..., Path], tmp_path: Path
) -> None:
    shutil.copytree(tiny_run(method), tmp_path / "run")
    recipe = tmp_path / "run" / "recipe.yaml"
    for setting in ("auto", "off"):
        recipe.write_text(recipe.read_text().replace("acceleration: auto", f"acceleration: {setting}"))
        assert is_off(SavedRun.open(tmp_path / "run").load_model(offline=True)) is (setting == "off")


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("status", "status failed, so there is nothing to use: it broke"),
        ("recipe", "no recipe.yaml"),
        ("weights", "adapter_model.safetensors is missing"),
        ("adapter", "no adapter/: its weights are missing"),
        ("record", "no record.json"),
        ("export", "this is an export"),
    ],
)
def test_what_cannot_be_used_is_refused(broken: str, told: str, finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    if broken == "status":
        values = json.loads((folder / "record.json").read_text())
        (folder / "record.json").write_text(json.dumps({**values, "status": "failed", "error": "it broke"}))
    elif broken == "export":
        (folder / "peftlab_export.json").write_text("{}")
    elif broken == "adapter":
        shutil.rmtree(folder / "adapter")
    else:
        names = {"recipe": "recipe.yaml", "weights": "adapter/adapter_model.safetensors", "record": "record.json"}
        (folder / names[broken]).unlink()
    with pytest.raises(UserError) as caught:
        SavedRun.open(folder)
    assert told in str(caught.value)


def test_a_run_is_no_export(finished: Path) -> None:
    with pytest.raises(UserError, match="this is not an export"):
        SavedExport.open(finished)


@pytest.fixture
def own_base(tiny_bert: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bert, tmp_path / "base"))


def train_on(base: Path) -> None:
    """Overwrite a base, as the next fine-tuning into the same folder would."""
    weights = load_file(base / "model.safetensors")
    save_file({name: tensor * 1.01 for name, tensor in weights.items()}, base / "model.safetensors", {"format": "pt"})


def test_a_base_that_was_overwritten_is_refused(own_base: Path, tiny_run: Callable[..., Path]) -> None:
    run = SavedRun.open(tiny_run(base=own_base, steps=4))
    run.load_model(offline=True)
    train_on(own_base)
    for use in (run.load_model, run.load_base):
        with pytest.raises(UserError, match="are not those that this run was tuned on") as caught:
            use(offline=True)
        assert caught.value.where == str(run.folder)
    # Records of before know of no fingerprint; nothing can be said of them.
    replace(run, record=run.record.model_copy(update={"base_fingerprint": None})).load_model(offline=True)


@pytest.mark.parametrize("method", ["{type: lora, rank: 4}", "{type: full}"])
def test_a_flipped_bit_in_its_weights_is_told(method: str, tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_run(method, steps=4), tmp_path / "run"))
    run = SavedRun.open(folder)
    (weights,) = run.artifact.glob("*.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match="are not those that this run left"):
        SavedRun.open(folder)
    # Records of before know of no fingerprint.
    write_record(run.record.model_copy(update={"weights_fingerprint": None}), folder)
    SavedRun.open(folder)


def test_a_run_on_top_of_a_run_sees_that_the_lower_one_has_changed(own_base: Path, tiny_run, tmp_path: Path) -> None:
    lower = Path(shutil.copytree(tiny_run(base=own_base, steps=4), tmp_path / "lower"))
    upper = SavedRun.open(tiny_run(base=lower, steps=4))
    upper.load_model(offline=True)
    train_on(own_base)  # what the lower one was merged into before lies in the cache, and is still right
    upper.load_model(offline=True)
    again = tiny_run(base=own_base, steps=6)
    shutil.rmtree(lower)
    shutil.copytree(again, lower)
    with pytest.raises(UserError, match="are not those that this run was tuned on"):
        upper.load_model(offline=True)


def test_a_whole_model_needs_no_base(own_base: Path, tiny_run: Callable[..., Path]) -> None:
    run = SavedRun.open(tiny_run("{type: full}", base=own_base, steps=4))
    assert run.record.base_fingerprint is not None
    train_on(own_base)
    run.load_model(offline=True)


def test_runs_of_bases_that_differ_have_no_soup(own_base: Path, tiny_run: Callable[..., Path]) -> None:
    one = SavedRun.open(tiny_run(base=own_base, steps=4))
    train_on(own_base)
    other = SavedRun.open(tiny_run(base=own_base, steps=4, seed=1))
    with pytest.raises(UserError, match="its base had other weights"):
        check_soup([one, other])


def test_the_base_is_looked_at_once_it_is_here(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the Hub is fetched by loading it; before, none of its files may be in the cache."""
    order: list[str] = []

    def noted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **keys: Any) -> Any:
            order.append(name)
            return function(*given, **keys)

        return call

    for name, place, own in (
        ("load", "peftlab.models.base_model.load_base_model", base_model.load_base_model),
        ("look", "peftlab.artifact.saved_run.fingerprint_of", saved_run.fingerprint_of),
    ):
        monkeypatch.setattr(place, noted(name, own))
    for use in (SavedRun.open(finished).load_base, SavedRun.open(finished).load_model):
        order.clear()
        use(offline=True)
        assert order == ["load", "look"]


def test_a_record_that_calls_itself_a_path_is_merged_into_the_cache(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))
    shutil.copytree(finished, tmp_path / "run")
    record = tmp_path / "run" / "record.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "name": "../../outside/run"}))
    place = SavedRun.open(tmp_path / "run").checkpoint(offline=True)
    assert place.resolve().is_relative_to((tmp_path / "cache").resolve())
    assert not (tmp_path / "outside").exists()
