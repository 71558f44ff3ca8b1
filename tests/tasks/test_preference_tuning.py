"""Preference tuning: losses against plain formulas, the reference, what rows may look like, and what is refused."""

from __future__ import annotations

import json
import math
import random
import shutil
from pathlib import Path
from typing import Any, get_args

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file

import peftlab
from peftlab.core.errors import ConfigError, DataError, UnsupportedError, UserError
from peftlab.core.reporter import Silent
from peftlab.core.splits import Split
from peftlab.core.task import Policy
from peftlab.inference.chat import ChatSession
from peftlab.inference.export.export import export_run
from peftlab.run.prepared import PREPARED
from peftlab.tasks.preference.log_probabilities import response_log_probabilities
from peftlab.tasks.preference.losses import WITHOUT_REFERENCE, PairLoss, Responses, pair_losses
from peftlab.tasks.preference_tuning import PreferenceTuning
from peftlab.training.evaluation import TorchInference
from tests.chat_tokenizers import PLAIN_CHAT
from tests.conftest import sentences

pytestmark = pytest.mark.slow


def log_sigmoid(value: float) -> float:
    return -math.log1p(math.exp(-value))


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def naive_pair_loss(
    kind: str, own: list[list[float]], base: list[list[float]], beta: float, noise: float, gamma: float
) -> float:
    """The papers' formulas for one pair, from the log-probability of every token of both responses."""
    (chosen, rejected), (base_chosen, base_rejected) = map(sum, own), map(sum, base)
    first, second = beta * (chosen - base_chosen), beta * (rejected - base_rejected)
    margin = first - second
    means = [sum(tokens) / len(tokens) for tokens in own]
    ratios = [(sum(o) - sum(b)) / len(o) for o, b in zip(own, base, strict=True)]
    odds = [math.exp(mean) / (1 - math.exp(mean)) for mean in means]
    formulas = {
        "dpo": lambda: -log_sigmoid(margin),
        "ipo": lambda: (ratios[0] - ratios[1] - 1 / (2 * beta)) ** 2,
        "cdpo": lambda: -(1 - noise) * log_sigmoid(margin) - noise * log_sigmoid(-margin),
        "robust": lambda: (-(1 - noise) * log_sigmoid(margin) + noise * log_sigmoid(-margin)) / (1 - 2 * noise),
        "length_normalised": lambda: -log_sigmoid(beta * (ratios[0] - ratios[1])),
        "hinge": lambda: max(0.0, 1 - margin),
        "apo_zero": lambda: 1 - sigmoid(first) + sigmoid(second),
        "apo_down": lambda: sigmoid(first) + 1 - sigmoid(margin),
        "nca": lambda: -log_sigmoid(first) - 0.5 * log_sigmoid(-first) - 0.5 * log_sigmoid(-second),
        "sppo": lambda: (first / beta - 1 / (2 * beta)) ** 2 + (second / beta + 1 / (2 * beta)) ** 2,
        "discopop": lambda: (
            (1 - sigmoid(margin / 0.05)) * -log_sigmoid(margin) + sigmoid(margin / 0.05) * math.exp(-margin)
        ),
        "cpo": lambda: -log_sigmoid(beta * (chosen - rejected)) - means[0],
        "rpo": lambda: -log_sigmoid(margin) - 0.4 * means[0],
        "orpo": lambda: -means[0] - beta * log_sigmoid(math.log(odds[0] / odds[1])),
        "simpo": lambda: -log_sigmoid(beta * (means[0] - means[1]) - gamma),
    }
    return formulas[kind]()


def naive_kto(
    own: list[float], others: list[float], good: list[bool], beta: float, weights: tuple[float, float]
) -> float:
    zero = max(0.0, sum(others) / len(others))
    desirable, undesirable = weights
    return sum(
        desirable * (1 - sigmoid(beta * (ratio - zero)))
        if is_good
        else undesirable * (1 - sigmoid(beta * (zero - ratio)))
        for ratio, is_good in zip(own, good, strict=True)
    )


