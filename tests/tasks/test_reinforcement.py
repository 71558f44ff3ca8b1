"""Reinforcement: gradients against a plain implementation, resuming bit for bit, rewards that judge and rewards that fail."""

from __future__ import annotations

import functools
import json
import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
import transformers
from safetensors.torch import load_file

import peftlab
from peftlab.core.config import Document, replace_config
from peftlab.core.errors import ConfigError, DataError, RunFailedError, UnsupportedError
from peftlab.core.model_facts import ModelFacts
from peftlab.core.reward import REWARDS, Answer, Reward, ask_rewards, reward_function
from peftlab.core.splits import Split
from peftlab.core.task import Policy
from peftlab.preparation.check import check_model
from peftlab.tasks.language.vocabulary_head import labelled_logits
from peftlab.tasks.reinforcement.estimators import ESTIMATORS
from peftlab.tasks.reinforcement.judged_responses import Group
from peftlab.tasks.reinforcement.losses import advantages, are_equal, policy_losses
from peftlab.tasks.reinforcement.prompts import Reinforcement
from peftlab.tasks.reinforcement.rolled_out import prompt_of, teaches
from peftlab.tasks.turing_machine.judge import share_of_right_steps
from peftlab.tasks.turing_machine.machine import Machine
from peftlab.tasks.turing_machine.notation import read_machine, write_configuration, write_machine
from peftlab.training.evaluation import TorchInference
from peftlab.training.roll_outs import RollOuts
from peftlab.training.steps import Step
from tests.conftest import Command, sentences

pytestmark = pytest.mark.slow

GROUP = 3


@pytest.fixture(scope="module", autouse=True)
def plugins() -> Iterator[None]:
    """Rewards as a plugin has them."""
    REWARDS.names()

    @reward_function("good_words")
    def good_words(prompt: str, response: str, expected: str) -> float:
        """The share of letters that stand in good, and a little for every letter of the prompt."""
        return sum(letter in "good" for letter in response) / max(1, len(response)) + len(prompt) / 1000

    @reward_function("broken")
    def broken(prompt: str, response: str, expected: str) -> float:
        """Divides by nothing where the prompt says so."""
        return 1 / 0 if "zero" in prompt else math.nan if "nan" in prompt else 1.0

    @reward_function("endless")
    def endless(prompt: str, response: str, expected: str) -> float:
        """Sleeps where the prompt says so."""
        time.sleep(60 if "sleep" in prompt else 0)
        return 0.0

    yield
    for name in ("good_words", "broken", "endless"):
        del REWARDS._classes[name]


def answer(response: str, expected: str = "", prompt: str = "", where: str = "row 1") -> Answer:
    return Answer(prompt, response, expected, where)


# --- the gradient -----------------------------------------------------------------------------------------------------


def naive_advantages(groups: list[list[float]], estimator: str, scale: str | None = None) -> list[list[float]]:
    def spread(rewards: list[float]) -> float:
        mean = sum(rewards) / len(rewards)
        return math.sqrt(sum((each - mean) ** 2 for each in rewards) / (len(rewards) - 1)) + 1e-4

    scale = scale or ("none" if estimator in ("dr_grpo", "rloo") else "group")
    found = []
    for rewards in groups:
        others, total = len(rewards) - 1, sum(rewards)
        means = [(total - each) / others if estimator == "rloo" else total / len(rewards) for each in rewards]
        by = {"group": spread(rewards), "batch": spread([each for group in groups for each in group]), "none": 1.0}[
            scale
        ]
        found.append([(each - mean) / by for each, mean in zip(rewards, means, strict=True)])
    return found


def naive_loss(model: Any, task: Reinforcement, example: Mapping[str, Any], prompt: list[int]) -> torch.Tensor:
    """One response after another, one token after another, without padding."""
    total = torch.zeros(())
    low, high = 1 - task.clip, 1 + (task.clip_high or task.clip)
    for at, response in enumerate(example["responses"]):
        logits = (model(torch.tensor([[*prompt, *response]])).logits[0] / task.temperature).log_softmax(-1)
        own = [logits[len(prompt) + place - 1, token] for place, token in enumerate(response)]
        gain, terms = example["advantages"][at], []
        differences = [value - old for value, old in zip(own, example["old"][at], strict=True)]
        away = [there - value for value, there in zip(own, example["reference"][at], strict=True)]
        divergences = [each.exp() - each - 1 for each in away]
        if task.unbiased_kl:
            divergences = [each * moved.exp() for each, moved in zip(divergences, differences, strict=True)]
        whole = {"rloo": [sum(differences)], "gspo": [sum(differences) / len(response)]}
        for place, each in enumerate(whole.get(task.estimator, differences)):
            ratio = torch.exp(each)
            if task.estimator == "cispo":
                terms.append(-min(float(ratio.detach()), high) * gain * own[place])
            else:
                terms.append(-torch.minimum(ratio * gain, ratio.clamp(low, high) * gain))
        loss, divergence = sum(terms), task.kl * sum(divergences)
        if task.estimator == "gspo":
            loss = loss * len(response)  # one term a response
        share = {"grpo": len(response), "gspo": len(response), "dr_grpo": task.max_response_tokens}
        total = total + example["counts"][at] * (loss + divergence) / share.get(task.estimator, 1)
    return total


