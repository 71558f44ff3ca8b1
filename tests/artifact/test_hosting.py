"""Which models several threads may compute by at once: those whose forward leaves them as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BigBirdConfig,
    BigBirdForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    FunnelConfig,
    FunnelForSequenceClassification,
    Gemma3ForSequenceClassification,
    Gemma3TextConfig,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    RecurrentGemmaConfig,
    RecurrentGemmaForCausalLM,
    ReformerConfig,
    ReformerForMaskedLM,
    RwkvConfig,
    RwkvForCausalLM,
    XGLMConfig,
    XGLMForCausalLM,
)

from peftlab.artifact.hosting import TensorPool, may_compute_at_once
from peftlab.core.method import METHODS, MethodContext
from peftlab.models.base_model import load_base_model
from peftlab.models.model_config import ModelConfig
from peftlab.tasks.text_classification import TextClassification
from tests.small_methods import small_method

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 60}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
LONG_ROPE = {
    "rope_type": "longrope", "rope_theta": 1e4, "factor": 2.0, "original_max_position_embeddings": 16,
    "short_factor": [1.0] * 4, "long_factor": [4.0] * 4,
}  # fmt: skip


def llama(**settings: Any) -> nn.Module:
    config = LlamaConfig(**SIZES, **TOKENS, **{"max_position_embeddings": 64, **settings})
    return LlamaForSequenceClassification(config)


def bidirectional_llama() -> nn.Module:
    model = llama()
    model.config.is_causal = False
    return model


STATELESS: dict[str, Callable[[], nn.Module]] = {
    "bert": lambda: BertForSequenceClassification(BertConfig(**SIZES)),
    "distilbert": lambda: DistilBertForSequenceClassification(
        DistilBertConfig(dim=32, n_layers=2, n_heads=4, hidden_dim=64, vocab_size=60)
    ),
    "modernbert": lambda: ModernBertForSequenceClassification(ModernBertConfig(**SIZES, **TOKENS)),
    "gpt2": lambda: GPT2ForSequenceClassification(
        GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=60, **TOKENS)
    ),
    "llama": llama,
    "llama-linear": lambda: llama(rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}),
    "gemma3": lambda: Gemma3ForSequenceClassification(Gemma3TextConfig(**SIZES, **TOKENS, head_dim=8)),
}  # fmt: skip
STATEFUL: dict[str, Callable[[], nn.Module]] = {
    "llama-dynamic": lambda: llama(
        max_position_embeddings=16, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    ),
    "llama-longrope": lambda: llama(rope_parameters=LONG_ROPE),
    "gemma3-dynamic": lambda: Gemma3ForSequenceClassification(
        Gemma3TextConfig(
            **SIZES, **TOKENS, head_dim=8, max_position_embeddings=16,
            layer_types=["sliding_attention", "full_attention"],
            rope_parameters={
                "full_attention": {"rope_type": "dynamic", "rope_theta": 1e6, "factor": 2.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        )
    ),
    "llama-bidirectional": bidirectional_llama,
    "big-bird": lambda: BigBirdForSequenceClassification(BigBirdConfig(**SIZES, **TOKENS)),
    "funnel": lambda: FunnelForSequenceClassification(
        FunnelConfig(vocab_size=60, block_sizes=[1, 1], d_model=32, n_head=4, d_head=8, d_inner=64)
    ),
    "recurrent-gemma": lambda: RecurrentGemmaForCausalLM(
        RecurrentGemmaConfig(**{**SIZES, "num_hidden_layers": 3}, **TOKENS, lru_width=32, attention_window_size=8)
    ),
    "reformer": lambda: ReformerForMaskedLM(
        ReformerConfig(
            vocab_size=60, hidden_size=32, num_attention_heads=2, attention_head_size=16, feed_forward_size=64,
            attn_layers=["lsh"], is_decoder=False, axial_pos_embds=False, max_position_embeddings=64, num_buckets=None,
            lsh_attn_chunk_length=8,
        )
    ),
    "rwkv": lambda: RwkvForCausalLM(RwkvConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2)),
    "xglm": lambda: XGLMForCausalLM(
        XGLMConfig(
            vocab_size=60, d_model=32, ffn_dim=64, num_layers=2, attention_heads=4, max_position_embeddings=16, **TOKENS
        )
    ),
}  # fmt: skip


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Callable[[nn.Module, torch.Tensor], list[str]]:
    """What a forward writes to a model's modules and configuration, by name."""

    def watch(owner: type, method: str, watched: set[int], names: list[str]) -> None:
        real = getattr(owner, method)

        def record(self: Any, name: str, *values: Any, **options: Any) -> None:
            if id(self) in watched:  # and not what a forward makes for its own use
                names.append(name)
            real(self, name, *values, **options)

        monkeypatch.setattr(owner, method, record)

    def compute(model: nn.Module, ids: torch.Tensor) -> list[str]:
        watched = {id(model.config), *(id(module) for module in model.modules())}
        names: list[str] = []
        for owner in (nn.Module, type(model.config)):
            watch(owner, "__setattr__", watched, names)
            watch(owner, "__delattr__", watched, names)
        watch(nn.Module, "register_buffer", watched, names)
        with torch.inference_mode():
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
        return names

    return compute