@pytest.fixture(scope="module")
def gpt2(tiny_gpt2: Path) -> tuple[Any, Any]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_gpt2)
    tokenizer.pad_token = tokenizer.eos_token
    return transformers.AutoModelForCausalLM.from_pretrained(tiny_gpt2).eval(), tokenizer


def pairs(count: int = 7) -> Split:
    generator = random.Random(count)
    texts = [text for text, _ in sentences(3 * count)]
    columns = {"prompt": texts[:count], "chosen": texts[count : 2 * count], "rejected": texts[2 * count :]}
    columns["response"], columns["label"] = columns["chosen"], [bool(generator.getrandbits(1)) for _ in range(count)]
    return Split("test", range(count), columns, "pairs.jsonl")


def batch_of(task: PreferenceTuning, split: Split, tokenizer: Any) -> tuple[list[dict[str, Any]], Any]:
    """Examples with a reference that somebody made up, and their batch."""
    generator = random.Random(3)
    encoded = task.encode(task.arrange(split), tokenizer, ())
    examples = [{**each, "reference": [generator.uniform(-60, -5) for _ in range(2)]} for each in encoded.examples]
    return examples, task.collate(examples, tokenizer.pad_token_id)


def token_log_probabilities(model: Any, ids: list[int], prompt: int) -> list[float]:
    """Of each token of a response, alone in a batch and without padding."""
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return [float(logits[at - 1, ids[at]]) for at in range(prompt, len(ids))]


def texts_of(example: dict[str, Any]) -> tuple[list[int], list[int]]:
    first = example["lengths"][0]
    return example["input_ids"][:first], example["input_ids"][first:]


@pytest.mark.parametrize("kind", [*get_args(PairLoss), "rpo"])
def test_the_loss_of_pairs_is_the_papers_formula(kind: Any, gpt2: tuple[Any, Any]) -> None:
    model, tokenizer = gpt2
    own_keys = {"cdpo": {"label_noise": 0.2}, "robust": {"label_noise": 0.2}, "simpo": {"gamma": 0.7}}.get(kind, {})
    own_keys |= {"objective": kind} if kind != "rpo" else {"objective": "dpo", "sft_weight": 0.4}
    task = PreferenceTuning(beta=0.3, max_length=48, **own_keys)
    others = {"label_noise", "gamma", "undesirable_weight", *(["sft_weight"] if kind == "orpo" else [])}
    for key in others - set(own_keys):
        with pytest.raises(ConfigError, match=f"`{key}` goes with `objective"):
            PreferenceTuning(objective=own_keys["objective"], **{key: 0.3})
    examples, batch = batch_of(task, pairs(), tokenizer)
    expected = 0.0
    for example in examples:
        own = [token_log_probabilities(model, text, example["prompt_length"]) for text in texts_of(example)]
        base = [[total / len(tokens)] * len(tokens) for total, tokens in zip(example["reference"], own, strict=True)]
        expected += naive_pair_loss(kind, own, base, 0.3, 0.2, 0.7)
    assert task.training_loss(model, batch).item() == pytest.approx(expected, rel=1e-5)
    assert task.loss(task.logits(model, batch), batch).item() == pytest.approx(expected, rel=1e-5)
    assert task.loss_terms(batch) == len(examples)
    assert task.divisible


def test_the_loss_of_responses_alone_is_that_of_the_paper(gpt2: tuple[Any, Any]) -> None:
    model, tokenizer = gpt2
    task = PreferenceTuning(objective="kto", beta=0.05, desirable_weight=1.5, undesirable_weight=0.5, max_length=48)
    examples, batch = batch_of(task, pairs(), tokenizer)
    ratios = [
        [
            sum(token_log_probabilities(model, text, example["prompt_length"])) - base
            for text, base in zip(texts_of(example), example["reference"], strict=True)
        ]
        for example in examples
    ]
    own, others = map(list, zip(*ratios, strict=True))
    expected = naive_kto(own, others, [example["label"] for example in examples], 0.05, (1.5, 0.5))
    assert task.training_loss(model, batch).item() == pytest.approx(expected, rel=1e-5)
    assert task.loss_terms(batch) == len(examples)
    assert not task.divisible
    for example, before in zip(examples, [examples[-1], *examples], strict=False):  # each beside the row before
        written, other = (text[example["prompt_length"] :] for text in texts_of(example))
        assert other == texts_of(before)[0][before["prompt_length"] :]
        assert written != other