@pytest.mark.parametrize(
    ("estimator", "temperature", "keys"),
    [
        ("grpo", 0.6, {"clip_high": 0.08}),
        ("dr_grpo", 1.7, {"unbiased_kl": True}),
        ("rloo", 1.0, {"scale_rewards": "group"}),
        ("dapo", 1.0, {"clip_high": 0.08, "scale_rewards": "batch"}),
        ("gspo", 1.0, {"unbiased_kl": True, "scale_rewards": "none"}),
        ("cispo", 0.8, {"clip_high": 0.06}),
    ],
)
def test_policy_gradients_are_those_of_a_plain_implementation(
    estimator: Any, temperature: float, keys: dict[str, Any], tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradient is of the model at the temperature at which it writes, whether its head trains or not."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_gpt2)
    tokenizer.pad_token = tokenizer.eos_token
    ends = [*range(0, len(tokenizer), 3), tokenizer.eos_token_id]  # so that some responses end, and some are cut
    monkeypatch.setattr("peftlab.tasks.reinforcement.judged_responses.response_ends", lambda *_: ends)
    load = transformers.AutoModelForCausalLM.from_pretrained
    model, reference = (load(tiny_gpt2).double().eval() for _ in range(2))  # in float32 rounding differs by processor
    task = Reinforcement(
        rewards=[{"type": "good_words", "weight": 2.0}, {"type": "regular_expression", "pattern": "o", "weight": 0}],
        estimator=estimator,
        temperature=temperature,
        group_size=GROUP,
        kl=0.3,
        steps_per_roll_out=2,
        clip=0.05,
        max_response_tokens=6,
        max_length=32,
        **keys,
    )
    texts = [text for text, _ in sentences(4)]
    rows = {"prompt": texts, "response": ["good", "bad", "good", "bad"]}
    split = task.arrange(Split("train", range(4), rows, "rows"))
    examples = task.encode(split, tokenizer, ()).examples
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    inference = TorchInference(tokenizer, (), torch.device("cpu"))
    torch.manual_seed(0)
    rolled = task.roll_out(Policy(model, reference, inference, tokenizer.pad_token_id), examples, texts)
    assert rolled.figures["kl"] != 0
    groups, drawn = [], []
    for example in rolled.examples:
        every = [ids for ids, n in zip(example["responses"], example["counts"], strict=True) for _ in range(n)]
        read, *said = [
            tokenizer.decode([token for token in ids if token not in ends], skip_special_tokens=True).strip()
            for ids in (prompt_of(example), *every)
        ]
        groups.append([2 * REWARDS["good_words"]().reward(answer(each, prompt=read)) for each in said])
        drawn += list(zip(every, said, strict=True))
    expected_gains = naive_advantages(groups, estimator, keys.get("scale_rewards"))
    for example, gains in zip(rolled.examples, expected_gains, strict=True):
        each = [gain for gain, n in zip(example["advantages"], example["counts"], strict=True) for _ in range(n)]
        assert each == pytest.approx(gains, abs=1e-6)
    tokens = sum(len(ids) for ids, _ in drawn)
    assert rolled.figures["response_tokens"] == tokens / len(drawn) <= 6
    assert rolled.figures["reward"] == pytest.approx(sum(map(sum, groups)) / len(drawn))
    # What a reward says is told as it says it; a weight of 0 only watches.
    assert rolled.figures["reward/regular_expression"] == sum("o" in text for _, text in drawn) / len(drawn)
    assert 0 < rolled.figures["cut_responses"] == sum(ids[-1] not in ends for ids, _ in drawn) / len(drawn) < 1
    each_token = [
        value
        for example in rolled.examples
        for values, count in zip(example["old"], example["counts"], strict=True)
        for value in values * count
    ]
    assert rolled.figures["entropy"] == pytest.approx(-sum(each_token) / tokens)
    batch = task.collate(rolled.examples, tokenizer.pad_token_id)
    assert task.loss_terms(batch) == (tokens if estimator in ("dapo", "cispo") else len(drawn))
    # The model has moved since it wrote, and some responses are better than others, so that clipping bites.
    moved = [
        {**example, "old": [[value + 0.1 * (-1) ** at for at, value in enumerate(own)] for own in example["old"]]}
        | {"advantages": [1.0, -0.4, 0.7][: len(example["counts"])], "counts": [1, 3, 2][: len(example["counts"])]}
        for example in rolled.examples
    ]
    batch = task.collate(moved, tokenizer.pad_token_id)

    def naively() -> torch.Tensor:
        prompts = [tokenizer(f"{text}\n")["input_ids"] for text in texts]
        return sum(naive_loss(model, task, *each) for each in zip(moved, prompts, strict=True))

    for trains in (True, False):
        model.lm_head.weight.requires_grad_(trains)
        ways = (
            lambda: task.training_loss(model, batch),
            lambda: task.loss(labelled_logits(model, batch), batch),
            naively,
        )
        own, of_logits, expected = (gradients_of(model, way, task.loss_terms(batch)) for way in ways)
        assert largest(expected) > 1e-3
        assert largest(a - b for a, b in zip(own, expected, strict=True)) <= 1e-6
        assert largest(a - b for a, b in zip(of_logits, expected, strict=True)) <= 1e-6


def gradients_of(model: Any, loss: Callable[[], torch.Tensor], terms: int) -> list[torch.Tensor]:
    model.zero_grad()
    (loss() / terms).backward()
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.requires_grad]


