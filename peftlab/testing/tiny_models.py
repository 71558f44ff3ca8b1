"""Tiny random models with a task's head, of the kinds that methods meet: made in a moment, and from nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

from peftlab.core.method import MethodContext
from peftlab.core.model_facts import Family, ModelFacts
from peftlab.core.task import Task
from peftlab.tasks.causal_lm import CausalLm
from peftlab.tasks.instruction_tuning import InstructionTuning
from peftlab.tasks.masked_lm import MaskedLm
from peftlab.tasks.question_answering import QuestionAnswering
from peftlab.tasks.spans.windows import Window
from peftlab.tasks.text_classification import TextClassification
from peftlab.tasks.token_classification import TokenClassification

SIZES: Mapping[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
COMMON: Mapping[str, Any] = {"vocab_size": 60, "num_labels": 3, "pad_token_id": 0, "initializer_range": 0.2}


@dataclass(frozen=True)
class Kind:
    """A kind of model: how to build it, and what a run would know of it.

    Args:
        name: Such as ``bert``, ``bert-tokens``, ``gpt2-lm``.
        family: Of the model.
        task_type: peft's name of the task.
        head: Full names of the modules that the checkpoint does not hold.
    """

    name: str
    family: Family
    task_type: str
    head: tuple[str, ...]

    def __str__(self) -> str:
        return self.name

    def build(self) -> PreTrainedModel:
        """The base with its head, in eval mode: the same weights each time."""
        torch.manual_seed(0)
        model: PreTrainedModel = BUILDERS[self.name]()
        model.train(False)
        return model

    def context(self, total_steps: int = 30) -> MethodContext:
        """What a run of so many steps tells a method."""
        return MethodContext(self.task_type, total_steps, head_modules=self.head, family=self.family)

    def facts(self, model: PreTrainedModel) -> ModelFacts:
        """What is known of the model before its weights are loaded."""
        weights = {name: tuple(parameter.shape) for name, parameter in model.base_model.named_parameters()}
        config = model.config.to_dict()
        return ModelFacts("tiny", config["model_type"], self.family, config, weights, self.task_type)

    @property
    def task(self) -> Task:
        """The task whose head it has."""
        return TASKS[self.task_type]


TASKS: Mapping[str, Task] = {
    "SEQ_CLS": TextClassification(),
    "TOKEN_CLS": TokenClassification(),
    "CAUSAL_LM": CausalLm(),
    "FEATURE_EXTRACTION": MaskedLm(),
    "QUESTION_ANS": QuestionAnswering(),
    "SEQ_2_SEQ_LM": InstructionTuning().fitted({"family": "encoder_decoder"}),
}
BUILDERS: Mapping[str, Callable[[], Any]] = {
    "bert": lambda: BertForSequenceClassification(BertConfig(**SIZES, **COMMON, **NO_BERT_DROPOUT)),
    "bert-tokens": lambda: BertForTokenClassification(BertConfig(**SIZES, **COMMON, **NO_BERT_DROPOUT)),
    "roberta": lambda: RobertaForSequenceClassification(RobertaConfig(**SIZES, **COMMON, **NO_BERT_DROPOUT)),
    "distilbert": lambda: DistilBertForSequenceClassification(
        DistilBertConfig(dim=32, n_layers=2, n_heads=4, hidden_dim=64, dropout=0, attention_dropout=0,
                         seq_classif_dropout=0, **COMMON)
    ),
    "gpt2": lambda: GPT2ForSequenceClassification(
        GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
                   bos_token_id=1, eos_token_id=1, **COMMON)
    ),
    "llama": lambda: LlamaForSequenceClassification(  # type: ignore[no-untyped-call]
        LlamaConfig(num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=1,
                    **SIZES, **COMMON)
    ),
    "bert-spans": lambda: BertForQuestionAnswering(
        BertConfig(**SIZES, **{**COMMON, "num_labels": 2}, **NO_BERT_DROPOUT)
    ),
    "bert-lm": lambda: BertForMaskedLM(BertConfig(**SIZES, **COMMON, **NO_BERT_DROPOUT)),
    "gpt2-lm": lambda: GPT2LMHeadModel(
        GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
                   bos_token_id=1, eos_token_id=1, **COMMON)
    ),
    # Other layers in the decoder than in the encoder, and heads that are smaller together than the hidden states.
    "t5": lambda: T5ForConditionalGeneration(
        T5Config(d_model=32, d_kv=6, d_ff=64, num_layers=2, num_decoder_layers=1, num_heads=4, dropout_rate=0,
                 vocab_size=60, initializer_factor=1.0, **START)
    ),
    "bart": lambda: BartForConditionalGeneration(
        BartConfig(d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4, decoder_attention_heads=4,
                   encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=64, dropout=0, vocab_size=60,
                   init_std=0.2)
    ),
    "llama-lm": lambda: LlamaForCausalLM(
        LlamaConfig(num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=1,
                    **SIZES, **COMMON)
    ),
}  # fmt: skip
START: Mapping[str, Any] = {"decoder_start_token_id": 0}
NO_BERT_DROPOUT: Mapping[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}

KINDS = [
    Kind("bert", "encoder", "SEQ_CLS", ("classifier",)),
    Kind("bert-tokens", "encoder", "TOKEN_CLS", ("classifier",)),
    Kind("roberta", "encoder", "SEQ_CLS", ("classifier",)),
    Kind("distilbert", "encoder", "SEQ_CLS", ("classifier", "pre_classifier")),
    Kind("gpt2", "decoder", "SEQ_CLS", ("score",)),
    Kind("llama", "decoder", "SEQ_CLS", ("score",)),
    Kind("bert-spans", "encoder", "QUESTION_ANS", ("qa_outputs",)),
    Kind("bert-lm", "encoder", "FEATURE_EXTRACTION", ()),
    Kind("gpt2-lm", "decoder", "CAUSAL_LM", ()),
    Kind("llama-lm", "decoder", "CAUSAL_LM", ()),
    Kind("t5", "encoder_decoder", "SEQ_2_SEQ_LM", ()),
    Kind("bart", "encoder_decoder", "SEQ_2_SEQ_LM", ()),
]


KIND_OF: Mapping[str, Kind] = {kind.name: kind for kind in KINDS}


class NoTokenizer:
    """Stands for the tokenizer that travels with a saved model; these models read no text."""

    def save_pretrained(self, folder: Path) -> None:
        """Write the names of a tokenizer's files."""
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (Path(folder) / name).write_text("{}")