def test_the_divergence_of_kto_has_no_gradient() -> None:
    from peftlab.tasks.preference.losses import kto_losses

    others = torch.ones(3, requires_grad=True)
    own = torch.zeros(3, requires_grad=True)
    kto_losses(own, others, torch.tensor([True, False, True]), beta=1, desirable=1, undesirable=1).sum().backward()
    assert others.grad is None
    assert own.grad is not None


@pytest.mark.parametrize("kind", get_args(PairLoss))
def test_losses_stay_numbers_far_from_the_reference(kind: Any) -> None:
    """A margin of thousands of nats either way, as of long responses."""
    for apart in (-3000.0, 3000.0):
        sums = torch.tensor([[min(apart, -1.0)], [min(-apart, -1.0)]], requires_grad=True)
        reference = None if kind in WITHOUT_REFERENCE else torch.full((2, 1), -1500.0)
        pair = Responses(sums, torch.full((2, 1), 10.0), reference)
        loss = pair_losses(kind, pair, beta=0.1, label_noise=0.1, gamma=1.0).sum()
        loss.backward()
        assert loss.isfinite()
        assert sums.grad is not None
        assert sums.grad.isfinite().all()


def test_the_gradient_in_chunks_is_that_of_all_logits(gpt2: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = gpt2
    task = PreferenceTuning(max_length=48)
    _, batch = batch_of(task, pairs(), tokenizer)
    gradients = []
    for loss in (lambda: task.loss(task.logits(model, batch), batch), lambda: task.training_loss(model, batch)):
        model.zero_grad()
        loss().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
        monkeypatch.setattr("peftlab.tasks.language.vocabulary_head.CHUNK_ELEMENTS", 5 * len(tokenizer))
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_head_that_does_not_train_makes_its_logits_once(
    gpt2: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = gpt2
    monkeypatch.setattr("peftlab.tasks.language.vocabulary_head.CHUNK_ELEMENTS", 5 * len(tokenizer))
    task = PreferenceTuning(max_length=48)
    _, batch = batch_of(task, pairs(), tokenizer)
    found = []
    for trains in (True, False):
        model.zero_grad()
        model.lm_head.weight.requires_grad_(trains)
        scale = model.transformer.ln_f.weight
        products = list[int]()
        handle = model.lm_head.register_forward_hook(lambda *_, seen=products: seen.append(1))
        loss = task.training_loss(model, batch)
        loss.backward()
        handle.remove()
        found.append((loss.detach(), scale.grad.clone(), len(products)))
    model.lm_head.weight.requires_grad_(True)
    assert torch.allclose(found[0][0], found[1][0], rtol=1e-6)
    assert torch.allclose(found[0][1], found[1][1], rtol=1e-4, atol=1e-6)
    assert found[0][2] > 2 * found[1][2]  # chunks, twice, against the call that gives the head nothing


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "pairs.jsonl"
    values = [
        {
            "prompt": text,
            "chosen": "good",
            "rejected": "bad",
            "response": "good" if at % 3 else "bad",
            "label": at % 3 > 0,
        }
        for at, (text, _) in enumerate(sentences(60))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in values))
    return path


def recipe(model: Path, rows: Path, method: dict[str, Any], **task: Any) -> peftlab.Recipe:
    return peftlab.Recipe.from_dict(
        {
            "name": "preferences",
            "model": {"path": str(model)},
            "task": {"type": "preference_tuning", "max_length": 48, "max_new_tokens": 4, **task},
            "data": {"source": str(rows), "validation_fraction": 0.2, "test_fraction": 0.2},
            "method": method,
            "training": {"max_steps": 12, "batch_size": 6, "learning_rate": 1e-2, "log_every_steps": 1},
            "measure": False,
        }
    )


@pytest.mark.parametrize("method", [{"type": "lora"}, {"type": "lora", "initialization": "pissa"}])
def test_margins_begin_at_zero_and_grow(tiny_gpt2: Path, rows: Path, tmp_path: Path, method: dict[str, Any]) -> None:
    """PiSSA takes a part of the base's weights away into the adapter: with the adapter off it is not the base."""
    done = peftlab.run_recipe(recipe(tiny_gpt2, rows, method, compared_prompts=3), output_dir=tmp_path / "run")
    assert done.record.status == "success", done.record.error
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-4)
    scores = done.record.scores["test"]
    assert scores["reward_accuracy"] == 1
    assert scores["reward_margin"] > 0
    assert scores["preferred_log_ratio"] > scores["dispreferred_log_ratio"]
    notes = done.record.data.notes["train"]
    assert notes["mean_tokens_chosen"] > 1
    assert done.record.guards["margins_start_at_zero"].status == "passed"
    assert (tmp_path / "run" / PREPARED).is_file()
    loaded = peftlab.load(tmp_path / "run")
    assert isinstance(loaded.predict(["good film"])[0]["generated"], str)
    compared = [json.loads(line) for line in (tmp_path / "run" / "compared_texts.jsonl").read_text().splitlines()]
    assert [row["split"] for row in compared] == ["validation"] * 3 + ["test"] * 3
    assert all(row["tuned"] == loaded.predict([row["prompt"].strip()])[0]["generated"] for row in compared[3:])
    chat = ChatSession(tmp_path / "run", max_new_tokens=4)
    for name, row in [("tuned", compared[0]), ("none", compared[0]), ("none", compared[4])]:
        chat.reset()
        chat.choose(name)
        assert chat.answer(row["prompt"].strip()).strip() == row["base" if name == "none" else "tuned"]
    assert scores["kl"] > 0.01  # twelve steps at this rate change what it says
    assert 1 <= scores["response_tokens"] <= 4  # max_new_tokens
    assert 1 <= scores["base_response_tokens"] <= 4
    table = [json.loads(line) for line in rows.read_text().splitlines()]
    again = loaded.evaluate(table)
    assert again.examples == 60
    assert again.scores["reward_accuracy"] > 0.9
    merged = export_run(tmp_path / "run", "merged", tmp_path / "merged", offline=True, reporter=Silent())
    assert merged.check.examples > 0
    with pytest.raises(UnsupportedError, match="which an export leaves behind"):
        peftlab.load(tmp_path / "merged").evaluate(table)


