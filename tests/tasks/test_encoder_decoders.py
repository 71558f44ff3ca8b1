"""Language tasks on encoder–decoders: losses against transformers' own, texts against decoding by its definition."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from language_models import Reading, tiny_encoder_decoder

import peftlab
from peftlab.core.config import Document
from peftlab.core.errors import ConfigError, DataError, UnsupportedError
from peftlab.core.method import METHODS, MethodContext
from peftlab.core.model_facts import ModelFacts
from peftlab.core.splits import Split
from peftlab.inference.explanation.attributions import explain
from peftlab.inference.export.export import export_run
from peftlab.preparation.check import check_recipe
from peftlab.recipe.schema import Recipe
from peftlab.tasks._tokenizers import byte_pair_tokenizer
from peftlab.tasks.instruction_tuning import InstructionTuning
from peftlab.tasks.language.generation import generate_tokens
from tests.conftest import sentences

pytestmark = pytest.mark.slow

TASK = InstructionTuning().fitted({"family": "encoder_decoder"})
EXAMPLES = [
    {"input_ids": [5, 6, 7, 8, 9], "labels": [10, 11, 1]},
    {"input_ids": [12, 13], "labels": [14, 15, 16, 17, 1]},
]
PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [12, 13], [20, 21, 22, 23]]
TOKENIZER = SimpleNamespace(eos_token_id=1, pad_token_id=0)


@pytest.mark.parametrize("acceleration", ["auto", "off"])
@pytest.mark.parametrize("model_type", ["t5", "bart"])
def test_the_loss_is_transformers_own_over_the_targets(model_type: str, acceleration: str) -> None:
    from peftlab.acceleration.accelerated import accelerated, prepare

    model = tiny_encoder_decoder(model_type)
    expected = sum(
        float(model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss) * len(labels)
        for ids, labels in (each.values() for each in EXAMPLES)
    )
    prepare(model, acceleration)
    batch = TASK.collate(EXAMPLES, 0)
    with accelerated(model):
        assert float(TASK.training_loss(model, batch)) == pytest.approx(expected, rel=1e-5)
    assert float(TASK.loss(TASK.logits(model, batch), batch)) == pytest.approx(expected, rel=1e-5)
    assert TASK.loss_terms(batch) == 8
    assert [TASK.length(example) for example in EXAMPLES] == [8, 7]
    assert TASK.padded_tokens(batch) == 2 * (5 + 5)


@pytest.mark.parametrize("name", ["full", "lora", "prefix_tuning", "prompt_tuning"])
@pytest.mark.parametrize("model_type", ["t5", "bart"])
def test_batches_write_what_single_prompts_write(model_type: str, name: str) -> None:
    base = tiny_encoder_decoder(model_type)
    method = METHODS[name]()
    model = method.apply(base, MethodContext("SEQ_2_SEQ_LM", 10, head_modules=(), family="encoder_decoder"))
    torch.manual_seed(3)
    for parameter in model.parameters():  # an adapter that does nothing would prove nothing
        if parameter.requires_grad and not method.trains_base:
            parameter.data += 0.3 * torch.randn_like(parameter)
    model.eval()
    with torch.inference_mode():
        together = generate_tokens(
            model, PROMPTS, Reading(TOKENIZER, virtual_tokens=method.extra_positions()), max_new_tokens=6
        )
        alone = [step_by_step(model, prompt, base.config.decoder_start_token_id) for prompt in PROMPTS]
    assert together == alone
    assert len({tuple(text) for text in together}) > 1


def step_by_step(model: Any, prompt: list[int], start: int) -> list[int]:
    """Greedy decoding as its definition says, with a whole forward pass for each token."""
    written = [start]
    for _ in range(6):
        inputs = {"input_ids": torch.tensor([prompt]), "attention_mask": torch.ones(1, len(prompt), dtype=torch.long)}
        token = int(model(**inputs, decoder_input_ids=torch.tensor([written])).logits[0, -1].argmax())
        if token == TOKENIZER.eos_token_id:
            break
        written.append(token)
    return written[1:]


def test_a_text_ends_where_the_decoders_positions_end() -> None:
    model = tiny_encoder_decoder("bart")
    unending = SimpleNamespace(eos_token_id=59, pad_token_id=0)
    with torch.inference_mode():
        model.final_logits_bias[0, 59] = -1e9
        written = generate_tokens(model, [[5, 6], [7] * 64, [7] * 65], Reading(unending), max_new_tokens=100)
    assert [len(text) for text in written] == [63, 63, 0]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BART with a tokenizer, and rows of prompts and responses beside it."""
    from transformers import BartConfig, BartForConditionalGeneration

    folder = tmp_path_factory.mktemp("bart")
    rows = [{"prompt": text, "response": " ".join(text.split()[:2])} for text, _ in sentences(60)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer = byte_pair_tokenizer([row["prompt"] for row in rows], 400, ends=True)
    torch.manual_seed(0)
    sizes = {f"{part}_{key}": value for part in ("encoder", "decoder")
             for key, value in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 32))}  # fmt: skip
    config = BartConfig(
        vocab_size=len(tokenizer), d_model=16, max_position_embeddings=64, init_std=0.3, pad_token_id=0, bos_token_id=1,
        eos_token_id=1, decoder_start_token_id=1, forced_bos_token_id=7, **sizes
    )  # fmt: skip
    BartForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def recipe_of(base: Path, task: dict[str, Any] | None = None, **sections: Any) -> Recipe:
    return Recipe.from_dict(
        {
            "name": "seq2seq",
            "model": {"path": str(base)},
            "task": {"type": "text_generation", "max_length": 32, "max_new_tokens": 4, **(task or {})},
            "data": {"source": str(base / "rows.jsonl"), "validation_fraction": 0.2, "test_fraction": 0.2},
            "method": {"type": "lora"},
            "training": {"max_steps": 4, "batch_size": 8, "learning_rate": 1e-2},
            "waive_guards": ["answers_vary"],
            **sections,
        }
    )