def largest(tensors: Iterable[torch.Tensor]) -> float:
    return max(float(tensor.abs().max()) for tensor in tensors)


def test_the_unbiased_divergence_has_the_gradient_of_the_divergence_itself() -> None:
    """Every token of the vocabulary as often as the model draws it; k3 alone has another gradient."""
    generator = torch.Generator().manual_seed(0)
    logits, base = (torch.randn(9, generator=generator, dtype=torch.float64) for _ in range(2))
    logits.requires_grad_(True)
    reference = base.log_softmax(-1)
    own = logits.log_softmax(-1)
    (exact,) = torch.autograd.grad((own.exp() * (own - reference)).sum(), logits)
    found = []
    for unbiased in (True, False):
        own = logits.log_softmax(-1)
        losses = policy_losses(
            own,
            own.detach(),
            reference,
            torch.zeros(9),
            torch.arange(9),
            parts=ESTIMATORS["grpo"],
            clip=(0.2, 0.2),
            kl=1.0,
            most_tokens=1,
            unbiased_kl=unbiased,
        )
        found += torch.autograd.grad((own.detach().exp() * losses).sum(), logits)
    assert largest([found[0] - exact]) <= 1e-12
    assert largest([found[1] - exact]) > 0.05


def test_cut_responses_can_be_left_out_of_the_loss() -> None:
    """Their rewards count in the mean of the group; of a group that was cut as a whole nothing is a term."""
    task = Reinforcement(rewards=[{"type": "exact_match"}], estimator="dapo", cut_responses="skip", group_size=4)
    prompt = {"input_ids": [1, 2, 3], "labels": [-100, 3, -100], "is_prompt": True}
    responses = [[5, 6], [7, 8, 9], [5, 6], [7]]

    def learned(is_cut: list[bool], rewards: list[float], **keys: Any) -> Any:
        group = Group(prompt, responses, is_cut, (), {}, rewards)
        own = replace_config(task, **keys)
        (example,) = own._learned_from([group])
        return example, own.loss_terms(own.collate([example], 0))

    gains = naive_advantages([[1.0, 0.0, 1.0, 0.5]], "grpo")[0]
    example, terms = learned([False, True, False, False], [1.0, 0.0, 1.0, 0.5])
    assert (example["responses"], example["counts"], terms) == ([[5, 6], [7]], [2, 1], 5)
    assert example["advantages"] == pytest.approx([gains[0], gains[3]])
    assert learned([False, True, False, False], [1.0, 0.0, 1.0, 0.5], estimator="grpo")[1] == 3
    assert learned([False, True, False, False], [1.0, 0.0, 1.0, 0.5], cut_responses="learn")[1] == 8
    example, terms = learned([True] * 4, [1.0, 0.0, 1.0, 0.5])
    assert (example["counts"], example["advantages"], terms) == ([0], [0.0], 0)


