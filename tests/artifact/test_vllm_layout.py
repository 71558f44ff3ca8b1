"""A LoRA run's adapter is what vLLM loads: its rules (`vllm/lora/peft_helper.py`, `vllm/lora/utils.py`) are applied here.

vLLM itself needs a GPU's build and is not run. What it does with the files is: it takes rank and scale from
`adapter_config.json`, the module from each tensor's name, and adds `scale · B · A` to that module's weight.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.pytorch_utils import Conv1D

NAME = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")


def test_an_adapter_has_the_layout_that_vllm_reads(tiny_run: Callable[..., Path], tiny_gpt2: Path) -> None:
    adapter = tiny_run(base="gpt2", task="{type: causal_lm, max_length: 32}", steps=20) / "adapter"
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA"
    assert config["bias"] == "none"
    assert not config["modules_to_save"]
    assert not config["use_dora"]
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in load_file(adapter / "adapter_model.safetensors").items():
        found = NAME.fullmatch(name)
        assert found is not None, f"vLLM knows no weight of this name: {name}"
        parts.setdefault(found[1], {})[found[2]] = tensor
    plain = AutoModelForCausalLM.from_pretrained(tiny_gpt2).eval()
    tuned = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_gpt2), adapter).eval()
    tokens = AutoTokenizer.from_pretrained(adapter)("we saw the lovely film", return_tensors="pt")
    with torch.no_grad():
        untuned = plain(**tokens).logits
        for module, low in parts.items():
            assert low["A"].shape[0] == low["B"].shape[1] == config["r"]
            assert module in config["target_modules"] or module.rpartition(".")[2] in config["target_modules"]
            layer = plain.get_submodule(module)
            change = config["lora_alpha"] / config["r"] * low["B"] @ low["A"]
            layer.weight += change.T if isinstance(layer, Conv1D) else change
        logits = plain(**tokens).logits
        assert torch.allclose(logits, tuned(**tokens).logits, atol=1e-4)
    assert not torch.allclose(logits, untuned, atol=1e-2)
