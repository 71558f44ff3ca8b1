"""A run on a GPU keeps to kernels that repeat themselves, unless its recipe says otherwise; then nothing is left set."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from peftlab.core.errors import ConfigError
from peftlab.recipe.schema import load_recipe
from peftlab.run.run import run_recipe
from peftlab.training.determinism import determinism, lacks_determinism

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


def settings() -> tuple[bool, bool, bool]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
        torch.backends.cudnn.benchmark,
    )


def test_only_kernels_that_repeat_themselves_are_used_in_the_block_and_not_after_it() -> None:
    before = settings()

    def fail() -> None:
        with determinism(True, CUDA):
            assert settings() == (True, False, False)
            raise ValueError("within")

    with pytest.raises(ValueError, match="within"):
        fail()
    assert settings() == before
    for wanted, device in ((False, CUDA), (True, CPU)):
        with determinism(wanted, device):
            assert settings() == before


def test_an_operation_without_such_a_kernel_is_told_from_other_errors() -> None:
    """torch's own words; the operation is one that CPUs lack such a kernel for, too."""
    with determinism(True, CUDA), pytest.raises(RuntimeError) as caught:
        torch.ones(3).put_(torch.tensor([0, 0]), torch.ones(2), accumulate=False)
    assert lacks_determinism(caught.value)
    assert not lacks_determinism(RuntimeError("out of memory"))


RECIPE = """\
model: {{path: {model}, dtype: {dtype}}}
task: {{type: text_classification, max_length: 32}}
data: {{source: {data}, validation_fraction: 0.2}}
method: {{type: lora, rank: 2}}
measure: false
training: {{max_steps: 2, batch_size: 4, deterministic: {deterministic}}}
"""


@pytest.mark.parametrize("deterministic", [True, False])
def test_the_record_says_whether_the_run_can_be_repeated(
    deterministic: bool, tmp_path: Path, tiny_bert: Path, reviews: Path
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        RECIPE.format(model=tiny_bert, data=reviews, dtype="float32", deterministic=str(deterministic).lower())
    )
    record = run_recipe(*load_recipe(path), output_dir=tmp_path / "run").record
    assert record.environment["determinism"] is True, "on CPU all kernels repeat themselves"
    assert record.recipe["training"]["deterministic"] is deterministic


def test_float16_is_refused_on_cpu_before_anything_is_loaded(tmp_path: Path, tiny_bert: Path, reviews: Path) -> None:
    """accelerate would compute without autocast, and every product of base and adapter fail on its types."""
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(model=tiny_bert, data=reviews, dtype="float16", deterministic="true"))
    with pytest.raises(ConfigError, match="float16 is for training on a GPU"):
        run_recipe(*load_recipe(path), output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
