"""Estimates for a card follow its kernels: torch's own lists, and what an H100 has measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.gpu.steps.estimates import COMBINATIONS
from benchmarks.gpu.steps.jobs import LABELS, batch_of, check
from benchmarks.gpu.steps.models import model_folder
from peftlab.cli.output import quiet_libraries
from peftlab.estimate import as_cuda
from peftlab.estimate.as_cuda import as_on_cuda, differing_operations
from peftlab.estimate.recipe import estimate_recipe
from peftlab.estimate.target import CUBLAS_WORKSPACES, Target
from peftlab.estimate.training import ShapesOfRecipe
from peftlab.measurement.caching_allocator import MEBIBYTE, CachingAllocator
from peftlab.measurement.kernel_workspaces import buffer_bytes

pytestmark = pytest.mark.slow

RESULTS = Path(__file__).parents[2] / "benchmarks" / "gpu" / "results" / "h100.json"
WITHIN = 0.03
ROWS = (
    "llama_middle lora 4x1024 quantization=nf4",  # autocast as peft's quantised layers ask for it
    "llama_middle full 4x1024",  # blocks of the allocator
    "bert_middle bitfit 32x128",  # norms in float32, buffers of sums
    "bert_middle full 32x128 gradient_checkpointing=True",  # masks of dropout
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    quiet_libraries(offline=True)
    return tmp_path_factory.mktemp("scratch")


@pytest.mark.parametrize("name", ROWS)
def test_what_a_card_has_measured(name: str, scratch: Path) -> None:
    combination = next(one for one in COMBINATIONS if one.name == name)
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["steps"]["estimates"]["results"]["rows"]
    measured = next(row for row in rows if row["combination"] == name)["measured"]["peak_bytes"]
    folder = model_folder(combination.model, scratch, tiny=False, device="cpu")
    task = {
        "type": "causal_lm" if "llama" in name else "text_classification", "max_length": combination.length,
    }  # fmt: skip
    settings = {"training__cuda_graphs": "off", **combination.settings}
    checked = check(folder, task, {"type": combination.method}, **settings)
    batch = batch_of(checked, size=combination.batch_size, length=combination.length)
    found = ShapesOfRecipe(checked, LABELS, Target("cuda", 80 * 10**9)).memory(batch).memory
    assert found.peak_bytes == pytest.approx(measured, rel=WITHIN)


def test_graphs_have_a_workspace_and_gradients_that_stay(scratch: Path) -> None:
    """An H200 took 68.5 MB more for BitFit's, whose gradients are next to nothing."""
    folder = model_folder("bert_middle", scratch, tiny=False, device="cpu")
    found = []
    for graphs in ("off", "auto", "on"):
        task = {"type": "text_classification", "max_length": 32}
        checked = check(folder, task, {"type": "lora"}, training__cuda_graphs=graphs)
        batch = batch_of(checked, size=4, length=32)
        shapes = ShapesOfRecipe(checked, LABELS, Target("cuda", 80 * 10**9))
        found.append(shapes.memory(batch))
    off, auto, on = found
    gradients = off.memory.gradients_bytes
    assert gradients > 0
    assert auto.memory.gradients_bytes == 2 * gradients
    assert auto.workspace_bytes == 2 * off.workspace_bytes == 2 * CUBLAS_WORKSPACES
    assert auto.memory.peak_bytes - off.memory.peak_bytes == CUBLAS_WORKSPACES + gradients
    assert on == auto


@pytest.mark.parametrize("graphs", ["off", "auto"])
def test_categories_add_up_to_the_peak_of_training(graphs: str, scratch: Path) -> None:
    folder = model_folder("bert_middle", scratch, tiny=False, device="cpu")
    task = {"type": "text_classification", "max_length": 32}
    checked = check(folder, task, {"type": "lora"}, training__cuda_graphs=graphs)
    found = estimate_recipe(checked, Target("cuda", 80 * 10**9), advise=False)
    assert sum(found.categories.values()) == found.memory.phases["train"]


def test_every_operation_has_the_policy_that_torch_has() -> None:
    """Read from the header that torch comes with."""
    header = (Path(torch.__file__).parent / "include/ATen/autocast_mode.h").read_text(encoding="utf-8")
    lists = {
        name: set(re.findall(r"_\((\w+)", body))
        for name, body in re.findall(r"#define AT_FORALL_(\w+)\(_\)((?:.*\\\n)*.*)", header)
    }
    on_cuda = set(torch._C._dispatch_get_registrations_for_dispatch_key("AutocastCUDA"))
    differing = {name.partition("::")[2].partition(".")[0] for name in on_cuda & set(differing_operations())}
    assert lists["LOWER_PRECISION_FP"] & differing <= as_cuda.LOWER <= lists["LOWER_PRECISION_FP"]
    assert lists["PROMOTE"] & differing <= as_cuda.PROMOTED <= lists["PROMOTE"]
    known = lists["FP32"] | lists["FP32_SET_OPT_DTYPE"] | as_cuda.LOWER | as_cuda.PROMOTED | {"norm"}
    assert differing <= known


def test_fakes_are_computed_as_on_cuda_and_real_tensors_as_ever() -> None:
    def kinds() -> list[torch.dtype]:
        states = torch.empty(4, 8, dtype=torch.bfloat16)
        weight = torch.empty(8, dtype=torch.bfloat16)
        with torch.autocast("cpu", torch.bfloat16):
            found = [
                torch.nn.functional.layer_norm(states, (8,), weight), states.softmax(-1), states.sum(), states.norm(),
                torch.mv(states.float(), weight.float()), torch.dot(weight, weight), states.exp(),
            ]  # fmt: skip
        return [one.dtype for one in found]

    wide, low = torch.float32, torch.bfloat16
    before = kinds()
    with as_on_cuda():
        assert kinds() == before
        with FakeTensorMode():
            assert kinds() == [wide, wide, wide, wide, low, low, wide]
            with torch.autocast("cpu", torch.bfloat16):
                assert torch.is_autocast_enabled()
    assert kinds() == before
    assert not torch.is_autocast_enabled()


def test_blocks_are_cut_where_more_than_a_mebibyte_is_left() -> None:
    allocator = CachingAllocator()
    large = allocator.allocate(11 * MEBIBYTE)  # a segment of its own, of twelve
    assert allocator.allocated_bytes == 12 * MEBIBYTE
    allocator.free(large)
    part = allocator.allocate(3 * MEBIBYTE)  # of the twelve
    assert allocator.allocated_bytes == 3 * MEBIBYTE
    allocator.allocate(8 * MEBIBYTE)  # of the nine that are left: one is too few to cut off
    assert allocator.allocated_bytes == 12 * MEBIBYTE
    allocator.free(part)
    allocator.allocate(1)
    assert allocator.allocated_bytes == 9 * MEBIBYTE + 512


def test_a_sum_over_rows_meets_in_a_buffer() -> None:
    """By ``setReduceConfig``, for an H100: 64 blocks of 32 threads share four outputs a thread."""
    assert buffer_bytes(rows=4096, outputs=3072) == 4 * 3072 * 64 * 32 * 4
    assert buffer_bytes(rows=16, outputs=3072) == 0
    assert buffer_bytes(rows=4096, outputs=1 << 20) == 0