def test_a_response_is_computed_once_and_a_group_that_teaches_nothing_not_at_all(tiny_gpt2: Path) -> None:
    """The step stays that of all responses."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_gpt2)
    tokenizer.pad_token = tokenizer.eos_token
    model, reference = (transformers.AutoModelForCausalLM.from_pretrained(tiny_gpt2).eval() for _ in range(2))
    texts = [text for text, _ in sentences(8)]

    def rolled(**keys: Any) -> tuple[Reinforcement, Any]:
        rewards = [{"type": "regular_expression", "pattern": "[oe]"}]
        task = Reinforcement(
            rewards=rewards, group_size=6, temperature=0.2, max_response_tokens=2, max_length=32, **keys
        )
        rows = {"prompt": texts, "response": ["good"] * 8}
        split = task.arrange(Split("train", range(8), rows, "rows"))
        inference = TorchInference(tokenizer, (), torch.device("cpu"))
        torch.manual_seed(0)
        policy = Policy(model, reference if keys else None, inference, tokenizer.pad_token_id)
        return task, task.roll_out(policy, task.encode(split, tokenizer, ()).examples, texts)

    (task, own), (_, whole) = rolled(), rolled(log_kl=True)
    assert 0 < own.figures["groups_of_equal_rewards"] == whole.figures["groups_of_equal_rewards"] < 1
    assert whole.figures["kl"] == pytest.approx(0, abs=1e-6)
    assert "kl" not in own.figures
    # The model that learns is the one that wrote: to log the divergence must not change the step.
    assert all("old" not in example for example in whole.examples)
    every = [
        {key: values for key, values in example.items() if key != "counts"}
        | {
            name: [value for value, count in zip(example[name], example["counts"], strict=True) for _ in range(count)]
            for name in ("responses", "advantages", "reference")
        }
        for example in whole.examples
    ]
    batch, kept, all_rows = (
        task.collate(each, tokenizer.pad_token_id) for each in (own.examples, whole.examples, every)
    )
    assert len(batch["input_ids"]) == len(kept["input_ids"]) < len(all_rows["input_ids"]) == 48
    assert {task.loss_terms(each) for each in (batch, kept, all_rows)} == {48}
    first, *others = (
        gradients_of(model, functools.partial(task.training_loss, model, each), 48) for each in (all_rows, batch, kept)
    )
    assert largest(first) > 1e-3
    for other in others:
        assert largest(a - b for a, b in zip(first, other, strict=True)) <= 3e-6  # summed up in another order


@pytest.mark.parametrize("estimator", [*ESTIMATORS])
def test_equal_rewards_teach_nothing_whatever_the_number(estimator: Any) -> None:
    """The mean of six numbers 0.1 is not 0.1."""
    rewards = torch.tensor([[0.1] * 6, [0.1] * 5 + [0.2], [-3.7] * 6], dtype=torch.float64)
    assert rewards.mean(dim=1)[0] != 0.1
    assert are_equal(rewards).tolist() == [True, False, True]
    assert advantages(rewards, ESTIMATORS[estimator]).any(dim=1).tolist() == [False, True, False]


def test_groups_that_teach_nothing_are_replaced_by_those_of_other_prompts(
    tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log tells of the step's own prompts: what was chosen because it differs would flatter."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_gpt2)
    tokenizer.pad_token = tokenizer.eos_token
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_gpt2).eval()
    task = Reinforcement(rewards=[{"type": "exact_match"}], group_size=4, max_response_tokens=2, max_length=32)
    texts = [text for text, _ in sentences(12)]
    split = task.arrange(Split("train", range(100, 112), {"prompt": texts, "response": ["good"] * 12}, "rows"))
    encoded = task.encode(split, tokenizer, ())
    drawn: list[str] = []

    def judge(answers: Any, *_: Any) -> Any:
        """Of every third row in the order of being written to, one response is better than the others."""
        rewards = []
        for at, each in enumerate(answers):
            if at % 4 == 0:
                drawn.append(each.where)
            rewards.append(float(at % 4 == 0 and len(drawn) % 3 == 0))
        return {"exact_match": rewards}, rewards

    monkeypatch.setattr(Reinforcement, "judge", lambda self, *given: judge(*given))
    inference = TorchInference(tokenizer, (), torch.device("cpu"))
    step, next_step = (Step(number, 0, [[0, 1], [2, 3]], ends_epoch=False) for number in (1, 2))
    found = []
    for tries in (0, 1, 2, 9):
        drawn.clear()
        torch.manual_seed(0)
        own = replace_config(task, replace_groups=tries)
        roll_outs = RollOuts(own, encoded, inference, tokenizer.pad_token_id, None)
        ((_, made),) = [roll_outs.of_step(each, model) for each in roll_outs.steps([step])]
        figures = roll_outs.figures
        assert figures["groups_of_equal_rewards"] == 3 / 4
        assert figures.get("groups_replaced") == (None if not tries else (sum(row > 103 for row in made.index)) / 4)
        assert len(set(drawn)) == len(drawn) <= 12  # each prompt once
        rows = dict(zip(made.index, made.examples, strict=True))
        teaching = {f"the train split, row {row + 1}" for row, each in rows.items() if teaches(each)}
        assert teaching == set(drawn[2::3][:4])
        assert all(tokenizer.decode(prompt_of(each)).strip() == texts[row - 100] for row, each in rows.items())
        found.append(len(teaching))
    assert found == [1, 2, 3, 4]
    # What the first step of a window learns from was written by the model as it then is.
    own = replace_config(task, steps_per_roll_out=2)
    roll_outs = RollOuts(own, encoded, inference, tokenizer.pad_token_id, None)
    each = [roll_outs.of_step(one, model)[1].examples for one in roll_outs.steps([step, next_step])]
    assert [["old" in example for example in examples] for examples in each] == [[False] * 4, [True] * 4]


def test_prompts_leave_room_for_a_response_in_training_as_in_evaluation(tiny_gpt2: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_gpt2)
    task = Reinforcement(rewards=[{"type": "exact_match"}], max_response_tokens=10, max_length=32)
    found = []
    for name in ("train", "test"):
        rows = {"prompt": ["good film " * 20, "film"], "response": ["good", "bad"]}
        split = Split(name, range(2), rows, "rows")
        found.append([prompt_of(example) for example in task.encode(task.arrange(split), tokenizer, ()).examples])
    assert found[0] == found[1] == [example["input_ids"] for example in task.prompts(split, tokenizer)]
    assert len(found[0][0]) == 22
    assert task.new_tokens() == 10


# --- runs -------------------------------------------------------------------------------------------------------------


class StopAt(peftlab.Callback):
    """Fails in a step, as a program may."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, step: int, loss: float) -> None:
        if step == self.step:
            raise RuntimeError("enough")


def recipe_of(model: Path, rows: Path, steps: int = 12, **task: Any) -> peftlab.Recipe:
    return peftlab.Recipe.from_dict(
        {
            "name": "rewards",
            "model": {"path": str(model)},
            "task": {
                "type": "reinforcement",
                "max_length": 32,
                "max_response_tokens": 4,
                "group_size": 6,
                "rewards": [{"type": "good_words"}],
                **task,
            },
            "data": {"source": str(rows), "validation_fraction": 0.2, "test_fraction": 0.2},
            "method": {"type": "lora"},
            "training": {"max_steps": steps, "batch_size": 6, "learning_rate": 2e-2, "log_every_steps": 1},
            "measure": False,
        }
    )


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prompts") / "rows.jsonl"
    values = [{"prompt": text, "response": "good"} for text, _ in sentences(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in values))
    return path


