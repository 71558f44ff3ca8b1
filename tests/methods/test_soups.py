"""The mean of several runs' adapters is that of their updates, or is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_merging import moved, saved

from peftlab.artifact.merge import merge
from peftlab.core.errors import UnsupportedError
from peftlab.core.method import METHODS
from peftlab.testing.tiny_models import KINDS
from tests.small_methods import PEFT_ADAPTERS, small_method

KIND = {kind.name: kind for kind in KINDS}
REFUSED = {"loha", "lokr", "vera", "randlora", "gralora", "vblora", "hra"}
"""Their updates are products of what trains."""
OF_ANGLES = {"oft", "road"}
"""Rotations, of which all runs begin with none: the mean of angles is such a rotation, and not the mean of matrices."""


def soup_of(name: str, folder: Path, seeds: tuple[int, ...] = (3, 4)) -> tuple[list[dict[str, Any]], Any]:
    """The weights of some merged models, and the soup of their adapters, merged."""
    method, weights, parts = small_method(name), [], []
    for number, seed in enumerate(seeds):
        model = moved(method, "bert", begun=seed, seed=number)
        adapter = saved(model, method, "bert", folder / str(number))
        parts.append(load_file(adapter / "adapter_model.safetensors"))
        weights.append(dict(merge(model, method).state_dict()))
    config = json.loads((adapter / "adapter_config.json").read_text())
    tensors, changes = method.soup(parts, config)
    save_file(tensors, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text(json.dumps(config | changes))
    return weights, merge(peft.PeftModel.from_pretrained(KIND["bert"].build(), adapter), method)


@pytest.mark.parametrize("name", [name for name in ("lora", "ia3", *PEFT_ADAPTERS) if name not in REFUSED | OF_ANGLES])
def test_a_soup_is_the_mean_of_the_updates(name: str, tmp_path: Path) -> None:
    weights, soup = soup_of(name, tmp_path)
    for key, value in soup.state_dict().items():
        mean = torch.stack([each[key].float() for each in weights]).mean(dim=0)
        torch.testing.assert_close(value.float(), mean, rtol=1e-4, atol=1e-5)
    assert any(not torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_the_mean_of_factors_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=f"{name} is a product of what trains"):
        soup_of(name, tmp_path)


def test_runs_that_train_other_entries_have_no_mean() -> None:
    """The values of one run would go to the entries of the other. peft's are the same in all runs, whatever the seed."""
    part = {"q.shira_weight": torch.ones(4), "q.shira_indices": torch.arange(8).view(2, 4)}
    with pytest.raises(UnsupportedError, match="trains other entries"):
        METHODS["shira"]().soup([part, part | {"q.shira_indices": torch.arange(1, 9).view(2, 4)}], {})


@pytest.mark.parametrize("name", ["vera", "randlora", "fourierft", "shira"])
def test_what_is_drawn_and_does_not_train_is_the_same_in_every_run(name: str) -> None:
    """As docs/methods.md says; where peft begins to draw it by the run's seed, the page must say so."""
    found = []
    for seed in (3, 4):
        model = moved(small_method(name), "bert", begun=seed)
        trained = {key for key, each in model.named_parameters() if each.requires_grad}
        state = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
        kept = {
            key: each for key, each in state.items() if not any(key in own.replace(".default", "") for own in trained)
        }
        places = [part.indices["default"] for part in model.modules() if hasattr(part, "indices")]  # FourierFT's
        found.append([*(kept[key] for key in sorted(kept) if "classifier" not in key), *places])
    assert found[0]
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_angles_have_a_mean(tmp_path: Path) -> None:
    for name in OF_ANGLES:
        assert soup_of(name, tmp_path / name)
    assert {"hira", "miss", *REFUSED, *OF_ANGLES} <= set(METHODS)
