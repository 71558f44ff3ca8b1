"""Reinforcement: gradients against a plain implementation, resuming bit for bit, rewards that judge and rewards that fail."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import peftlab
from peftlab.core.config import replace_config
from peftlab.core.errors import ConfigError, RunFailedError, UnsupportedError
from peftlab.core.reward import REWARDS, Answer, Reward, ask_rewards, reward_function
from peftlab.core.task import Policy
from peftlab.tasks.reinforcement.prompts import Reinforcement
from peftlab.tasks.turing_machine.judge import share_of_right_steps
from peftlab.tasks.turing_machine.machine import Machine
from peftlab.tasks.turing_machine.notation import read_machine, write_configuration, write_machine
from peftlab.training.evaluation import TorchInference
from tests.conftest import sentences

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


def naive_advantages(rewards: list[float], estimator: str) -> list[float]:
    mean = sum(rewards) / len(rewards)
    if estimator == "grpo":
        spread = math.sqrt(sum((each - mean) ** 2 for each in rewards) / (len(rewards) - 1))
        return [(each - mean) / (spread + 1e-4) for each in rewards]
    if estimator == "dr_grpo":
        return [each - mean for each in rewards]
    others = len(rewards) - 1
    return [each - (sum(rewards) - each) / others for each in rewards]


def naive_loss(model: Any, task: Reinforcement, example: Mapping[str, Any], prompt: list[int]) -> torch.Tensor:
    """One response after another, one token after another, without padding."""
    total = torch.zeros(())
    for at, response in enumerate(example["responses"]):
        logits = model(torch.tensor([[*prompt, *response]])).logits[0].log_softmax(-1)
        own = [logits[len(prompt) + place - 1, token] for place, token in enumerate(response)]
        gain, terms = example["advantages"][at], []
        differences = [value - old for value, old in zip(own, example["old"][at], strict=True)]
        away = [there - value for value, there in zip(own, example["reference"][at], strict=True)]
        divergences = [each.exp() - each - 1 for each in away]
        for each in [sum(differences)] if task.estimator == "rloo" else differences:
            ratio = torch.exp(each)
            terms.append(-torch.minimum(ratio * gain, ratio.clamp(1 - task.clip, 1 + task.clip) * gain))
        loss, divergence = sum(terms), task.kl * sum(divergences)
        share = {"grpo": len(response), "dr_grpo": task.max_response_tokens, "rloo": 1}[task.estimator]
        total = total + (loss + divergence) / share
    return total


@pytest.mark.parametrize("estimator", ["grpo", "dr_grpo", "rloo"])
def test_policy_gradients_are_those_of_a_plain_implementation(estimator: Any, tiny_gpt2: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_gpt2)
    tokenizer.pad_token = tokenizer.eos_token
    model, reference = (transformers.AutoModelForCausalLM.from_pretrained(tiny_gpt2).eval() for _ in range(2))
    task = Reinforcement(
        rewards=[{"type": "good_words", "weight": 2.0}],
        estimator=estimator,
        group_size=GROUP,
        kl=0.3,
        clip=0.05,
        max_response_tokens=6,
        max_length=32,
    )
    texts = [text for text, _ in sentences(4)]
    rows = {"prompt": texts, "response": ["good", "bad", "good", "bad"]}
    split = task.arrange(peftlab.core.splits.Split("train", range(4), rows, "rows"))
    examples = task.encode(split, tokenizer, ()).examples
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    inference = TorchInference(tokenizer, (), torch.device("cpu"))
    torch.manual_seed(0)
    rolled = task.roll_out(Policy(model, reference, inference, tokenizer.pad_token_id), examples, texts)
    assert rolled.figures["response_tokens"] <= 6
    assert rolled.figures["kl"] != 0
    for example, text in zip(rolled.examples, texts, strict=True):
        said = [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in example["responses"]]
        rewards = [2 * REWARDS["good_words"]().reward(answer(each, prompt=text)) for each in said]
        assert example["advantages"] == pytest.approx(naive_advantages(rewards, estimator), abs=1e-6)
    # The model has moved since it wrote, and some responses are better than others, so that clipping bites.
    moved = [
        {**example, "old": [[value + 0.1 * (-1) ** at for at, value in enumerate(own)] for own in example["old"]]}
        | {"advantages": [1.0, -0.4, 0.7]}
        for example in rolled.examples
    ]
    gradients = []
    for loss in (
        lambda: task.training_loss(model, task.collate(moved, tokenizer.pad_token_id)),
        lambda: sum(
            naive_loss(model, task, example, tokenizer(f"{text}\n")["input_ids"])
            for example, text in zip(moved, texts, strict=True)
        ),
    ):
        model.zero_grad()
        (loss() / (GROUP * len(moved))).backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    assert max(float((a - b).abs().max()) for a, b in zip(*gradients, strict=True)) <= 1e-6
    assert max(float(own.abs().max()) for own in gradients[0]) > 1e-3


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
    recipe = recipe_of(tiny_gpt2, rows, kl=0.01, steps_per_roll_out=3)
    whole = peftlab.run_recipe(recipe, output_dir=tmp_path / "whole")
    assert whole.record.status == "success", whole.record.error
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    rewards = [line["reward"] for line in lines if "reward" in line]
    assert sum(rewards[-3:]) > 1.3 * sum(rewards[:3])
    assert {"kl", "response_tokens", "groups_of_equal_rewards"} <= lines[0].keys()
    scores = whole.record.scores["test"]
    assert scores["mean_reward"] > 0
    assert 1 <= scores["response_tokens"] <= 4
    assert whole.record.data.notes["training"]["mean_tokens_generated"]["first"] <= 4
    broken_off = peftlab.run_recipe(recipe, output_dir=tmp_path / "again", callbacks=[StopAt(5)])
    assert broken_off.record.status == "failed"
    peftlab.run_recipe(recipe, output_dir=tmp_path / "again", resume=True)
    for name in ("metrics.jsonl", "adapter/adapter_model.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_a_reward_models_run_judges_and_must_read_the_same_tokens(tiny_gpt2: Path, rows: Path, tmp_path: Path) -> None:
    pairs = [{"prompt": text, "chosen": "good good", "rejected": "bad"} for text, _ in sentences(40)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    judge = replace_config(
        recipe_of(tiny_gpt2, tmp_path / "pairs.jsonl"),
        task=peftlab.TASKS["reward_model"].model_validate({"max_length": 32}),
    )
    assert peftlab.run_recipe(judge, output_dir=tmp_path / "judge").record.status == "success"
    reward = {"type": "reward_model", "run": str(tmp_path / "judge")}
    done = peftlab.run_recipe(recipe_of(tiny_gpt2, rows, steps=2, rewards=[reward]), output_dir=tmp_path / "run")
    assert done.record.status == "success", done.record.error
    built = REWARDS["reward_model"].model_validate(reward)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_gpt2)
    built.begin(tokenizer)
    ids = [tokenizer(text)["input_ids"] for text in ("any film\n", "good good", "bad")]
    good, bad = built.rewards([Answer("", "", "", "row 1", ids[0], [*own, tokenizer.eos_token_id]) for own in ids[1:]])
    assert good > bad
    tokenizer.add_tokens(["something else"])
    with pytest.raises(UnsupportedError, match="another tokenizer"):
        built.begin(tokenizer)


# --- rewards ----------------------------------------------------------------------------------------------------------


def test_built_in_rewards_judge_texts() -> None:
    exact, pattern = REWARDS["exact_match"], REWARDS["regular_expression"]
    assert [exact().reward(answer(said, "Four")) for said in (" Four\n", "four")] == [1, 0]
    assert exact(ignore_case=True).reward(answer("four", "Four")) == 1
    assert [pattern(pattern=r"\d+").reward(answer(said)) for said in ("it is 12", "it is")] == [1, 0]
    number = pattern(pattern=r"#### (\d+)", is_expected=True)
    assert [number.reward(answer(said, "12")) for said in ("so\n#### 12", "#### 1", "12")] == [1, 0, 0]


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
    with pytest.raises(UnsupportedError, match="cannot run the prompt") as error:
        judge.reward(answer(texts[0], prompt="Hello", where="row 7"))
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
    ("keys", "message"),
    [
        ({"rewards": []}, "name the `rewards`"),
        ({"rewards": [{"type": "good_wurds"}]}, "unknown reward `good_wurds` Did you mean `good_words`"),
        ({"rewards": [{"type": "regular_expression", "pattern": "("}]}, "no regular expression"),
        ({"packing": True}, "packs nothing"),
    ],
)
def test_keys_that_cannot_be(keys: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        recipe_of(tmp_path, tmp_path, **keys)
    assert message in str(error.value).replace("\n ", "")


def test_rewards_that_rise_while_the_score_falls_are_told() -> None:
    log: list[dict[str, Any]] = [{"step": at, "reward": at / 9, "response_tokens": 3.0} for at in range(9)]
    log += [{"step": 4, "validation": {"mean_reward": 0.8}}, {"step": 9, "validation": {"mean_reward": 0.5}}]
    task = Reinforcement(rewards=[{"type": "exact_match"}])
    assert "mean_reward fell from 0.8 to 0.5" in task.course_notices(log)["reward_without_score"]
    assert "reward_without_score" not in task.course_notices(log[:-1])
