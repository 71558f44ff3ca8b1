"""A padding token that is the end token too is read in every text, so its embedding trains like any other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from chat_tokenizers import chat_tokenizer

from peftlab.recipe.schema import load_recipe
from peftlab.run.run import run_recipe
from tests.conftest import sentences

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 400,
}


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """Untied, as Llama's: its embeddings learn from what is read alone."""
    folder = tmp_path / "llama"
    tokenizer = chat_tokenizer(None, eos="</s>")
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**SIZES, bos_token_id=0, eos_token_id=1, tie_word_embeddings=False)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("start", ["checkpoint", "nothing"])
def test_the_end_tokens_embedding_trains(llama: Path, tmp_path: Path, start: str) -> None:
    (tmp_path / "rows.txt").write_text("\n".join(text for text, _ in sentences(80)))
    model = f"{{path: {llama}}}"
    if start == "nothing":
        model = f"{{tokenizer: {llama}, from_config: {{model_type: llama, {str(SIZES)[1:-1].replace(chr(39), '')}}}}}"
    (tmp_path / "recipe.yaml").write_text(
        f"name: rows\nmodel: {model}\ntask: {{type: causal_lm, max_length: 32}}\n"
        f"data: {{source: {tmp_path / 'rows.txt'}}}\nmethod: {{type: full}}\n"
        "training: {max_steps: 3, batch_size: 8, weight_decay: 0}\nmeasure: false\n"
    )
    result = run_recipe(*load_recipe(tmp_path / "recipe.yaml"), output_dir=tmp_path / "run")
    assert result.record.status == "success", result.record.error
    trained = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model").model.embed_tokens.weight
    if start == "checkpoint":
        base = transformers.AutoModelForCausalLM.from_pretrained(llama).model.embed_tokens.weight
        moved = (trained - base).norm(dim=1)
        assert moved[1] > 1e-4
        assert moved[0] > 1e-4
        assert moved[2] == 0  # a token that no text holds
    else:
        assert trained[1].norm() > 0.5 * trained.norm(dim=1).median()