@pytest.mark.parametrize("kind", [*STATELESS, *STATEFUL])
def test_batches_are_computed_at_once_only_where_a_forward_leaves_the_model_as_it_is(kind: str, writes) -> None:
    model = {**STATELESS, **STATEFUL}[kind]().eval()
    written = writes(model, torch.arange(2, 34).unsqueeze(0))
    assert bool(written) == (kind in STATEFUL), written
    assert may_compute_at_once(model) == (kind in STATELESS)


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_leaves_bert_as_it_is(name: str, writes) -> None:
    context = MethodContext("SEQ_CLS", 30, head_modules=("classifier",), family="encoder")
    model = small_method(name).apply(STATELESS["bert"](), context).eval()
    assert writes(model, torch.arange(2, 9).unsqueeze(0)) == []
    assert may_compute_at_once(model)


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_one_batch_after_the_other_on_a_quantised_base(quantization: str, tiny_bert: Path) -> None:
    config = ModelConfig(path=str(tiny_bert), quantization=quantization)
    head = TextClassification().head(("a", "b"))
    base = load_base_model(str(tiny_bert), config, head, dtype=torch.float32, dropout=0.0, pad_token_id=0, offline=True)
    assert not may_compute_at_once(base.model)


def test_one_batch_after_the_other_where_nothing_is_known_of_a_layer() -> None:
    class Counting(nn.Linear):
        pass

    model = STATELESS["bert"]().eval()
    model.classifier = Counting(32, 2)
    assert not may_compute_at_once(model)


def test_models_in_a_pool_keep_the_buffers_that_their_forward_changes() -> None:
    torch.manual_seed(0)
    first, second = (STATEFUL["llama-longrope"]().eval() for _ in range(2))
    second.load_state_dict(first.state_dict())
    ids = torch.arange(2, 34).unsqueeze(0)
    with torch.inference_mode():
        wanted = first(input_ids=ids[:, :8]).logits
        pool = TensorPool()
        pool.share(first)
        assert pool.share(second) > 0
        first(input_ids=ids)
        assert torch.equal(first(input_ids=ids[:, :8]).logits, wanted)
        assert torch.equal(second(input_ids=ids[:, :8]).logits, wanted)


class OnCard(nn.Parameter):
    """A parameter that says that it is on a card."""

    device = property(lambda _: torch.device("cuda", 0))  # type: ignore[assignment]


def test_on_a_card_equal_tensors_are_there_once() -> None:
    torch.manual_seed(0)
    first, second = nn.Linear(8, 8), nn.Linear(8, 8)
    for layer in (first, second):
        layer.weight = OnCard(torch.arange(64.0).view(8, 8))
    pool = TensorPool()
    assert pool.share(first) == 0
    assert pool.share(second) == 64 * 4
    assert first.weight.data_ptr() == second.weight.data_ptr()
    assert first.bias.data_ptr() != second.bias.data_ptr()
