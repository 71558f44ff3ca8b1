"""GGUF exports: read again by transformers, and by llama.cpp itself, which cut texts and answer as the model does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from gguf import GGUFReader
from language_models import GROUPED, OWN_NAMES, SIZES
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

import peftlab
from peftlab.artifact.whole_model import load_gguf
from peftlab.core.errors import UnsupportedError, UserError
from peftlab.core.reporter import Silent
from peftlab.inference.export.export import export_run
from peftlab.inference.export.gguf import check_gguf, write_gguf
from peftlab.inference.export.gguf_tokenizer import WORD_RULES, check_tokenizer
from tests.patience import PATIENCE

pytestmark = pytest.mark.slow
END = "<|end|>"
ENDS = ("pad_token_id", "bos_token_id", "eos_token_id")
TEXTS = (
    "The quick brown fox jumps over 12345 lazy dogs.\n\nIt's 我想",
    "  two  spaces\t\ttabs\r\n\r\nWe'LL see I'M, 3333.14 e-5!!! ??",
    f"<|im_start|>user\nhi{END}",
    "🚀 (normal) 😶‍🌫️ ✅ កាន់តែ нещо ''''''```````\"\"\"\"......!!!!!!?????? I've been 'told",
)
LLAMA3_POSITIONS = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
MODELS = [
    ("gpt2", "gpt-2", {}),
    ("llama", "smollm", {"tie_word_embeddings": True}),
    ("llama", "llama-bpe", {"rope_parameters": LLAMA3_POSITIONS}),
    ("mistral", "tekken", {"sliding_window": None}),
    ("qwen2", "qwen2", {}),
    ("qwen3", "qwen2", {}),
]
LLAMA_CPP = """
import json, sys, urllib.request
import xllamacpp

path, texts, prompt = sys.argv[1], *map(json.loads, sys.argv[2:])
settings = xllamacpp.CommonParams()
settings.model.path, settings.n_ctx, settings.n_parallel, settings.port, settings.warmup = path, 256, 1, 0, False
settings.cpuparams.n_threads = 1
server = xllamacpp.Server(settings)

