"""One contestant, or one after the other, in a process of its own; what it has measured goes into a file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.steps.cases import CASES
from benchmarks.peers.contest import WARMUP_STEPS, build_trainer, peak_of_training

IGNORED = -100


def load(recipe: Path) -> tuple[Any, Any]:
    """The rows as tokens, the same for both, by peftlab's loader."""
    from peftlab.preparation.check import check_recipe
    from peftlab.preparation.loading import Loader
    from peftlab.recipe.schema import load_recipe

    loaded, document = load_recipe(recipe)
    checked = check_recipe(loaded, document, offline=True)
    return Loader(checked, dtype=torch.float32, offline=True), loaded


def run_peftlab(options: dict[str, Any]) -> dict[str, Any]:
    """`peftlab run`, with its defaults."""
    from peftlab.recipe.schema import load_recipe
    from peftlab.run.run import run_recipe

    loaded, document = load_recipe(Path(options["recipe"]))
    record = run_recipe(loaded, document, output_dir=Path(options["folder"]) / "run", offline=True).record
    if record.status != "success" or record.throughput is None:
        raise RuntimeError(f"the run ended with {record.status}: {record.error}")
    return {
        "tokens_per_second": record.throughput.tokens_per_second,
        "peak_bytes": record.phases["train"].peak_memory_bytes,
        "timed_steps": record.throughput.timed_steps,
        "padding_fraction": record.throughput.padding_fraction,
        "flops_utilization": record.throughput.flops_utilization,
        "matmul_flops_per_second": record.throughput.matmul_flops_per_second,
        "phases": {name: phase.seconds for name, phase in record.phases.items()},
        "seconds": record.seconds,
    }


def run_trainer(options: dict[str, Any]) -> dict[str, Any]:
    """Transformers' Trainer with peft, with their defaults; computed in bfloat16 where there is a card."""
    from transformers import DataCollatorForSeq2Seq, DataCollatorWithPadding

    case, on_cuda = CASES[options["case"]], options["device"] == "cuda"
    loader, recipe = load(Path(options["recipe"]))
    examples = loader.splits["train"].examples
    is_classifier = recipe.task.registered_name == "text_classification"
    if is_classifier:
        rows = [{"input_ids": row["input_ids"], "labels": row["label"]} for row in examples]
        collate: Any = DataCollatorWithPadding(loader.tokenizer)
    else:  # transformers wants each label at its own token
        rows = [{"input_ids": row["input_ids"], "labels": [IGNORED, *row["labels"][:-1]]} for row in examples]
        collate = DataCollatorForSeq2Seq(loader.tokenizer, label_pad_token_id=IGNORED)
    lengths = [len(row["input_ids"]) for row in rows]  # told at once: the Trainer may run out of memory
    Path(options["lengths"]).write_text(json.dumps(lengths), encoding="utf-8")
    model = build_model(options["model"], case, is_classifier=is_classifier, on_cuda=on_cuda)
    trainer, times = build_trainer(
        lambda batch: int(batch["attention_mask"].sum()),
        folder=str(Path(options["folder"]) / "trainer"),
        batch_size=case.batch_size,
        epochs=100,
        learning_rate=1e-4,
        settings={"max_steps": recipe.training.max_steps, "bf16": on_cuda, "use_cpu": not on_cuda},
        model=model,
        train_dataset=rows,
        data_collator=collate,
    )
    if on_cuda:
        torch.cuda.reset_peak_memory_stats()
    trainer.train()
    longest = sorted(rows, key=lambda row: -len(row["input_ids"]))[: case.batch_size]
    return {
        "tokens_per_second": times.tokens_per_second,
        "peak_bytes": torch.cuda.max_memory_allocated() if on_cuda else peak_of_training(trainer, collate(longest)),
        "timed_steps": max(0, times.steps - WARMUP_STEPS),
    }


def build_model(folder: str, case: Any, *, is_classifier: bool, on_cuda: bool) -> Any:
    """The base with peft's LoRA of the same shape."""
    import peft
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, BitsAndBytesConfig

    torch.manual_seed(0)
    more: dict[str, Any] = {}
    if case.quantization:
        more["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=case.quantization,
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16 if on_cuda else torch.float32,
        )
    if on_cuda:
        more["device_map"] = {"": 0}
    if is_classifier:
        model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2, dtype=torch.float32, **more)
    else:
        dtype = torch.bfloat16 if on_cuda else torch.float32
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **more)
    if case.quantization:
        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    own = case.method
    config = peft.LoraConfig(
        task_type="SEQ_CLS" if is_classifier else "CAUSAL_LM",
        r=own["rank"],
        lora_alpha=own["alpha"],
        target_modules=own["target_modules"],
    )
    return peft.get_peft_model(model, config)


def load_libraries() -> None:
    """All that any contestant needs, before it is its turn; none of it touches the card."""
    import accelerate  # noqa: F401
    import peft  # noqa: F401
    import transformers.models.bert.modeling_bert
    import transformers.models.llama.modeling_llama
    import transformers.trainer  # noqa: F401

    import peftlab.preparation.loading
    import peftlab.run.stages  # noqa: F401


CONTESTANTS = {"trainer": run_trainer, "peftlab": run_peftlab}


if __name__ == "__main__":
    from peftlab.cli.output import quiet_libraries

    quiet_libraries(offline=True)
    load_libraries()
    if not sys.stdin.readline():  # nobody is left to wait for
        sys.exit(1)
    for chosen in json.loads(sys.argv[1]):
        Path(chosen["result"]).write_text(json.dumps(CONTESTANTS[chosen["contestant"]](chosen)), encoding="utf-8")
