"""What the check's figures are made of, and the README that is made from them."""

from __future__ import annotations

import concurrent.futures
import json
import re
from pathlib import Path

import pytest
from transformers import AutoConfig

from benchmarks.gpu.datasheet import find_card
from benchmarks.gpu.outcome import Outcome
from benchmarks.gpu.render import FOLDER, read_results, render
from benchmarks.gpu.steps.cases import CASES
from benchmarks.gpu.steps.contest import compare
from benchmarks.gpu.steps.estimates import COMBINATIONS
from benchmarks.gpu.steps.flops import training_flops_per_token
from benchmarks.gpu.steps.models import config_of, model_folder
from benchmarks.gpu.steps.profile import gaps
from benchmarks.gpu.steps.step import Findings

README = (FOLDER / "README.md").read_text(encoding="utf-8")


def test_the_readme_is_what_the_results_say() -> None:
    assert render(README, read_results(FOLDER / "results")) == README


def test_without_results_all_is_said_to_be_unmeasured() -> None:
    text = render(README, [])
    tables = re.findall(r"<!-- (\w+) -->\n(.*?)\n<!-- end of", text, flags=re.DOTALL)
    assert len(tables) == 8
    assert all("not measured" in table for _, table in tables)


RESULT = {
    "tiny": False,
    "device": "cuda",
    "steps": {
        "environment": {
            "status": "passed",
            "results": {
                "card": {"name": "NVIDIA X", "datasheet": None},
                "driver": {"driver_version": "580.1"},
                "versions": {"torch": "2.11.0", "transformers": "5.23.0"},
                "matmul_flops_per_second": {"bfloat16": 7e14, "tf32": 4e14, "float32": 5e13},
                "copy_bytes_per_second": {"within_device": 3e12},
            },
        },
        "contest_llama_8b": {
            "status": "passed",
            "results": {
                "peftlab": {"tokens_per_second": 12000.4, "peak_bytes": 40e9, "mfu_of_datasheet": None, "mfu_of_measured_rate": 0.5},
                "trainer": {"tokens_per_second": 6000, "peak_bytes": 60e9},
                "peftlab_over_trainer": {"tokens_per_second": 2.0, "peak_bytes": 0.67},
            },
        },
        "contest_bert_base": {"status": "timed out", "reason": "stopped after 60 s", "results": {"published": {}}},
        "methods": {"status": "failed", "reason": "x", "results": {"runs": {"full-bert": {"status": "failed"}}}},
    },
}  # fmt: skip


def test_a_result_fills_the_tables(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps(RESULT))
    text = render(README, read_results(tmp_path))
    assert "| NVIDIA X | 580.1, 2.11.0, 5.23.0 | 700 | 400 | 50 | unknown | 3.00 |" in text
    assert "| `llama_8b` | NVIDIA X | 12,000 | 6,000 | 2.00 | 40.00 / 60.00 | – / 50% |" in text
    assert "| `bert_base` | not measured |" in text
    assert "stopped after 60 s" in text
    assert "| NVIDIA X | full-bert | failed |" in text


@pytest.mark.parametrize("change", [{"tiny": True}, {"device": "cpu"}])
def test_figures_of_tiny_models_are_no_results(change: dict, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({**RESULT, **change}))
    with pytest.raises(ValueError, match=r"x\.json is no check of a GPU"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    ("name", "card"),
    [
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA GH200 480GB", "GH200"),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB SXM"),
        ("NVIDIA A100 80GB PCIe", "A100 80GB PCIe"),
        ("NVIDIA A100-SXM4-40GB", "A100 40GB"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L4", "L4"),
        ("Tesla T4", "T4"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", None),
        ("NVIDIA L40", None),
        ("NVIDIA H100 MIG 1g.10gb", None),
        ("AMD Instinct MI300X", None),
    ],
)
def test_only_a_card_that_is_known_has_a_datasheet(name: str, card: str | None) -> None:
    known = find_card(name)
    assert (known.name if known else None) == card


def test_the_work_of_a_token_is_counted_from_the_config() -> None:
    """Llama-3-8B has 7.5 billion weights in matrices, each used twice forward and twice backward."""
    flops = training_flops_per_token(config_of("llama_8b", tiny=False), [4096, 4096])
    weights = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336) + 4096 * 128256
    assert flops == 4 * weights + 3 * 32 * 4 * 4096 * 2048
    assert 12_473 * flops / 989.4e12 == pytest.approx(0.41, abs=0.03), "as published for an H100"