def ask(route, **body):
    asked = urllib.request.Request(server.listening_address + route, json.dumps(body).encode(),
        {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(asked))

tokens = [ask("/tokenize", content=text, add_special=True, parse_special=True)["tokens"] for text in texts]
answer = ask("/completion", prompt=prompt, n_predict=2, temperature=0, n_probs=5)
likely = answer["completion_probabilities"][0]["top_logprobs"]
told = {"tokens": tokens, "likely": {one["id"]: one["logprob"] for one in likely}, "stopped": answer["stop_type"]}
print(json.dumps(told))
"""


def words(rule: str) -> Any:
    """A tokenizer that cuts words by a rule, with a token that begins a turn."""
    parts = []
    for step in WORD_RULES[rule].steps:
        if step["type"] == "Split":
            parts.append(pre_tokenizers.Split(Regex(step["pattern"]["Regex"]), "isolated"))
        elif step["type"] == "Digits":
            parts.append(pre_tokenizers.Digits(individual_digits=True))
        else:
            parts.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=step["use_regex"]))
    tokenizer = Tokenizer(models.BPE(ignore_merges=WORD_RULES[rule].takes_whole_words))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=[END, "<|im_start|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([Path(__file__).read_text(), *TEXTS], trainer)
    ends = dict.fromkeys(("bos_token", "eos_token", "pad_token"), END)
    made: Any = transformers.PreTrainedTokenizerFast
    return made(tokenizer_object=tokenizer, **ends)


def decoder(model_type: str, rows: int, **settings: Any) -> Any:
    """A random decoder whose vectors are not all zeros and ones, in eval mode."""
    torch.manual_seed(0)
    own = dict(OWN_NAMES.get(model_type, {"num_key_value_heads": 2} if model_type in {*GROUPED, "mistral"} else {}))
    sizes = {"n_embd": 64, "n_positions": 256} if model_type == "gpt2" else {**SIZES, "hidden_size": 64}
    sizes = {**own, **sizes, "initializer_range": 0.1, "vocab_size": rows, **dict.fromkeys(ENDS, 0), **settings}
    if model_type != "gpt2":
        sizes["max_position_embeddings"] = 256
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(model_type, **sizes))
    for weight in model.parameters():
        if weight.ndim == 1:
            weight.data += 0.1 * torch.randn_like(weight)
    return model.eval()


def ask_llama_cpp(file: Path, texts: list[str], prompt: list[int]) -> dict[str, Any]:
    """The tokens that it makes of texts, the likeliest that follow a prompt, and what ends an answer of one token."""
    words = [sys.executable, "-c", LLAMA_CPP, str(file), json.dumps(texts), json.dumps(prompt)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, timeout=PATIENCE)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def write(model: Any, tokenizer: Any, folder: Path, *, in_eight_bits: bool = False) -> Path:
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_gguf(model, tokenizer, folder / "model.gguf", name="mistral", in_eight_bits=in_eight_bits)
    return folder / "model.gguf"


@pytest.mark.parametrize(("model_type", "rule", "settings"), MODELS)
def test_transformers_and_llama_cpp_read_the_same_model(
    model_type: str, rule: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    tokenizer = words(rule)
    model = decoder(model_type, len(tokenizer) + 3, **settings)  # three rows without a token
    text = " ".join(TEXTS[:2] * 3)
    ids = tokenizer(text, return_tensors="pt")["input_ids"][:, :200]  # past the 64 positions of Llama 3's rule
    wanted = model(ids).logits[0].detach()
    file = write(model, tokenizer, tmp_path)
    assert torch.allclose(load_gguf(file)(ids).logits[0], wanted, atol=2e-2)
    # Of half a character llama.cpp's server tells nothing: the prompt ends where a whole one is the likeliest.
    greatest = wanted.argmax(-1).tolist()
    end = max(at for at in range(70, len(greatest)) if "\ufffd" not in tokenizer.decode([greatest[at]]))
    told = ask_llama_cpp(file, list(TEXTS), ids[0, : end + 1].tolist())
    assert told["tokens"] == [tokenizer(text)["input_ids"] for text in TEXTS]
    own = wanted[end].log_softmax(-1)
    assert {int(token) for token in told["likely"]} == set(own.topk(5).indices.tolist())
    for token, log_probability in told["likely"].items():
        assert log_probability == pytest.approx(float(own[int(token)]), abs=2e-2)


def test_what_ends_a_turn_ends_the_answer(tmp_path: Path) -> None:
    tokenizer = words("smollm")
    tokenizer.add_special_tokens({"additional_special_tokens": ["</turn>"]})
    model = decoder("llama", len(tokenizer))
    wanted, prompt = tokenizer.convert_tokens_to_ids("</turn>"), [40, 50, 60]
    hidden = model.model(torch.tensor([prompt])).last_hidden_state[0, -1]
    model.lm_head.weight.data[wanted] = hidden / hidden.norm() * 10  # so it is what follows
    for ends, reason in (([tokenizer.eos_token_id, wanted], "eos"), ([tokenizer.eos_token_id], "limit")):
        file = tmp_path / f"{reason}.gguf"
        write_gguf(model, tokenizer, file, name="turns", in_eight_bits=False, ends=ends)
        assert ask_llama_cpp(file, [], prompt)["stopped"] == reason


def test_eight_bits_and_bfloat16(tmp_path: Path) -> None:
    tokenizer = words("smollm")
    model = decoder("llama", len(tokenizer))
    small = write(model, tokenizer, tmp_path, in_eight_bits=True)
    back = load_gguf(small).state_dict()
    for name, weight in model.state_dict().items():  # half a step of 1/127 of the greatest value beside it, in float16
        assert (weight - back[name]).abs().max() <= weight.abs().max() / 127 / 2 * 1.01, name
    kinds = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(small).tensors}
    assert kinds["blk.0.attn_q.weight"] == "Q8_0"
    assert kinds["blk.0.attn_norm.weight"] == "F32"
    small.unlink()
    half = model.bfloat16()
    exact = load_gguf(write(half, tokenizer, tmp_path)).state_dict()
    assert all(torch.equal(weight, exact[name]) for name, weight in half.state_dict().items())


def test_a_weight_that_float16_does_not_hold_stays_in_float32(tmp_path: Path) -> None:
    tokenizer = words("smollm")
    model = decoder("llama", len(tokenizer))
    model.model.layers[0].mlp.up_proj.weight.data[0, 0] = 1e5
    back = load_gguf(write(model, tokenizer, tmp_path))
    assert torch.equal(back.model.layers[0].mlp.up_proj.weight, model.model.layers[0].mlp.up_proj.weight)


@pytest.mark.parametrize("kind", ["gguf", "gguf-q8"])
def test_a_run_is_exported_checked_and_used(kind: Any, tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    run = tiny_run(base="gpt2", task="{type: causal_lm, max_length: 32}", steps=20)
    check = export_run(run, kind, tmp_path / "out", offline=True, reporter=Silent()).check
    assert check is not None
    assert check.scores["loss"] == pytest.approx(check.run_scores["loss"], abs=0.01)
    assert check.equal_predictions >= 0.95
    texts = [peftlab.load(place).predict(["we saw the"], max_new_tokens=6) for place in (run, tmp_path / "out")]
    assert texts[0] == texts[1]
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"Exported as `{kind}`" in card
    assert "There is no chat template here" in card
    (tmp_path / "out" / "model.gguf").unlink()
    with pytest.raises(UserError, match=r"model\.gguf"):
        peftlab.load(tmp_path / "out")


def test_a_file_that_says_another_thing_than_its_config_is_refused(tmp_path: Path) -> None:
    tokenizer = words("smollm")
    file = write(decoder("llama", len(tokenizer)), tokenizer, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["rope_parameters"]["rope_theta"] = 5e5
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="the file says rope_theta 10000"):
        load_gguf(file)


@pytest.mark.parametrize(
    ("model_type", "settings", "why"),
    [
        ("gpt_neox", {}, "of GPTNeoXForCausalLM, but of GPT2LMHeadModel"),
        ("mistral", {"sliding_window": 64}, "look back over a window"),
        ("llama", {"attention_bias": True}, "with biases"),
        ("llama", {"hidden_act": "gelu"}, "with the activation gelu"),
        ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}, "of the type linear"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scaled in another way"),
    ],
)
def test_models_of_which_no_right_file_can_be_written(model_type: str, settings: dict[str, Any], why: str) -> None:
    model = decoder(model_type, 60, **settings)
    with pytest.raises(UnsupportedError, match=why):
        check_gguf(type(model).__name__, model.config, words("gpt-2"))


def test_tokenizers_of_which_no_right_file_can_be_written() -> None:
    assert [check_tokenizer(words(rule)) for rule in WORD_RULES] == list(WORD_RULES)
    other = words("gpt-2")
    other.backend_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(UnsupportedError, match="by a rule that is none of gpt-2"):
        check_tokenizer(other)
    other = words("qwen2")
    other.backend_tokenizer.model.ignore_merges = True
    with pytest.raises(UnsupportedError, match="otherwise than the rule qwen2"):
        check_tokenizer(other)
    other = words("gpt-2")
    around = processors.TemplateProcessing(single="$A <|im_start|>", special_tokens=[("<|im_start|>", 1)])
    other.backend_tokenizer.post_processor = around
    with pytest.raises(UnsupportedError, match="other tokens around a text"):
        check_tokenizer(other)
    pieces: Any = transformers.PreTrainedTokenizerFast
    with pytest.raises(UnsupportedError, match="made by Unigram"):
        check_tokenizer(pieces(tokenizer_object=Tokenizer(models.Unigram([("a", -1.0)]))))


def test_a_classifier_is_refused_before_it_is_loaded(tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="language models that write from left to right"):
        export_run(tiny_run(), "gguf", tmp_path / "out", offline=True, reporter=Silent())
    assert not (tmp_path / "out").exists()
