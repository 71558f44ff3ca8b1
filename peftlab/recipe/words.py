"""Where a key belongs that a section does not know: written as in other tools, or into another section.

The words are those of transformers' ``TrainingArguments``, of peft's and bitsandbytes' configs, and of axolotl's and
LLaMA-Factory's files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from peftlab.core.config import KeyPath
from peftlab.recipe.registered import REGISTERED, SECTIONS

HERE: Mapping[str, str] = {
    "adam_beta1": "training.optimizer: {type: adamw, betas: [0.9, 0.999]}",
    "adam_beta2": "training.optimizer: {type: adamw, betas: [0.9, 0.999]}",
    "adam_epsilon": "training.optimizer: {type: adamw, eps: 1e-8}",
    "adapter": "method.type",
    "adapter_path": "continues: {run: …}",
    "attn_implementation": "model.attention",
    "base_model": "model.path",
    "bf16": "training.precision: bfloat16",
    "bits": "model.quantization",
    "bnb_4bit_compute_dtype": "model.quantization_compute_dtype",
    "bnb_4bit_quant_type": "model.quantization",
    "bnb_4bit_use_double_quant": "model.double_quantization",
    "cutoff_len": "task.max_length",
    "dataset": "data.source",
    "dataset_name": "data.source",
    "dataset_path": "data.source",
    "datasets": "data.source",
    "early_stopping": "training.early_stopping_patience",
    "eval_batch_size": "evaluation.batch_size",
    "eval_steps": "evaluation.every",
    "eval_strategy": "evaluation.every",
    "evaluation_strategy": "evaluation.every",
    "finetuning_type": "method.type",
    "fp16": "training.precision: float16",
    "freeze_base": "method.type: linear_probe",
    "grad_accum": "training.gradient_accumulation_steps",
    "grad_clip": "training.max_gradient_norm",
    "gradient_clipping": "training.max_gradient_norm",
    "init_lora_weights": "method.initialization",
    "label_column": "task.label",
    "label_smoothing_factor": "training.regularizers: [{type: label_smoothing}]",
    "learning_rate_scheduler": "training.schedule",
    "load_in_4bit": "model.quantization: nf4",
    "load_in_8bit": "model.quantization: int8",
    "logging_steps": "training.log_every_steps",
    "lora_alpha": "method.alpha",
    "lora_dropout": "method.dropout",
    "lora_r": "method.rank",
    "lora_rank": "method.rank",
    "lora_target": "method.target_modules",
    "lora_target_modules": "method.target_modules",
    "lora_target_parameters": "method.target_parameters",
    "loraplus_lr_ratio": "training.regularizers: [{type: lora_plus}]",
    "lr": "training.learning_rate",
    "lr_scheduler": "training.schedule",
    "lr_scheduler_type": "training.schedule",
    "max_epochs": "training.epochs",
    "max_grad_norm": "training.max_gradient_norm",
    "max_samples": "data.max_train_examples",
    "max_seq_len": "task.max_length",
    "max_seq_length": "task.max_length",
    "metric_for_best_model": "evaluation.metric",
    "micro_batch": "training.micro_batch_size",
    "mixed_precision": "training.precision",
    "model_id": "model.path",
    "model_name": "model.path",
    "model_name_or_path": "model.path",
    "neftune_noise_alpha": "training.regularizers: [{type: neftune}]",
    "num_epochs": "training.epochs",
    "num_train_epochs": "training.epochs",
    "optim": "training.optimizer",
    "output_router_logits": "training.regularizers: [{type: router_balance}]",
    "peft_type": "method.type",
    "per_device_eval_batch_size": "evaluation.batch_size",
    "per_device_train_batch_size": "training.micro_batch_size",
    "pretrained_model_name_or_path": "model.path",
    "quant_type": "model.quantization",
    "r": "method.rank",
    "report_to": "tracking",
    "router_aux_loss_coef": "training.regularizers: [{type: router_balance, coefficient: …}]",
    "sample_packing": "task.packing",
    "save_steps": "training.checkpoint_every_steps",
    "scheduler": "training.schedule",
    "sequence_len": "task.max_length",
    "target_module": "method.target_modules",
    "test_file": "data.source: {test: …}",
    "test_size": "data.test_fraction",
    "text_column": "task.text",
    "tokenizer_name": "model.tokenizer",
    "torch_compile": "training.compile",
    "torch_dtype": "model.dtype",
    "train_batch_size": "training.batch_size",
    "train_file": "data.source: {train: …}",
    "use_dora": "method.dora",
    "use_rslora": "method.rslora",
    "val_set_size": "data.validation_fraction",
    "val_size": "data.validation_fraction",
    "validation_file": "data.source: {validation: …}",
    "wandb_project": "tracking: [wandb]",
    "warmup": "training.warmup_fraction",
    "warmup_ratio": "training.warmup_fraction",
    "warmup_steps": "training.warmup_fraction",
}
"""What stands in a recipe for a word of another tool."""
IN_SECTION: Mapping[str, str] = {
    **{f"data.{split}": f"data.source: {{{split}: …}}" for split in ("train", "validation", "test", "unlabeled")},
    "data.file": "data.source",
    "data.name": "data.source",
    "data.path": "data.source",
    "method.name": "method.type",
    "model.name": "model.path",
    "model.type": "model.path",
    "task.name": "task.type",
}
"""What stands for a word that means something else in another section."""


class Words:
    """Finds where a key belongs.

    Args:
        fields: The keys of each section, by its name; of those that several have, the first section's counts.
    """

    def __init__(self, fields: Mapping[str, Iterable[str]]) -> None:
        self._fields: dict[str, str] = {}
        for section, keys in fields.items():
            for key in keys:
                self._fields.setdefault(key, f"{section}.{key}" if section else key)

    def hint(self, path: KeyPath) -> str | None:
        """Where the key at a path belongs, which does not know it there; None: it is no word that is known."""
        word, dotted = str(path[-1]), ".".join(map(str, path))
        target = IN_SECTION.get(dotted) or HERE.get(word)
        if target is None and len(path) <= 2:
            target = self._fields.get(word)
        return None if target in (None, dotted) else f"In a recipe this is `{target}`."


def words_of(values: Mapping[str, Any], keys: Iterable[str]) -> Words:
    """The words of a recipe, by which a key that stands in the wrong section finds its own.

    Args:
        values: What the recipe says; its types have keys of their own.
        keys: Of the recipe itself.
    """
    parts: dict[str, Iterable[str]] = {}
    for key, registry in REGISTERED.items():
        section = values.get(key)
        kind = section.get("type") if isinstance(section, Mapping) else None
        if isinstance(kind, str) and kind in registry.names():
            parts[key] = registry[kind].model_fields
    return Words({"": keys, **parts, **{key: section.model_fields for key, section in SECTIONS.items()}})