@pytest.mark.parametrize("kind", ["kto", "simpo"])
def test_other_losses_train(kind: str, tiny_gpt2: Path, rows: Path, tmp_path: Path) -> None:
    done = peftlab.run_recipe(recipe(tiny_gpt2, rows, {"type": "lora"}, objective=kind), output_dir=tmp_path / "run")
    assert done.record.status == "success", done.record.error
    assert (tmp_path / "run" / PREPARED).is_file() == (kind == "kto")
    scores = done.record.scores["test"]
    assert 0 <= scores["reward_accuracy"] <= 1
    assert ("preferred_log_ratio" in scores) == (kind == "kto")


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def split_of(rows: list[dict[str, Any]]) -> Split:
    return Split("train", range(len(rows)), {key: [row.get(key) for row in rows] for key in rows[0]}, "pairs.jsonl")


SAME = [
    {"prompt": "How?", "chosen": "So.", "rejected": "No."},
    {"prompt": [user("How?")], "chosen": [assistant("So.")], "rejected": [assistant("No.")]},
    {"chosen": [user("How?"), assistant("So.")], "rejected": [user("How?"), assistant("No.")]},
    {"prompt": "How?", "chosen": [user("How?"), assistant("So.")], "rejected": [user("How?"), assistant("No.")]},
    {"prompt": [user("How?")], "chosen": [user("How?"), assistant("So.")], "rejected": "No."},
]


def test_all_layouts_are_the_same_rows() -> None:
    found = [PreferenceTuning().arrange(split_of([row])).columns for row in SAME]
    assert all(columns == found[0] for columns in found)