def test_a_run_is_resumed_exported_and_used(base: Path, tmp_path: Path) -> None:
    from peftlab.core.reporter import Silent

    whole = peftlab.run_recipe(recipe_of(base), output_dir=tmp_path / "whole")
    assert whole.record.status == "success", whole.record.error
    assert whole.record.learned == {"family": "encoder_decoder"}

    class Failing(peftlab.Callback):
        def on_step(self, step: Any) -> None:
            raise ValueError("no thanks")

    part = {"output_dir": tmp_path / "part"}
    assert peftlab.run_recipe(recipe_of(base), **part, callbacks=[Failing()]).record.status == "failed"
    resumed = peftlab.run_recipe(recipe_of(base), **part, resume=True).record
    assert (resumed.resumed, resumed.scores) == (1, whole.record.scores)
    adapter = json.loads((tmp_path / "whole/adapter/adapter_config.json").read_text())
    assert adapter["task_type"] == "SEQ_2_SEQ_LM"
    assert {name.split(".")[1] for name in adapter["target_modules"]} == {"encoder", "decoder"}
    export_run(tmp_path / "whole", "merged", tmp_path / "merged", offline=True, reporter=Silent())
    prompt = "the film was good"
    texts = [peftlab.load(tmp_path / name).predict([prompt]) for name in ("whole", "merged")]
    assert texts[0] == texts[1]
    with pytest.raises(UnsupportedError, match="no one decision to explain"):
        explain(peftlab.load(tmp_path / "whole").tuned, prompt)


def test_a_long_prompt_loses_its_end_and_a_long_response_is_refused(base: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    task = InstructionTuning(template="shorten: {prompt}", max_length=14, max_target_length=4).fitted(TASK.learned)
    rows = {"prompt": ["good film " * 20, "bad"], "response": ["good", "bad"]}
    encoded = task.encode(task.arrange(Split("train", [0, 1], rows, "rows")), tokenizer, ())
    first, second = encoded.examples
    assert tokenizer.decode(first["input_ids"]).startswith("shorten: good film")
    assert len(first["input_ids"]) == 14
    assert [each["input_ids"][-1] for each in encoded.examples] == [tokenizer.eos_token_id] * 2
    assert tokenizer.decode(second["labels"]) == "bad<end>"
    assert encoded.notes["prompt_ends_cut"] == 1
    rows = {"prompt": ["good"], "response": ["good film good film good film"]}
    with pytest.raises(DataError, match="max_target_length"):
        task.encode(task.arrange(Split("train", [0], rows, "rows")), tokenizer, ())


@pytest.mark.parametrize(
    ("task", "sections", "error", "match"),
    [
        ({"packing": True}, {}, UnsupportedError, "one prompt and one response"),
        ({"chat": True}, {}, UnsupportedError, "chat templates"),
        ({"max_target_length": 100}, {}, ConfigError, "task.max_target_length.*64 tokens"),
        ({}, {"model": "add_tokens"}, UnsupportedError, "two modules"),
    ],
)
def test_what_does_not_go_is_refused(
    base: Path, task: dict[str, Any], sections: dict[str, Any], error: type[Exception], match: str
) -> None:
    if sections:
        sections = {"model": {"path": str(base), "add_tokens": ["zeb"]}}
    recipe = recipe_of(base, task, **sections)
    with pytest.raises(error, match=match):
        check_recipe(recipe, Document(source="seq2seq", values={}), offline=True)


def test_a_decoder_needs_a_token_to_begin_with() -> None:
    facts = ModelFacts("mbart", "mbart", "encoder_decoder", {"decoder_start_token_id": None})
    with pytest.raises(UnsupportedError, match="decoder begins"):
        InstructionTuning().check(facts)
    with pytest.raises(ConfigError, match="`max_target_length` is for encoder-decoders"):
        InstructionTuning(max_target_length=8).check(ModelFacts("gpt2", "gpt2", "decoder", {}))


def test_the_shortest_placeholder_has_a_prompt_and_a_response() -> None:
    """`estimate` asks for it where nothing longer fits."""
    assert {len(tokens) for tokens in TASK.placeholder(1, ()).values()} == {1}


def test_noise_on_embeddings_reaches_the_encoder() -> None:
    from peftlab.regularizers._embeddings import changed_embeddings

    model = tiny_encoder_decoder("t5")
    batch = TASK.collate(EXAMPLES, 0)
    plain = TASK.logits(model, batch)
    with changed_embeddings(model, lambda output: output * 0):
        assert not torch.allclose(TASK.logits(model, batch), plain)
