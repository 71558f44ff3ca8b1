"""The objective of reinforcement, for any language task whose rows hold a prompt and an answer.

Before a step the model writes a group of responses to each prompt; rewards judge them; the step makes those likelier
that are better than their group. :mod:`peftlab.tasks.reinforcement.losses` has the formulas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PositiveFloat, PositiveInt, PrivateAttr

from peftlab.core.config import check_unused
from peftlab.core.errors import UnsupportedError
from peftlab.core.model_facts import ModelFacts
from peftlab.core.reward import Answer, AnyReward, ask_rewards
from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.core.task import Policy, RollOut
from peftlab.tasks.language.decoder import DecoderTask, pad_language, shifted
from peftlab.tasks.language.generation import generate_tokens, response_ends
from peftlab.tasks.language.vocabulary_head import label_losses, targets
from peftlab.tasks.preference.course import reward_without_score
from peftlab.tasks.reinforcement.losses import Estimator, advantages, are_equal, policy_losses
from peftlab.tasks.reinforcement.rolled_out import (
    ADVANTAGES,
    COUNTS,
    OLD,
    REFERENCE,
    RESPONSES,
    answer_of,
    mean_divergence,
    once,
    prompt_of,
    teaches,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

TERMS = "terms"
"""Of a batch: how many responses were drawn (1)."""
CUT = "cut_for_reward"
"""A figure of a roll-out: the share of responses that were too long for a reward."""
IS_PROMPT = "is_prompt"
"""Marks examples for training, whose answers only rewards may see."""


class PolicyGradient(DecoderTask):
    """Mixed into a language task: its rows, answers and metrics stay, and it is trained by rewards.

    An example of that task must hold ``input_ids``, and ``labels`` on its answer.
    """

    collates_ahead: ClassVar[bool] = False

    rewards: list[AnyReward] = Field(
        default_factory=list, description="What a response is worth: the sum of these, each with its weight."
    )
    estimator: Estimator = Field(
        "grpo",
        description="How rewards become a gradient: grpo, dr_grpo (no response weighs more for its length), or rloo "
        "(a response is one action, compared with the others of its group).",
    )
    group_size: int = Field(8, ge=2, description="Responses to each prompt.")
    temperature: PositiveFloat = Field(
        1.0, description="At which responses are drawn; the gradient is of the model at this temperature."
    )
    kl: float = Field(0.0, ge=0, description="Weight of the divergence from the untouched base.")
    log_kl: bool = Field(
        False, description="Log the divergence with `kl: 0` too. As with `kl`, a copy of the base lies in memory."
    )
    clip: float = Field(
        0.2, gt=0, lt=1, description="How far a probability may move from that of the model that wrote the response."
    )
    clip_high: PositiveFloat | None = Field(
        None, description="The same upwards, such as 0.28 (DAPO), so that rare tokens can gain. null: `clip`."
    )
    steps_per_roll_out: PositiveInt = Field(
        1, description="Steps whose responses are written at once: faster, but all but the first are a little old."
    )
    max_response_tokens: PositiveInt = Field(64, description="Where a response is cut that does not end by itself.")
    roll_out_batch_size: PositiveInt = Field(256, description="Responses that are written at once.")

    _begun: set[int] = PrivateAttr(default_factory=set)

    # --- rows -------------------------------------------------------------------------------------------------------

    def check(self, facts: ModelFacts) -> None:
        """Refuse models whose prompt and response are read by two parts, and bounds of what cannot move.

        With one step a roll-out the model that learns is the one that wrote.
        """
        old = ("steps_per_roll_out: 2 or more", self.steps_per_roll_out > 1)
        check_unused(self, "task", dict.fromkeys(("clip", "clip_high"), old))
        if facts.family == "encoder_decoder":
            raise UnsupportedError(
                f"{facts.path} ({facts.model_type}) is an encoder-decoder model; reinforcement takes decoders",
                hint="Choose a GPT-like model.",
            )
        super().check(facts)

    def encode(self, split: Split, tokenizer: Any, labels: tuple[str, ...]) -> EncodedSplit:
        """As the task that this is mixed into; of the training split only the prompts are read by the model."""
        encoded = super().encode(split, tokenizer, labels)  # type: ignore[safe-super]
        if split.name != "train":
            return encoded
        return replace(encoded, examples=[{**example, IS_PROMPT: True} for example in encoded.examples])

    # --- rolling out ------------------------------------------------------------------------------------------------

    @property
    def needs_reference(self) -> bool:
        """Only for the divergence."""
        return self.kl > 0 or self.log_kl

    def new_tokens(self) -> int:
        """As many as in training."""
        return self.max_response_tokens

    def roll_out_steps(self) -> int:
        """As the recipe says."""
        return self.steps_per_roll_out

    def roll_out(self, policy: Policy, examples: Sequence[Example], where: Sequence[str]) -> RollOut:
        """Write a group of responses to each prompt, judge them, and keep what the loss needs of the old model."""
        import torch

        prompts = [prompt_of(example) for example in examples]
        rows = [place for place in range(len(prompts)) for _ in range(self.group_size)]
        responses = self._write(policy, prompts)
        answers = self._answers(
            policy,
            [examples[place] for place in rows],
            [prompts[place] for place in rows],
            responses,
            [where[place] for place in rows],
        )
        each = self.judge(answers, policy.inference.tokenizer, policy.model)
        total = torch.tensor([sum(own) for own in zip(*each.values(), strict=True)], dtype=torch.float64)
        groups = total.view(-1, self.group_size)
        gains = advantages(groups, self.estimator).tolist()
        rolled = []
        for place, example in enumerate(examples):
            own = responses[place * self.group_size : (place + 1) * self.group_size]
            rolled.append({**example, RESPONSES: own, ADVANTAGES: gains[place]})
        figures = {
            "reward": float(total.mean()),
            **({f"reward/{name}": sum(own) / len(own) for name, own in each.items()} if len(each) > 1 else {}),
            **self._cut_answers(answers),
            "groups_of_equal_rewards": float(are_equal(groups).double().mean()),
            "response_tokens": sum(map(len, responses)) / len(responses),
        }
        rolled = [once(example, whole=self.needs_reference) for example in rolled]
        if self.steps_per_roll_out > 1 or self.needs_reference:
            own_values = self._score(policy, policy.model, rolled)
            rolled = [{**example, OLD: values} for example, values in zip(rolled, own_values, strict=True)]
            if policy.reference is not None:
                theirs = self._score(policy, policy.reference, rolled)
                rolled = [{**example, REFERENCE: values} for example, values in zip(rolled, theirs, strict=True)]
                figures["kl"] = mean_divergence(rolled, own_values, theirs)
        return RollOut(rolled, figures)

    def _write(self, policy: Policy, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        """A group of responses to each prompt, each with its end token; prompts of like length share a batch."""
        tokenizer = policy.inference.tokenizer
        ends = response_ends(self.renderer(tokenizer), policy.model)
        written: dict[int, list[list[int]]] = {}
        order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
        size = max(1, self.roll_out_batch_size // self.group_size)
        for start in range(0, len(order), size):
            places = order[start : start + size]
            made = generate_tokens(
                policy.model,
                [prompts[place] for place in places],
                policy.inference,
                max_new_tokens=self._room(len(prompts[places[0]])),
                ends=ends,
                temperature=self.temperature,
                keep_ends=True,
                copies=self.group_size,
            )
            for at, place in enumerate(places):
                own = made[at * self.group_size : (at + 1) * self.group_size]
                written[place] = [ids[: self._room(len(prompts[place]))] for ids in own]
        return [ids for place in range(len(prompts)) for ids in written[place]]

    def _answers(
        self,
        policy: Policy,
        examples: Sequence[Example],
        prompts: Sequence[Sequence[int]],
        responses: Sequence[Sequence[int]],
        where: Sequence[str],
    ) -> list[Answer]:
        """What rewards are shown of all responses."""
        tokenizer = policy.inference.tokenizer
        ends = response_ends(self.renderer(tokenizer), policy.model)
        return self.answers_of(examples, prompts, responses, ends, tokenizer, where)

    def answers_of(
        self,
        examples: Sequence[Example],
        prompts: Sequence[Sequence[int]],
        responses: Sequence[Sequence[int]],
        ends: Sequence[int],
        tokenizer: Any,
        where: Sequence[str] | None = None,
    ) -> list[Answer]:
        """What rewards are shown of each response to the prompt of its example; all lists are as long."""

        def text(ids: Sequence[int]) -> str:
            return self.written_text([token for token in ids if token not in ends], tokenizer)

        places = where if where is not None else [f"response {at + 1}" for at in range(len(examples))]
        return [
            Answer(text(prompt), text(response), text(answer_of(example)), place, prompt, response)
            for example, prompt, response, place in zip(examples, prompts, responses, places, strict=True)
        ]

    def judge(self, answers: Sequence[Answer], tokenizer: Any, model: nn.Module) -> dict[str, list[float]]:
        """The weighted rewards of answers that a model has written, by the rewards' names."""
        rewards = self.effective_rewards()
        found: dict[str, list[float]] = {}
        for at, reward in enumerate(rewards):
            if at not in self._begun:
                reward.use_device(next(model.parameters()).device)
                reward.begin(tokenizer)
                self._begun.add(at)
            name = reward.registered_name
            values = [reward.weight * value for value in ask_rewards(reward, answers)]
            found[name if name not in found else f"{name}_{at + 1}"] = values
        return found

    def total_rewards(self, answers: Sequence[Answer], tokenizer: Any, model: nn.Module) -> list[float]:
        """The reward of each answer."""
        return [sum(own) for own in zip(*self.judge(answers, tokenizer, model).values(), strict=True)]

    def _cut_answers(self, answers: Sequence[Answer]) -> dict[str, float]:
        """The share of answers that a reward has judged without a part of them; empty where there are none."""
        cut = max(reward.count_cut(answers) for reward in self.effective_rewards())
        return {CUT: cut / len(answers)} if cut else {}

    def effective_rewards(self) -> Sequence[Any]:
        """Those of the recipe."""
        return self.rewards

    def _score(self, policy: Policy, model: nn.Module, rolled: Sequence[Example]) -> list[list[list[float]]]:
        """The log-probability of each token of each response, by example."""
        import torch

        found: list[list[list[float]]] = []
        losses = partial(label_losses, temperature=self.temperature)
        size = max(1, self.roll_out_batch_size // self.group_size)
        for start in range(0, len(rolled), size):
            part = rolled[start : start + size]
            whole = [{name: example[name] for name in example if name not in (ADVANTAGES, COUNTS)} for example in part]
            batch = self.collate(whole, policy.pad_token_id)
            with torch.inference_mode():
                values = (-policy.inference.compute(losses, model, batch)).tolist()
            at = 0
            for example in part:
                own = []
                for response in example[RESPONSES]:
                    own.append(values[at : at + len(response)])
                    at += len(response)
                found.append(own)
        return found

    def _room(self, prompt: int) -> int:
        """Tokens of a response to a prompt of so many."""
        longest = int(getattr(self, "max_length"))  # noqa: B009 - every task that this is mixed into has it
        return max(1, min(self.max_response_tokens, longest - prompt))

    # --- objective --------------------------------------------------------------------------------------------------

    def length(self, example: Example) -> int:
        """Tokens of all texts; before responses are written, as many as there may be."""
        if IS_PROMPT not in example:
            return super().length(example)
        prompt = len(prompt_of(example))
        if not (self.kl or teaches(example)):
            return 0
        if RESPONSES in example:
            return sum(prompt + len(response) for response in example[RESPONSES])
        return self.group_size * (prompt + self._room(prompt))

    def longest(self) -> int:
        """A group of the longest texts."""
        return self.group_size * super().longest()

    def placeholder(self, length: int, labels: tuple[str, ...]) -> Example:
        """A group of responses, together of that length, each as long as it may be."""
        count = max(1, min(self.group_size, length // 2))
        lengths = [length // count + (at < length % count) for at in range(count)]
        prompt = max(1, lengths[0] - self.max_response_tokens)
        ids = [0] * (prompt + 1)
        responses = [[0] * (own - prompt) for own in lengths]
        return {
            "input_ids": ids,
            "labels": shifted(ids, prompt),
            IS_PROMPT: True,
            RESPONSES: responses,
            ADVANTAGES: [0.0] * count,
        }

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """A row for each response, one group after another; labels are on the responses.

        Beside them ``advantages`` and ``counts`` (rows), the number of ``terms``, and of the responses' tokens one
        after another ``old`` and ``reference``, where they have been computed. Responses that are not there yet are as
        long as they may be, and weigh nothing. Groups that teach nothing are only counted, if there are others.
        """
        import torch

        if IS_PROMPT not in examples[0]:  # of a split that is only evaluated
            return {**(batch := super().collate(examples, pad_token_id)), ADVANTAGES: torch.zeros(len(batch["labels"]))}
        rows: list[Example] = []
        gains: list[float] = []
        counts: list[int] = []
        terms = sum(sum(item.get(COUNTS, ())) or len(item.get(RESPONSES, ())) or self.group_size for item in examples)
        values: dict[str, list[float]] = {OLD: [], REFERENCE: []}
        for example in [item for item in examples if self.kl or teaches(item)] or examples[:1]:
            prompt = prompt_of(example)
            responses = example.get(RESPONSES)
            if responses is None:
                responses = [[pad_token_id] * self._room(len(prompt))] * self.group_size
            for response in responses:
                ids = [*prompt, *response]
                rows.append({"input_ids": ids, "labels": shifted(ids, len(prompt))})
            gains += example.get(ADVANTAGES, [0.0] * len(responses))
            counts += example.get(COUNTS, [1] * len(responses))
            for name, flat in values.items():
                flat += [value for own in example.get(name, ()) for value in own]
        batch = pad_language(rows, pad_token_id)
        batch |= {ADVANTAGES: torch.tensor(gains), COUNTS: torch.tensor(counts), TERMS: torch.tensor([terms])}
        count = len(batch["label_rows"])
        if self.needs_reference and not values[REFERENCE]:
            values[REFERENCE] = [0.0] * count
        return batch | {name: torch.tensor(flat) for name, flat in values.items() if len(flat) == count}

    @property
    def has_class_targets(self) -> bool:
        """No term of the loss is the cross-entropy of a class."""
        return False

    def loss(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """The loss, summed over the responses, from logits of all their tokens."""
        from torch.nn import functional

        tempered = logits.float() / self.temperature
        return self._loss(-functional.cross_entropy(tempered, targets(batch), reduction="none"), batch)

    def training_loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """The same sum, in chunks."""
        return self._loss(-label_losses(model, batch, temperature=self.temperature), batch)

    def _loss(self, log_probabilities: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        losses = policy_losses(
            log_probabilities,
            batch[OLD] if OLD in batch else log_probabilities.detach(),
            batch.get(REFERENCE),
            batch[ADVANTAGES],
            batch["label_rows"],
            estimator=self.estimator,
            clip=(self.clip, self.clip if self.clip_high is None else self.clip_high),
            kl=self.kl,
            most_tokens=self.max_response_tokens,
        )
        return (losses * batch[COUNTS]).sum() if COUNTS in batch else losses.sum()

    def course_notices(self, log: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Mean tokens of responses in the first and the last step, rewards without a better score, and cuts."""
        tokens = [line["response_tokens"] for line in log if "reward" in line]
        notice = reward_without_score(log, self.metrics[0])
        cut = max((line[CUT] for line in log if CUT in line), default=0.0)
        told = f"in a step {cut:.0%} of the responses were judged without the beginning of their text: with the prompt "
        told += "they are longer than the reward's own model reads (`max_length` of its run)"
        return {
            **({CUT: told} if cut else {}),
            **({"mean_tokens_generated": {"first": tokens[0], "last": tokens[-1]}} if tokens else {}),
            **({} if notice is None else {"reward_without_score": notice}),
        }

    def loss_terms(self, batch: Mapping[str, Tensor]) -> int:
        """One term a response, each as often as it was drawn."""
        return int(batch[TERMS].sum()) if TERMS in batch else len(batch["input_ids"])