REFUSED = [
    ({"prompt": "How?", "chosen": "So.", "rejected": " So. "}, "are the same"),
    ({"prompt": "How?", "chosen": "So.", "rejected": None}, "`rejected` is missing"),
    ({"prompt": "How?", "chosen": " ", "rejected": "No."}, "`chosen` is empty"),
    ({"prompt": None, "chosen": "So.", "rejected": "No."}, "`prompt` is missing"),
    ({"prompt": [user("How?"), assistant("So.")], "chosen": "So.", "rejected": "No."}, "nobody is to respond to"),
    ({"prompt": "How?", "chosen": [user("How?")], "rejected": "No."}, "ends with the user's turn"),
    (
        {"prompt": None, "chosen": [user("How?"), assistant("So.")], "rejected": [user("Who?"), assistant("No.")]},
        "the prompts of `chosen` and `rejected` differ",
    ),
    (
        {"prompt": "Who?", "chosen": [user("How?"), assistant("So.")], "rejected": "No."},
        "differs from that of the chat",
    ),
    ({"prompt": None, "chosen": [user("How?"), assistant("So.")], "rejected": "No."}, "`rejected` has no prompt"),
    (
        {"prompt": "How?", "chosen": json.dumps([user("How?"), assistant("So.")]), "rejected": "No."},
        "`chosen` holds a chat that is written as text",
    ),
    ({"prompt": str([user("How?")]), "chosen": "So.", "rejected": "No."}, "`prompt` holds a chat that is written as"),
]


def test_a_response_may_be_json() -> None:
    row = {"prompt": "Which?", "chosen": '[{"value": 1, "role": 2}]', "rejected": '[{"content": "none"}]'}
    assert json.loads(PreferenceTuning().arrange(split_of([row])).columns["chosen"][0]) == {"content": row["chosen"]}


@pytest.mark.parametrize(("row", "message"), REFUSED)
def test_a_row_that_is_no_pair_is_named(row: dict[str, Any], message: str) -> None:
    split = split_of([{"prompt": "A", "chosen": "B", "rejected": "C"}, row])
    with pytest.raises(DataError, match=message) as caught:
        PreferenceTuning().arrange(split)
    assert "pairs.jsonl, row 2" in str(caught.value)


def test_labels_of_responses() -> None:
    task = PreferenceTuning(objective="kto")
    values = [True, False, "true", " False ", 1, 0, 0.0, "1"]
    rows = [{"prompt": "How?", "response": f"So {at}.", "label": value} for at, value in enumerate(values)]
    assert task.arrange(split_of(rows)).columns["label"] == [True, False, True, False, True, False, False, True]
    for value in (None, "maybe", 2, [True]):
        with pytest.raises(DataError, match="`label`"):
            task.arrange(split_of([{**rows[0], "label": value}]))
    with pytest.raises(DataError, match="all responses are desirable"):
        task.check_split(task.arrange(split_of(rows[:1])), ())


def test_what_kto_compares_with_is_a_response_to_another_prompt(gpt2: tuple[Any, Any]) -> None:
    _, tokenizer = gpt2
    task = PreferenceTuning(objective="kto")

    def others(prompts: str) -> list[str]:
        rows = [{"prompt": prompt, "response": f"r{at}", "label": not at % 2} for at, prompt in enumerate(prompts)]
        examples = task.encode(task.arrange(split_of(rows)), tokenizer, ()).examples
        return [tokenizer.decode(texts_of(each)[1][each["prompt_length"] :]).strip()[:2] for each in examples]

    assert others("abc") == ["r2", "r0", "r1"]
    assert others("aabbca") == ["r4", "r4", "r1", "r1", "r3", "r4"]
    assert others("aa") == ["r1", "r0"]


