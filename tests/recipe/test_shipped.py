"""Recipes that come with peftlab are found by name, from anywhere, and from a wheel too."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from peftlab.core.errors import ConfigError
from peftlab.recipe import shipped
from peftlab.recipe.schema import load_recipe
from tests.conftest import Command

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["quickstart", "quickstart.yaml", "recipes/quickstart.yaml"])
def test_a_name_will_do(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe, document = load_recipe(name, ["training.epochs=7"])
    assert (recipe.name, recipe.training.epochs) == ("quickstart", 7)
    assert Path(document.source) == ROOT / "recipes" / "quickstart.yaml"


def test_ones_own_file_goes_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = (ROOT / "recipes" / "quickstart.yaml").read_text().replace("name: quickstart", "name: own")
    Path("quickstart").write_text(own)
    assert load_recipe("quickstart")[0].name == "own"


def test_no_name_leads_out_of_the_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("../pyproject", "recipes/../quickstart", "nothing"):
        with pytest.raises(ConfigError, match="no such file"):
            load_recipe(name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("quickstrat", "quickstart"),
        ("recipes/few_shot/trec_minlm.yaml", "few_shot/trec_minilm"),
        ("trec_minilm", "few_shot/trec_minilm"),
    ],
)
def test_a_misspelt_name_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, meant: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=rf"no such file\n  Did you mean `{meant}`, a recipe that comes with"):
        load_recipe(name)


def test_a_wheel_carries_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert build["force-include"] == {"recipes": "peftlab/shipped_recipes"}
    installed = tmp_path / "site" / "peftlab" / "shipped_recipes"
    installed.mkdir(parents=True)
    (installed / "small.yaml").write_text((ROOT / "recipes" / "quickstart.yaml").read_text())
    monkeypatch.setattr(shipped, "_CHECKOUT", tmp_path / "site" / "recipes")
    monkeypatch.setattr(shipped, "_WHEEL", installed)
    assert list(shipped.shipped_recipes()) == ["small"]


def test_what_a_recipe_lacks_is_told_in_its_own_words(
    command: Command, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEFTLAB_DATA", str(tmp_path))
    validate = ("validate", "recipes/few_shot/trec_minilm.yaml", "--set", f"model.path={tiny_bert}")
    done = command(*validate, "--set", "task.max_length=32")
    assert done.returncode == 2
    assert "  The recipe says:\n    LoRA of MiniLM with eight labels" in done.stderr
    assert "    TREC is not shipped" in done.stderr
    done = command(*validate, "--set", "task.max_length=32", "--set", f"data.source={tmp_path / 'own.csv'}")
    assert "The recipe says" not in done.stderr
    reinforcement = ("validate", "turing_machine/gpt2_reinforcement", "--offline")
    done = command(*reinforcement)
    assert "--offline or the variable HF_HUB_OFFLINE forbids the network" in done.stderr
    assert "(run that recipe first)" in done.stderr
    done = command(*reinforcement, "--set", "model.path=nobody/nothing")
    assert done.returncode == 2
    assert "The recipe says" not in done.stderr
    done = command("app", "evaluate", "applications/monitor_quick")
    assert "`peftlab app build applications/monitor_quick` makes it." in done.stderr