def test_the_count_agrees_with_the_products_that_are_done() -> None:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModel

    config = config_of("bert_middle", tiny=True)
    model = AutoModel.from_config(config, add_pooling_layer=False)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(torch.zeros(2, 32, dtype=torch.long))
    weights = config.num_hidden_layers * (4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size)
    forward = training_flops_per_token(config, [32, 32]) - 2 * weights  # the products with weights are done once here
    attention = config.num_hidden_layers * 4 * config.hidden_size * 32
    assert counter.get_total_flops() == pytest.approx(64 * (forward - 2 * attention))


def test_gaps_are_what_no_kernel_fills() -> None:
    found = gaps([(0.0, 10.0), (2.0, 5.0), (12.0, 20.0), (20.0, 30.0), (33.0, 40.0)])
    assert found["microseconds"] == 5
    assert found["longest_microseconds"] == [3, 2]
    assert found["share"] == pytest.approx(5 / 40)
    assert gaps([])["share"] == 0


def test_models_are_as_large_as_their_names_say() -> None:
    for name, billions in (("llama_8b", 8.03), ("llama_3b", 3.21), ("bert_base", 0.110)):
        config = config_of(name, tiny=False)
        assert parameters(config) == pytest.approx(billions * 1e9, rel=0.01), name
    assert AutoConfig.for_model("bert").hidden_size == config_of("bert_base", tiny=False).hidden_size


def parameters(config) -> int:
    import torch
    from transformers import AutoModel, AutoModelForCausalLM

    with torch.device("meta"):
        auto = AutoModelForCausalLM if config.model_type == "llama" else AutoModel
        return sum(parameter.numel() for parameter in auto.from_config(config).parameters())


def test_there_is_enough_to_compare() -> None:
    assert len(COMBINATIONS) >= 16
    assert {"llama_3b", "llama_8b", "llama_8b_nf4", "llama_8b_off", "bert_base"} == set(CASES)


def test_of_several_steps_one_makes_a_model(tmp_path: Path) -> None:
    """Two at once wrote into the same folder, and one of them failed."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        made = [pool.submit(model_folder, "bert_small", tmp_path, tiny=True, device="cpu") for _ in range(2)]
    assert {one.result() for one in made} == {tmp_path / "models" / "bert_small-tiny"}
    assert (tmp_path / "models" / "bert_small-tiny" / "config.json").exists()


@pytest.mark.parametrize("known", [("trainer",), ("peftlab",), ("trainer", "peftlab")])
def test_a_comparison_tells_what_is_known(known: tuple[str, ...], tmp_path: Path) -> None:
    findings = Findings(tmp_path / "found.json", {"device": "cpu", "tiny": True, "scratch": str(tmp_path)})
    run = {"tokens_per_second": 10.0, "peak_bytes": 10**9}
    compare(findings, "bert_base", {name: [dict(run)] for name in known}, [])
    assert all(findings.results[name]["tokens_per_second"] == 10.0 for name in known)
    assert ("peftlab_over_trainer" in findings.results) == (len(known) == 2)
    assert "10 tokens/s" in findings.line


def test_results_name_no_path_of_their_machine(tmp_path: Path) -> None:
    outcome = Outcome(tmp_path / "out", {"device": "cuda"}, {tmp_path / "scratch": "SCRATCH"})
    outcome.set("step", {"reason": f"{tmp_path}/scratch/models is full"})
    assert json.loads((tmp_path / "out" / "check.json").read_text())["steps"]["step"]["reason"] == (
        "SCRATCH/models is full"
    )
    for path in (FOLDER / "results").glob("*.json"):
        assert not re.search(r"/(tmp|work|home|root)/", path.read_text()), path.name


def test_steps_of_one_case_have_folders_of_their_own(tmp_path: Path) -> None:
    """Regression: one emptied the folder in which another, of the same case, was training."""
    settings = {"scratch": str(tmp_path), "case": "llama_3b"}
    first, second = (Findings(tmp_path / "found" / f"{name}.json", settings) for name in ("graphs_llama_3b", "offload"))
    left = first.empty_folder() / "left"
    left.touch()
    second.empty_folder()
    assert left.exists()
    first.empty_folder()
    assert not left.exists()