def test_a_long_prompt_is_cut_alike_on_both_sides(gpt2: tuple[Any, Any]) -> None:
    _, tokenizer = gpt2
    rows = [{"prompt": "good film " * 20, "chosen": "it was", "rejected": "in town it was dark then"}]
    rows.append({"prompt": "it", "chosen": "dark " * 40, "rejected": "it"})
    task = PreferenceTuning(max_length=16, drop_too_long=True)
    encoded = task.encode(task.arrange(split_of(rows)), tokenizer, ())
    assert encoded.notes["prompts_cut"] == encoded.notes["rows_dropped_response_too_long"] == len(encoded) == 1
    (example,) = encoded.examples
    chosen, rejected = texts_of(example)
    cut = example["prompt_length"]
    assert chosen[:cut] == rejected[:cut]
    assert len(rejected) == 16
    assert example["truncated"]
    with pytest.raises(DataError, match="do not fit into max_length 16"):
        PreferenceTuning(max_length=16).encode(task.arrange(split_of(rows)), tokenizer, ())


def test_a_chat_template_renders_texts_and_chats_alike(gpt2: tuple[Any, Any], tiny_gpt2: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_gpt2)
    tokenizer.chat_template = PLAIN_CHAT
    task = PreferenceTuning(max_length=200)
    of_each = [task.encode(task.arrange(split_of([row])), tokenizer, ()).examples[0] for row in SAME]
    assert all(example["input_ids"] == of_each[0]["input_ids"] for example in of_each)
    chosen = tokenizer.decode(texts_of(of_each[0])[0])
    assert tokenizer.apply_chat_template([user("How?"), assistant("So.")], tokenize=False).startswith(chosen)
    plain = task.model_copy(update={"chat": False})
    assert plain.encode(plain.arrange(split_of(SAME[:1])), tokenizer, ()).examples[0] != of_each[0]
    prompt = task.prompts(split_of(SAME[:1]), tokenizer)[0]["input_ids"]
    assert of_each[0]["input_ids"][: of_each[0]["prompt_length"]] == prompt


class Breaks(peftlab.Callback):
    """Fails in the first step, as a program may."""

    def on_step(self, step: int, loss: float) -> None:
        raise RuntimeError("enough")


def test_the_reference_is_that_of_the_chat_template_that_the_run_goes_on_with(
    tiny_gpt2: Path, rows: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_gpt2, tmp_path / "base")
    template, kept = base / "chat_template.jinja", tmp_path / "run" / PREPARED
    short = "{%- for m in messages %}{{- m.role[:1] + m.content + eos_token }}{%- endfor %}"
    short += "{%- if add_generation_prompt %}{{- 'a' }}{%- endif %}"
    template.write_text(short)
    values = recipe(base, rows, {"type": "lora"}).model_dump(mode="json")
    values["training"]["max_steps"] = 2
    begun = peftlab.Recipe.from_dict(values)
    assert peftlab.run_recipe(begun, output_dir=tmp_path / "run", callbacks=[Breaks()]).record.status == "failed"
    before = load_file(kept)["train/reference"]
    template.write_text(short.replace("m.content", "' ' + m.content"))
    with pytest.raises(UserError, match="`tokenizer` has changed"):
        peftlab.run_recipe(begun, output_dir=tmp_path / "run", resume=True)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    done = peftlab.run_recipe(begun, output_dir=tmp_path / "run", resume=True)
    assert done.record.guards["margins_start_at_zero"].status == "passed"
    assert not torch.equal(load_file(kept)["train/reference"], before)


def test_nothing_is_scored_without_the_reference(gpt2: tuple[Any, Any]) -> None:
    model, tokenizer = gpt2
    task = PreferenceTuning(max_length=48)
    examples = task.encode(task.arrange(pairs()), tokenizer, ()).examples
    batch = task.collate(examples, tokenizer.pad_token_id)
    assert response_log_probabilities(model, batch).isfinite().all()
    assert task.training_loss(model, batch).isnan()