def toy_batch(kind: Kind) -> dict[str, torch.Tensor]:
    """Texts of different lengths whose label is given away by their last token (each token's own, for tokens)."""
    generator = torch.Generator().manual_seed(1)
    examples: list[dict[str, Any]] = []
    for row in range(12):
        ids = torch.randint(5, 60, (4 + row % 5,), generator=generator).tolist()
        if kind.task_type == "TOKEN_CLS":
            labels = [token % 3 for token in ids]
            places = list(range(len(ids)))
            examples.append({"input_ids": ids, "label": labels, "tags": labels, "places": places})
        elif kind.task_type == "QUESTION_ANS":
            place = 1 + row % 3
            ids[0] = 2 + row % 3
            window = Window(ids, None, [None, *((at, at + 1) for at in range(1, len(ids)))], 0)
            examples.append({"input_ids": ids, "windows": [window], "targets": [(place, place)]})
        elif kind.task_type == "SEQ_2_SEQ_LM":
            examples.append({"input_ids": [2 + row % 3, *ids, 2 + row % 3], "labels": [2 + row % 3, 7]})
        elif kind.task_type in ("CAUSAL_LM", "FEATURE_EXTRACTION"):
            # The token to be predicted is the same in every text of one kind.
            examples.append({"input_ids": ids, "labels": [-100] + [2 + row % 3] * (len(ids) - 1)})
        else:
            ids[-1] = ids[0] = 2 + row % 3
            examples.append({"input_ids": ids, "label": row % 3})
    return kind.task.collate(examples, 0)
