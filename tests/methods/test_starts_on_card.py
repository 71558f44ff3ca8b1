"""Methods that begin with training rows, or with the base in full, on a card: they train, and go on bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_rows import recipe

import peftlab

pytestmark = pytest.mark.gpu


class Stops(peftlab.Callback):
    def on_evaluation(self, step: int, scores: Mapping[str, float]) -> None:
        if step == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["eva", "corda", "lora_ga", "loftq"])
def test_a_run_comes_back_and_goes_on(name: str, tiny_bert: Path, tmp_path: Path) -> None:
    looks = name != "loftq"
    settings = recipe(tmp_path, tiny_bert, type=name, **({"rows": 12} if looks else {})).model_dump(mode="json")
    settings["training"] |= {"checkpoint_every_steps": 1}
    settings["model"] |= {"quantization": None if looks else "nf4"}
    own = peftlab.Recipe.from_dict(settings | {"evaluation": {"every": 2}})
    done = peftlab.run_recipe(own, output_dir=tmp_path / "run", device="cuda")
    assert done.record.status == "success", done.record.error
    assert {done.record.guards[guard].status for guard in ("base_unchanged", "reload_agrees")} == {"passed"}
    assert ("start" in done.record.phases) == looks
    halted = peftlab.run_recipe(own, output_dir=tmp_path / "stopped", device="cuda", callbacks=[Stops()])
    assert halted.record.status == "cancelled"
    again = peftlab.run_recipe(own, output_dir=tmp_path / "stopped", device="cuda", resume=True)
    assert (again.record.status, again.record.resumed) == ("success", 1), again.record.error
    one, other = (load_file(each.folder / "adapter/adapter_model.safetensors") for each in (done, again))
    assert all(torch.equal(one[key], other[key]) for key in one)
