"""Models with random weights, from the configs of well-known ones; saved once, and then loaded like any checkpoint."""

from __future__ import annotations

import fcntl
import gc
import shutil
from pathlib import Path
from typing import Any

from benchmarks.gpu.steps.material import save_tokenizer

LLAMA_3 = {"model_type": "llama", "vocab_size": 128_256, "rope_theta": 500_000.0, "rms_norm_eps": 1e-5}
ROPE_3_2 = {
    "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "bert_small": {
        "model_type": "bert", "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4,
        "intermediate_size": 1024, "vocab_size": 4096, "initializer_range": 0.05,
    },
    "llama_small": {
        "model_type": "llama", "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 768, "vocab_size": 4096, "max_position_embeddings": 2048,
        "attention_bias": True,  # for BitFit
    },
    "bert_middle": {
        "model_type": "bert", "hidden_size": 768, "num_hidden_layers": 6, "num_attention_heads": 12,
        "intermediate_size": 3072, "vocab_size": 8192,
    },
    "llama_middle": {
        "model_type": "llama", "hidden_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 16,
        "num_key_value_heads": 4, "intermediate_size": 2816, "vocab_size": 8192, "max_position_embeddings": 4096,
    },
    "bert_base": {"model_type": "bert"},
    "llama_3b": {
        **LLAMA_3, "hidden_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 24, "num_key_value_heads": 8,
        "head_dim": 128, "intermediate_size": 8192, "max_position_embeddings": 131_072, "tie_word_embeddings": True,
        "rope_scaling": ROPE_3_2,
    },
    "llama_8b": {
        **LLAMA_3, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "intermediate_size": 14_336, "max_position_embeddings": 8192,
    },
}  # fmt: skip
TINY = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 1024,
    "initializer_range": 0.1,
}  # fmt: skip
"""At tiny sizes every model is as small as this."""
LARGEST_TOKENIZER = 8192


def model_folder(name: str, scratch: Path, *, tiny: bool, device: str) -> Path:
    """The folder of a model, which is made where it is not there; of several steps at once one makes it.

    Args:
        name: Of a config.
        scratch: Where models lie.
        tiny: Small sizes.
        device: Where the weights are drawn; on a card that takes a moment even for billions.
    """
    folder = scratch / "models" / (f"{name}-tiny" if tiny else name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a process that ends, however it does, gives it back
        if not (folder / "config.json").exists():
            partial = folder.with_name(f".{folder.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            save_model(config_of(name, tiny=tiny), partial, device=device)
            partial.rename(folder)
    return folder


def config_of(name: str, *, tiny: bool) -> Any:
    """The config of a model."""
    from transformers import AutoConfig

    values = dict(CONFIGS[name])
    if tiny:
        values |= TINY
        if values["model_type"] == "llama":
            values |= {"num_key_value_heads": 2, "head_dim": 16}
    return AutoConfig.for_model(values.pop("model_type"), **values)


def save_model(config: Any, folder: Path, *, device: str) -> None:
    """Draw weights in bfloat16, or in float32 for a small model, and save them with a tokenizer."""
    import torch
    from transformers import AutoModel, AutoModelForCausalLM

    is_decoder = config.model_type == "llama"
    if is_decoder:
        save_tokenizer("bytes", min(config.vocab_size, LARGEST_TOKENIZER), folder)
        config.bos_token_id, config.eos_token_id, config.pad_token_id = 2, 3, 0
    else:
        save_tokenizer("words", min(config.vocab_size, LARGEST_TOKENIZER), folder)
    dtype = torch.bfloat16 if config.hidden_size >= 2048 else torch.float32
    torch.manual_seed(0)
    with torch.device(device):
        auto = AutoModelForCausalLM if is_decoder else AutoModel
        model = auto.from_config(config, dtype=dtype)
    model.save_pretrained(folder)
    del model
    gc.collect()
    if device == "cuda":  # other processes need the room
        torch.cuda.empty_cache()