def test_a_reference_of_another_model_is_noticed_before_the_first_step(gpt2: tuple[Any, Any]) -> None:
    model, tokenizer = gpt2
    task = PreferenceTuning(max_length=48)
    examples, batch = batch_of(task, pairs(), tokenizer)
    with torch.no_grad():
        own = response_log_probabilities(model, batch).view(2, -1).T.tolist()
    policy = Policy(model, None, TorchInference(tokenizer, (), torch.device("cpu")), tokenizer.pad_token_id)
    right = [{**example, "reference": each} for example, each in zip(examples, own, strict=True)]
    for rows, starts_as_base, status in ((right, True, "passed"), (examples, True, "failed"), (examples, False, None)):
        guard = task.guards_at_start(policy, rows, starts_as_base=starts_as_base)["margins_start_at_zero"]
        assert guard.status == (status or "not_applicable")


def test_the_divergence_is_that_of_all_tokens_of_the_vocabulary(gpt2: tuple[Any, Any]) -> None:
    """Token by token, each alone, in double precision; a model is 0 away from itself."""
    model, tokenizer = gpt2
    other = transformers.AutoModelForCausalLM.from_config(model.config).eval()
    task = PreferenceTuning(max_length=48, max_new_tokens=5, compared_prompts=2)
    split = task.encode(task.arrange(pairs()), tokenizer, ())
    asks = TorchInference(tokenizer, (), torch.device("cpu"))
    for base in (other, model):
        found = task.compare_with_base(Policy(model, base, asks, tokenizer.pad_token_id), split)
        values, written = list[float](), list[int]()
        for example in split.examples[:2]:
            prompt = torch.tensor([example["input_ids"][: example["prompt_length"]]])
            made = model.generate(prompt, max_new_tokens=5, do_sample=False, pad_token_id=tokenizer.eos_token_id)
            written.append(made.shape[1] - prompt.shape[1])
            for end in range(prompt.shape[1], made.shape[1]):
                with torch.inference_mode():
                    own, its = (each(made[:, :end]).logits[0, -1].double().log_softmax(-1) for each in (model, base))
                values.append(float((own.exp() * (own - its)).sum()))
        assert found.scores["kl"] == pytest.approx(sum(values) / len(values), rel=1e-4, abs=1e-6)
        assert found.scores["response_tokens"] == sum(written) / 2
    assert [row["tuned"] for row in found.rows] == [row["base"] for row in found.rows]


def test_a_run_that_diverges_keeps_its_best_state(
    tiny_gpt2: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss that is no number in step 7 makes numbers of no weight; what the run leaves was there before."""
    values = recipe(tiny_gpt2, rows, {"type": "lora"}).model_dump(mode="json")
    values["evaluation"] = {"every": 2, "metric": "reward_margin"}
    own, steps = PreferenceTuning.training_loss, []

    def training_loss(task: PreferenceTuning, model: Any, batch: Any) -> torch.Tensor:
        steps.append(1)
        return own(task, model, batch) * (math.nan if len(steps) == 7 else 1)

    monkeypatch.setattr(PreferenceTuning, "training_loss", training_loss)
    done = peftlab.run_recipe(peftlab.Recipe.from_dict(values), output_dir=tmp_path / "run")
    record = done.record
    assert record.status == "diverged"
    assert "at step 7" in str(record.error)
    log = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    margins = {line["step"]: line["validation"]["reward_margin"] for line in log if "validation" in line}
    assert record.best_step == max(margins, key=margins.__getitem__) > 0
    base = transformers.AutoModelForCausalLM.from_pretrained(tiny_gpt2)
    kept = peft.PeftModel.from_pretrained(base, str(tmp_path / "run" / "adapter"))
    weights = {name: value for name, value in kept.state_dict().items() if "lora_B" in name}
    assert all(value.isfinite().all() for value in weights.values())
    assert any(value.any() for value in weights.values())


def test_margins_that_grow_while_the_accuracy_falls_are_told() -> None:
    log = [
        {"step": at, "validation": {"reward_accuracy": a, "reward_margin": m}}
        for at, a, m in ((1, 0.9, 1), (2, 0.8, 3))
    ]
    assert "fell from 90.0% to 80.0%" in PreferenceTuning().course_notices(log)["margin_without_accuracy"]
    assert PreferenceTuning().course_notices(log[:1]) == {}
    assert PreferenceTuning().course_notices(log[::-1]) == {}
