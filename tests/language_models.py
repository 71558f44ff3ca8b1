"""Tiny random language models, and a word tokenizer, for the tests of language tasks."""

from __future__ import annotations

from typing import Any

import torch
import transformers

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
OWN_NAMES = {
    "gpt2": {
        "vocab_size": 60, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "initializer_range": 0.3,
        "resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0,
    },
    "gemma": {"head_dim": 8, "num_key_value_heads": 4},
    "gemma2": {"head_dim": 8, "num_key_value_heads": 2, "query_pre_attn_scalar": 8},
    "qwen3": {"head_dim": 8, "num_key_value_heads": 2},
    "smollm3": {"num_key_value_heads": 2},
    "phi3": {"num_key_value_heads": 2},
    "gpt_neox": {"attention_dropout": 0.0, "hidden_dropout": 0.0},
}  # fmt: skip
GROUPED = {"llama", "mistral", "qwen2", "olmo2"}
MACHINE_RECIPE = """\
name: machine
model: {from_config: {model_type: gpt2, n_layer: 2, n_head: 2, n_embd: 32, n_positions: 128}}
task: {type: turing_machine, machine_count: 5, train_runs: 20, validation_runs: 5, test_runs: 6, tape_length: 4,
  states: 2, symbols: 2, max_steps: 6, max_length: 128}
method: {type: full}
training: {epochs: 1, batch_size: 16}
"""


def tiny_decoder(model_type: str, attention: str | None = None) -> Any:
    """A decoder with its language-model head, in eval mode."""
    torch.manual_seed(0)
    sizes = {} if model_type == "gpt2" else dict(SIZES)
    own = OWN_NAMES.get(model_type, {"num_key_value_heads": 2} if model_type in GROUPED else {})
    config = transformers.AutoConfig.for_model(
        model_type, **{**sizes, **own, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
    )
    return transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


def tiny_masked_model() -> Any:
    """A BERT with its head over the vocabulary, in eval mode."""
    torch.manual_seed(0)
    config = transformers.BertConfig(**SIZES, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return transformers.BertForMaskedLM(config).eval()


class Reading:
    """The part of a run's `TorchInference` that tests need, around a tokenizer or only its ids."""

    def __new__(cls, tokenizer: Any, *, metric: str | None = None, virtual_tokens: int = 0) -> Any:
        from peftlab.training.evaluation import TorchInference

        return TorchInference(tokenizer, (), torch.device("cpu"), metric=metric, virtual_tokens=virtual_tokens)


def tiny_encoder_decoder(model_type: str) -> Any:
    """A T5 (relative positions) or BART (absolute ones) in eval mode; encoder and decoder differ in their depth."""
    torch.manual_seed(0)
    tokens = {"vocab_size": 60, "pad_token_id": 0, "eos_token_id": 1}
    if model_type == "t5":
        config: Any = transformers.T5Config(
            d_model=32,
            d_kv=6,
            d_ff=64,
            num_layers=2,
            num_decoder_layers=1,
            num_heads=4,
            decoder_start_token_id=0,
            initializer_factor=8.0,
            dropout_rate=0.0,
            **tokens,
        )
        return transformers.T5ForConditionalGeneration(config).eval()
    config = transformers.BartConfig(
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=64,
        init_std=0.3,
        bos_token_id=2,
        decoder_start_token_id=1,
        dropout=0.0,
        **tokens,
    )
    return transformers.BartForConditionalGeneration(config).eval()