def test_rewards_rise_and_a_resumed_run_is_the_same_bit_for_bit(tiny_gpt2: Path, rows: Path, tmp_path: Path) -> None:
    """The run is broken off within a window of steps whose responses were written at once."""
    recipe = recipe_of(tiny_gpt2, rows, kl=0.01, steps_per_roll_out=3, replace_groups=2, temperature=0.5)
    whole = peftlab.run_recipe(recipe, output_dir=tmp_path / "whole")
    assert whole.record.status == "success", whole.record.error
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    rewards = [line["reward"] for line in lines if "reward" in line]
    assert sum(rewards[-3:]) > 1.3 * sum(rewards[:3])
    assert {"kl", "response_tokens", "groups_of_equal_rewards", "cut_responses", "entropy"} <= lines[0].keys()
    assert any(line.get("groups_replaced", 0) for line in lines)
    scores = whole.record.scores["test"]
    assert scores["mean_reward"] > 0
    assert 1 <= scores["response_tokens"] <= 4
    assert whole.record.data.notes["training"]["mean_tokens_generated"]["first"] <= 4
    broken_off = peftlab.run_recipe(recipe, output_dir=tmp_path / "again", callbacks=[StopAt(5)])
    assert broken_off.record.status == "failed"
    peftlab.run_recipe(recipe, output_dir=tmp_path / "again", resume=True)
    for name in ("metrics.jsonl", "adapter/adapter_model.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


@pytest.mark.parametrize("kind", ["missing", "empty", "chats"])
def test_prompts_without_answers_can_be_learned_from(
    kind: str, tiny_gpt2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a reward model judges them; what would compare with an answer is refused, and nothing is said to be exact."""
    table = tmp_path / "prompts.jsonl"
    base, keys = tiny_gpt2, dict[str, Any]()
    values = [{"prompt": text, **({"response": ""} if kind == "empty" else {})} for text, _ in sentences(20)]
    if kind == "chats":
        values = [{"prompt": [{"role": "user", "content": row["prompt"]}]} for row in values]
        base, keys = shutil.copytree(tiny_gpt2, tmp_path / "base"), {"messages": "prompt", "max_length": 64}
        template = "{%- for m in messages %}{{- m.role[:1] + m.content + eos_token }}{%- endfor %}"
        template += "{%- if add_generation_prompt %}{{- 'a' }}{%- endif %}"
        (base / "chat_template.jinja").write_text(template)
    table.write_text("".join(json.dumps(row) + "\n" for row in values))
    seen, judge = set[str](), REWARDS["good_words"].reward

    def reward(self: Reward, answer: Answer) -> float:
        seen.add(answer.expected)
        return judge(self, answer)

    monkeypatch.setattr(REWARDS["good_words"], "reward", reward)
    record = peftlab.run_recipe(recipe_of(base, table, steps=3, **keys), output_dir=tmp_path / "run").record
    assert record.status == "success", record.error
    assert record.scores["test"].keys() == {"mean_reward", "response_tokens"}
    assert seen == {""}
    for own in ({"type": "exact_match"}, {"type": "regular_expression", "pattern": "a", "is_expected": True}):
        with pytest.raises(DataError, match=f"no answers, and the reward `{own['type']}` compares with them"):
            peftlab.run_recipe(recipe_of(base, table, rewards=[own], **keys), output_dir=tmp_path / "other")


@pytest.mark.parametrize("type_", ["reinforcement", "preference_tuning"])
def test_a_run_that_diverges_keeps_its_best_state(
    type_: str, tiny_gpt2: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third step makes the parameters no numbers; the next roll-out, or evaluation, meets them."""
    recipe = recipe_of(tiny_gpt2, rows, steps=6, max_response_tokens=2)
    if type_ == "preference_tuning":
        task = peftlab.TASKS[type_].model_validate({"max_length": 32})
        recipe = replace_config(recipe_of(tiny_gpt2, pairs_in(tmp_path), steps=6), task=task)
    evaluation = replace_config(recipe.evaluation, every=2)
    recipe = replace_config(recipe, evaluation=evaluation, training=replace_config(recipe.training, log_every_steps=9))
    of_task, steps = type(recipe.task), list[int]()

    def training_loss(self: Any, model: Any, batch: Any) -> torch.Tensor:
        steps.append(len(steps) + 1)
        return whole(self, model, batch) * (math.nan if len(steps) == 3 else 1)

    whole = of_task.training_loss
    monkeypatch.setattr(of_task, "training_loss", training_loss)
    done = peftlab.run_recipe(recipe, output_dir=tmp_path / "run")
    best = tmp_path / "run" / "checkpoints" / "best" / "parameters.safetensors"
    assert done.record.status == "diverged", done.record.error
    assert f"best evaluation so far, of step 2, are kept in {best}" in str(done.record.error)
    assert all(bool(values.isfinite().all()) for values in load_file(best).values())


@pytest.fixture(scope="module")
def judge(tiny_gpt2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the task reward_model."""
    folder = tmp_path_factory.mktemp("judge")
    recipe = replace_config(
        recipe_of(tiny_gpt2, pairs_in(folder)), task=peftlab.TASKS["reward_model"].model_validate({"max_length": 32})
    )
    assert peftlab.run_recipe(recipe, output_dir=folder / "run").record.status == "success"
    return folder / "run"


def pairs_in(folder: Path) -> Path:
    pairs = [{"prompt": text, "chosen": "good good", "rejected": "bad"} for text, _ in sentences(40)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    return folder / "pairs.jsonl"


def test_a_reward_models_run_judges_and_must_read_the_same_tokens(
    tiny_gpt2: Path, rows: Path, judge: Path, tmp_path: Path
) -> None:
    reward = {"type": "reward_model", "run": str(judge)}
    short = shutil.copytree(judge, tmp_path / "short")
    for name in ("recipe.yaml", "record.json"):
        text = (short / name).read_text()
        (short / name).write_text(
            text.replace("max_length: 32", "max_length: 4").replace('"max_length": 32', '"max_length": 4')
        )
    recipe = recipe_of(tiny_gpt2, rows, steps=2, rewards=[reward | {"run": str(short)}])
    done = peftlab.run_recipe(recipe, output_dir=tmp_path / "run")
    assert done.record.status == "success", done.record.error
    assert "without the beginning of their text" in done.record.data.notes["training"]["cut_for_reward"]
    built = REWARDS["reward_model"].model_validate(reward)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_gpt2)
    built.begin(tokenizer)
    ids = [tokenizer(text)["input_ids"] for text in ("any film\n", "good good", "bad")]
    good, bad = built.rewards([Answer("", "", "", "row 1", ids[0], [*own, tokenizer.eos_token_id]) for own in ids[1:]])
    assert good > bad
    long = Answer("", "", "", "row 1", [*ids[0]] * 20, ids[1])
    assert [built.count_cut([long, answer]) for answer in (long, Answer("", "", "", "row 1", ids[0], ids[1]))] == [2, 1]
    built.use_device(torch.device("meta"))
    built.begin(tokenizer)
    assert {each.device.type for each in built._judge[1].parameters()} == {"meta"}
    tokenizer.add_tokens(["something else"])
    with pytest.raises(UnsupportedError, match="another tokenizer"):
        built.begin(tokenizer)


def test_a_reward_that_comes_late_fails_no_guard_and_one_that_never_comes_is_told(
    tiny_gpt2: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps whose rewards are all equal have no gradient, and say nothing of the model."""
    own, asked = Reinforcement.judge, list[int]()

    def judge(self: Any, answers: Any, *rest: Any) -> Any:
        asked.append(1)
        by_name, totals = own(self, answers, *rest)
        return by_name, totals if len(asked) > late else [0.0] * len(totals)

    monkeypatch.setattr(Reinforcement, "judge", judge)
    for late, status in ((12, "success"), (99, "failed")):
        asked.clear()
        recipe = recipe_of(tiny_gpt2, rows, steps=18, max_response_tokens=2)
        recipe = replace_config(recipe, evaluation=replace_config(recipe.evaluation, every=18))
        record = peftlab.run_recipe(recipe, output_dir=tmp_path / str(late)).record
        assert record.status == status, record.error
        assert record.guards["gradients"].status == ("passed" if late == 12 else "not_applicable")
        told = record.data.notes["training"].get("groups_of_equal_rewards", "")
        assert told.startswith("100% of the groups had one reward") == (late == 99)


def test_a_run_whose_reward_fails_goes_on_from_the_step_before(
    tiny_gpt2: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost but the step, and the run ends as one whose reward never failed."""
    own, asked = Reinforcement.judge, list[int]()

    def judge(self: Any, *given: Any) -> Any:
        asked.append(1)
        if len(asked) == fails:
            raise RunFailedError("the service that judges has not answered")
        return own(self, *given)

    monkeypatch.setattr(Reinforcement, "judge", judge)
    recipe = recipe_of(tiny_gpt2, rows, steps=6, replace_groups=1)
    recipe = replace_config(recipe, evaluation=replace_config(recipe.evaluation, every=6))
    fails = 0
    peftlab.run_recipe(recipe, output_dir=tmp_path / "whole")
    all_asked = len(asked)
    asked.clear()
    fails = 5
    failed = peftlab.run_recipe(recipe, output_dir=tmp_path / "again").record
    assert (failed.status, "has not answered" in str(failed.error)) == ("failed", True)
    done = peftlab.run_recipe(recipe, output_dir=tmp_path / "again", resume=True).record
    assert done.status == "success", done.error
    assert len(asked) <= all_asked + 2  # the step that failed is done again, and no other
    for name in ("metrics.jsonl", "adapter/adapter_model.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_a_judge_that_is_loaded_when_a_run_goes_on_changes_nothing_that_is_drawn(
    tiny_gpt2: Path, rows: Path, judge: Path, tmp_path: Path
) -> None:
    recipe = recipe_of(tiny_gpt2, rows, steps=4, rewards=[{"type": "reward_model", "run": str(judge)}])
    peftlab.run_recipe(recipe, output_dir=tmp_path / "whole")
    peftlab.run_recipe(recipe, output_dir=tmp_path / "again", callbacks=[StopAt(2)])
    peftlab.run_recipe(recipe, output_dir=tmp_path / "again", resume=True)
    for name in ("metrics.jsonl", "adapter/adapter_model.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


# --- rewards ----------------------------------------------------------------------------------------------------------


def test_built_in_rewards_judge_texts() -> None:
    exact, pattern = REWARDS["exact_match"], REWARDS["regular_expression"]
    assert [exact().reward(answer(said, "Four")) for said in (" Four\n", "four")] == [1, 0]
    assert exact(ignore_case=True).reward(answer("four", "Four")) == 1
    assert [pattern(pattern=r"\d+").reward(answer(said)) for said in ("it is 12", "it is")] == [1, 0]
    number = pattern(pattern=r"#### (\d+)", is_expected=True)
    assert [number.reward(answer(said, "12")) for said in ("so\n#### 12", "#### 1", "12")] == [1, 0, 0]
    long = REWARDS["overlong"](free_tokens=6, most_tokens=10)
    found = [long.reward(Answer("", "", "", "row 1", [], [0] * tokens)) for tokens in (0, 6, 7, 9, 10, 11)]
    assert found == [0, 0, -0.25, -0.75, -1, -1]
    with pytest.raises(ValueError, match="fewer than `most_tokens`"):
        REWARDS["overlong"](free_tokens=10, most_tokens=10)


def test_a_pattern_that_does_not_end_fails_the_run() -> None:
    """Python's own search would let no other thread run."""
    endless = REWARDS["regular_expression"](pattern="(a|aa)+$", timeout_seconds=0.2)
    with pytest.raises(RunFailedError, match=r"was still being tried after 0\.2 seconds") as error:
        endless.reward(answer("a" * 60 + "!", where="row 3"))
    assert error.value.where == "row 3"
    with pytest.raises(RunFailedError, match=r"pattern|has not answered"):
        ask_rewards(endless, [answer("a" * 60 + "!")])


def test_rewards_are_numbers_of_any_kind() -> None:
    given: list[Any] = []

    class Given(Reward):
        registered_name = "given"

        def reward(self, answer: Answer) -> float:
            return given.pop()  # type: ignore[no-any-return]

    for value in (1, True, numpy.float32(1), numpy.int64(1), torch.tensor(1.0), Fraction(1)):
        given.append(value)
        assert ask_rewards(Given(timeout_seconds=1e300), [answer("")]) == [1]
    for value in (None, "1", [1.0], 10**400, torch.ones(2), numpy.float32("inf"), 1j):
        given.append(value)
        with pytest.raises(RunFailedError, match=r"the reward `given` gave .* for the response 'so'") as error:
            ask_rewards(Given(), [answer("so", where="row 2")])
        assert error.value.where == "row 2"


def machine_and_prompt() -> tuple[Machine, str]:
    machine = read_machine("A 0 1 R B ; A _ 1 L H ; A 1 0 R A ; B 0 0 L A ; B 1 1 R H ; B _ 0 R A ;")
    return machine, f"{write_machine(machine)} | {write_configuration(machine.start('0010'))} ="


def test_the_simulator_judges_steps_and_runs() -> None:
    machine, prompt = machine_and_prompt()
    texts = [write_configuration(each) for each in machine.run("0010", 30).configurations[1:]]
    assert len(texts) > 2
    judge = REWARDS["turing_machine"](malformed=-1)
    assert [judge.reward(answer(said, prompt=prompt)) for said in (texts[0], texts[1], "A 0 A 1", "")] == [1, 0, -1, -1]
    whole = " , ".join(texts)
    assert share_of_right_steps(prompt, f"{whole} .", steps=30) == (1.0, True)
    assert share_of_right_steps(prompt, texts[0], steps=30) == (1 / len(texts), True)
    assert share_of_right_steps(prompt, f"{whole} , {texts[0]}", steps=30)[0] < 1
    for other in ("Hello", prompt.replace(" | ", " | 7 "), prompt.replace(" | A ", " | G "), " ".join(texts)):
        with pytest.raises(UnsupportedError, match="cannot run the prompt") as error:
            judge.reward(answer(texts[0], prompt=other, where="row 7"))
        assert error.value.where == "row 7"


@pytest.mark.parametrize(
    ("reward", "word", "message"),
    [
        ({"type": "broken"}, "zero", "`broken` raised ZeroDivisionError"),
        ({"type": "broken"}, "nan", "`broken` gave nan"),
        ({"type": "endless", "timeout_seconds": 0.2}, "sleep", "has not answered within 0.2 seconds"),
    ],
)
def test_a_reward_that_fails_names_the_row(reward: dict[str, Any], word: str, message: str) -> None:
    built: Reward = REWARDS[reward["type"]].model_validate(reward)
    answers = [answer("", prompt=text, where=f"row {at}") for at, text in enumerate(["one", word, "two"])]
    with pytest.raises(RunFailedError, match=message) as error:
        ask_rewards(built, answers)
    assert error.value.where == "row 1"


@pytest.mark.parametrize(
    ("reward", "word", "message"),
    [
        ({"type": "broken"}, "zero", "the reward `broken` raised ZeroDivisionError: division by zero"),
        ({"type": "broken"}, "nan", "the reward `broken` gave nan for the response"),
        (
            {"type": "endless", "timeout_seconds": 0.2},
            "sleep",
            "the reward `endless` has not answered within 0.2 seconds",
        ),
        ({"type": "reward_model", "run": "judge"}, "good", "judge: the reward model has another tokenizer"),
        ({"type": "reward_model", "run": "nowhere"}, "good", "nowhere"),
        ({"type": "regular_expression", "patern": "a"}, "good", "patern: unknown key. Did you mean `pattern`?"),
    ],
)
def test_a_user_reads_which_reward_failed_where(
    reward: dict[str, Any], word: str, message: str, command: Command, tiny_gpt2: Path, judge: Path, tmp_path: Path
) -> None:
    values = [{"prompt": f"{word} {text}", "response": "good"} for text, _ in sentences(12)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in values))
    (tmp_path / "judge").symlink_to(judge)
    base = shutil.copytree(tiny_gpt2, tmp_path / "base")
    if reward.get("run") == "judge":  # the same model with one token's name changed
        text = (base / "tokenizer.json").read_text()
        (base / "tokenizer.json").write_text(text.replace("<|endoftext|>", "<|end|>"))
        for path in (base / "tokenizer_config.json", base / "special_tokens_map.json"):
            if path.is_file():
                path.write_text(path.read_text().replace("<|endoftext|>", "<|end|>"))
    recipe = recipe_of(base, tmp_path / "rows.jsonl", steps=2).model_dump(mode="json")
    recipe["task"]["rewards"] = [reward]
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    done = command("run", "recipe.yaml", "--output-dir", "out")
    told = " ".join((done.stderr + done.stdout).split())
    assert done.returncode in (1, 2)
    assert message in told
    assert "Traceback" not in told
    if reward["type"] in ("broken", "endless"):
        assert "the train split, row " in told


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"rewards": []}, "name the `rewards`"),
        ({"rewards": [{"type": "good_wurds"}]}, "unknown reward `good_wurds` Did you mean `good_words`"),
        ({"rewards": [{"type": "regular_expression", "pattern": "("}]}, "no regular expression"),
        ({"packing": True}, "packs nothing"),
        ({"max_new_tokens": 5}, "leave `max_new_tokens` out"),
    ],
)
def test_keys_that_cannot_be(keys: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        recipe_of(tmp_path, tmp_path, **keys)
    assert message in str(error.value).replace("\n ", "")


def test_rewards_that_rise_while_the_score_falls_are_told() -> None:
    line = {"response_tokens": 3.0, "groups_of_equal_rewards": 0.2}
    log: list[dict[str, Any]] = [{"step": at, "reward": at / 9, **line} for at in range(9)]
    log += [{"step": 4, "validation": {"mean_reward": 0.8}}, {"step": 9, "validation": {"mean_reward": 0.5}}]
    task = Reinforcement(rewards=[{"type": "exact_match"}])
    assert "mean_reward fell from 0.8 to 0.5" in task.course_notices(log)["reward_without_score"]
    assert "reward_without_score" not in task.course_notices(log[:-1])


@pytest.mark.parametrize(
    ("keys", "cures", "message"),
    [
        ({"clip": 0.3}, {"steps_per_roll_out": 2}, r"^task\.clip: .*has no effect"),
        ({"clip_high": 0.3}, {"steps_per_roll_out": 2}, r"^task\.clip_high: .*has no effect"),
        ({"unbiased_kl": True}, {"kl": 0.1}, r"^task\.unbiased_kl: .*has no effect"),
        ({"estimator": "gspo"}, {"steps_per_roll_out": 2}, "`gspo` is `grpo`, number for number"),
        ({"estimator": "cispo"}, {"steps_per_roll_out": 2}, "`cispo` is `dapo`, number for number"),
        ({"estimator": "cispo", "steps_per_roll_out": 2, "clip": 0.3}, {"estimator": "dapo"}, r"^task\.clip: "),
        ({"group_size": 300}, {"roll_out_batch_size": 300}, "fewer than a group of 300"),
    ],
)
def test_keys_that_contradict_one_another_are_refused(
    keys: dict[str, Any], cures: dict[str, Any], message: str
) -> None:
    facts = ModelFacts("tiny", "gpt2", "decoder", {})
    settings = {"rewards": [{"type": "good_words"}], **keys}
    Reinforcement.model_validate(settings | cures).check(facts)
    with pytest.raises(ConfigError, match=message):
        Reinforcement.model_validate(settings).check(facts)


def test_gspo_has_the_bounds_of_its_paper() -> None:
    """What a run writes down has all keys, and is read as it was."""
    keys = {"rewards": [{"type": "good_words"}], "estimator": "gspo"}
    for more, bounds in (({}, (3e-4, 4e-4)), ({"clip": 1e-3}, (1e-3, None)), ({"clip_high": 1e-3}, (3e-4, 1e-3))):
        task = Reinforcement.model_validate(keys | more)
        assert (task.clip, task.clip_high) == bounds
        assert Reinforcement.model_validate(task.model_dump()) == task


def test_dropout_is_refused_where_probabilities_are_compared_over_steps(tiny_gpt2: Path, rows: Path) -> None:
    values = recipe_of(tiny_gpt2, rows, rewards=[{"type": "exact_match"}]).model_dump(mode="json")
    values["method"] = {"type": "full"}
    for steps, dropout in ((2, 0.1), (2, 0.0), (1, 0.1)):
        values["task"]["steps_per_roll_out"], values["model"]["dropout"] = steps, dropout
        recipe, document = peftlab.Recipe.from_dict(values), Document("recipe.yaml", values)
        if steps == 2 and dropout:
            with pytest.raises(ConfigError, match=r"model\.dropout: .* moves it at random"):
                check_model(recipe, document, offline=True)
        else:
            check_model(recipe, document, offline=True)
