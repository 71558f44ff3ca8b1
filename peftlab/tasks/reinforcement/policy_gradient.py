"""The objective of reinforcement, for any language task whose rows hold a prompt and an answer.

Before a step the model writes a group of responses to each prompt; rewards judge them; the step makes those likelier
that are better than their group. :mod:`peftlab.tasks.reinforcement.losses` has the formulas, and
:mod:`peftlab.tasks.reinforcement.estimators` says what each estimator is made of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from peftlab.core.config import check_unused
from peftlab.core.errors import ConfigError, UnsupportedError
from peftlab.core.model_facts import ModelFacts
from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.core.task import Policy, RollOut
from peftlab.tasks.language.decoder import pad_language, shifted
from peftlab.tasks.language.vocabulary_head import label_losses, targets
from peftlab.tasks.preference.course import reward_without_score
from peftlab.tasks.reinforcement.estimators import (
    CISPO_HIGH,
    ESTIMATORS,
    GSPO_CLIP,
    SAME_AT_FIRST,
    Estimator,
    Parts,
    Scale,
)
from peftlab.tasks.reinforcement.judged_responses import CUT, CUT_FOR_REWARD, Group, JudgedResponses
from peftlab.tasks.reinforcement.losses import advantages, policy_losses
from peftlab.tasks.reinforcement.rolled_out import (
    ADVANTAGES,
    COUNTS,
    OLD,
    REFERENCE,
    RESPONSES,
    TOKENS,
    mean_divergence,
    mean_entropy,
    once,
    prompt_of,
    teaches,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

TERMS = "terms"
"""Of a batch: how many responses were drawn, or how many tokens they have (1)."""
IS_PROMPT = "is_prompt"
"""Marks examples for training, whose answers only rewards may see."""
MANY = 0.5
"""A share of cut responses that is told."""


class PolicyGradient(JudgedResponses):
    """Mixed into a language task: its rows, answers and metrics stay, and it is trained by rewards.

    An example of that task must hold ``input_ids``, and ``labels`` on its answer.
    """

    collates_ahead: ClassVar[bool] = False

    estimator: Estimator = Field(
        "grpo",
        description="How rewards become a gradient: grpo, dr_grpo (no response weighs more for its length), rloo "
        "(a response is one action, compared with the others of its group), dapo (each token of a step weighs the "
        "same), and for several steps a roll-out gspo (the ratio is of a response) and cispo (no token is left out).",
    )
    scale_rewards: Scale | None = Field(
        None,
        description="Advantages are in standard deviations of their group, or of all rewards of a roll-out (batch), "
        "or as they are (none). null: as in the estimator's paper, which is none for dr_grpo and rloo, else group.",
    )
    cut_responses: Literal["learn", "skip"] = Field(
        "learn",
        description="What becomes of responses that are cut before they end: skip leaves them out of the loss "
        "(overlong filtering of DAPO). Their rewards count in the mean of the group all the same.",
    )
    kl: float = Field(0.0, ge=0, description="Weight of the divergence from the untouched base.")
    unbiased_kl: bool = Field(
        False, description="Weigh the estimate of the divergence so that its gradient is unbiased (DeepSeek-V3.2)."
    )
    log_kl: bool = Field(
        False,
        description="Log the divergence and the entropy with `kl: 0` too. As with `kl`, a copy of the base lies in "
        "memory.",
    )
    clip: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="How far a probability may move from that of the model that wrote the response. Of gspo, whose "
        "ratio is a mean, 3e-4 where nothing is said, and `clip_high` 4e-4.",
    )
    clip_high: PositiveFloat | None = Field(
        None,
        description="The same upwards, such as 0.28 (DAPO), so that rare tokens can gain. null: `clip`; cispo 4, its "
        "only bound.",
    )
    steps_per_roll_out: PositiveInt = Field(
        1, description="Steps whose responses are written at once: faster, but all but the first are a little old."
    )

    @model_validator(mode="before")
    @classmethod
    def _clip_of_gspo(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("estimator") == "gspo" and "clip" not in data:
            low, high = GSPO_CLIP
            return {**data, "clip": low, "clip_high": data.get("clip_high", high)}
        return data

    @property
    def estimator_parts(self) -> Parts:
        """Of the estimator, with what the recipe says otherwise."""
        own = ESTIMATORS[self.estimator]
        return own if self.scale_rewards is None else replace(own, scale=self.scale_rewards)

    # --- rows -------------------------------------------------------------------------------------------------------

    def check(self, facts: ModelFacts) -> None:
        """Refuse models whose prompt and response are read by two parts, and keys without an effect.

        With one step a roll-out the model that learns is the one that wrote.
        """
        is_old = self.steps_per_roll_out > 1
        if not is_old and (same := SAME_AT_FIRST.get(self.estimator)):
            raise ConfigError(
                f"with one step a roll-out `{self.estimator}` is `{same}`, number for number",
                where="task.estimator",
                hint=f"Set steps_per_roll_out to 2 or more, or choose {same}.",
            )
        bounds = "steps_per_roll_out: 2 or more"
        keys = {
            "clip": ("another estimator than cispo", False) if self.estimator == "cispo" else (bounds, is_old),
            "clip_high": (bounds, is_old),
            "unbiased_kl": ("kl", self.kl > 0),
        }
        check_unused(self, "task", keys)
        if self.group_size > self.roll_out_batch_size:
            raise ConfigError(
                f"{self.roll_out_batch_size} responses at once are fewer than a group of {self.group_size}",
                where="task.roll_out_batch_size",
                hint="The responses to a prompt are written together.",
            )
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

    @property
    def why_no_dropout(self) -> str:
        """What is drawn by dropout would count as a move of the model."""
        if self.steps_per_roll_out == 1:
            return ""
        return "`steps_per_roll_out` compares a model with what it was when it wrote, and dropout moves it at random"

    # --- rolling out ------------------------------------------------------------------------------------------------

    @property
    def needs_reference(self) -> bool:
        """Only for the divergence."""
        return self.kl > 0 or self.log_kl

    def roll_out_steps(self) -> int:
        """As the recipe says."""
        return self.steps_per_roll_out

    def roll_out(self, policy: Policy, examples: Sequence[Example], where: Sequence[str]) -> RollOut:
        """Write a group of responses to each prompt, judge them, and keep what the loss needs of the old model."""
        groups = self.draw_groups(policy, examples, where)
        figures = self.figures_of(groups)
        rolled = self._learned_from(groups)
        if self.steps_per_roll_out > 1 or self.needs_reference:
            own_values = self._score(policy, policy.model, rolled)
            figures["entropy"] = mean_entropy(rolled, own_values)
            if self.steps_per_roll_out > 1:  # else the model that learns is the one that wrote, whatever it rounds
                rolled = [{**example, OLD: values} for example, values in zip(rolled, own_values, strict=True)]
            if policy.reference is not None:
                theirs = self._score(policy, policy.reference, rolled)
                rolled = [{**example, REFERENCE: values} for example, values in zip(rolled, theirs, strict=True)]
                figures["kl"] = mean_divergence(rolled, own_values, theirs)
        return RollOut(rolled, figures)

    def _learned_from(self, groups: Sequence[Group]) -> list[Example]:
        """What a step learns from each group: its responses, how good each is, and how often it counts."""
        import torch

        skips = self.cut_responses == "skip"
        totals = torch.tensor([group.rewards for group in groups], dtype=torch.float64)
        rolled = []
        for group, gains in zip(groups, advantages(totals, self.estimator_parts).tolist(), strict=True):
            counts = [int(not (skips and cut)) for cut in group.is_cut]
            own = {
                RESPONSES: group.responses,
                ADVANTAGES: [gain if count else 0.0 for gain, count in zip(gains, counts, strict=True)],
                COUNTS: counts,
                TOKENS: sum(len(ids) for ids, count in zip(group.responses, counts, strict=True) if count),
            }
            rolled.append(once({**group.example, **own}, whole=self.needs_reference))
        return rolled

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
        terms = sum(map(self._terms, examples))
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

    def _terms(self, example: Example) -> int:
        """How much a group weighs in a step: as many as it has responses, or tokens."""
        responses = example.get(RESPONSES)
        if self.estimator_parts.average != "step":
            if COUNTS in example:
                return sum(example[COUNTS])
            return self.group_size if responses is None else len(responses)
        if TOKENS in example:
            return int(example[TOKENS])
        if responses is None:
            return self.group_size * self._room(len(prompt_of(example)))
        return sum(map(len, responses))

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
            parts=self.estimator_parts,
            clip=(self.clip, self._highest()),
            kl=self.kl,
            most_tokens=self.max_response_tokens,
            unbiased_kl=self.unbiased_kl,
        )
        return (losses * batch[COUNTS]).sum() if COUNTS in batch else losses.sum()

    def _highest(self) -> float:
        """How far a ratio may be above 1."""
        if self.clip_high is not None:
            return self.clip_high
        return CISPO_HIGH if self.estimator == "cispo" else self.clip

    def course_notices(self, log: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Mean tokens of responses in the first and the last step, rewards without a better score, and cuts."""
        lines = [line for line in log if "reward" in line]
        tokens = [line["response_tokens"] for line in lines]
        notice = reward_without_score(log, self.metrics[0])
        unread = max((line[CUT_FOR_REWARD] for line in lines if CUT_FOR_REWARD in line), default=0.0)
        told = f"in a step {unread:.0%} of the responses were judged without the beginning of their text: with the "
        told += "prompt they are longer than the reward's own model reads (`max_length` of its run)"
        cut = lines[-1].get(CUT, 0.0) if lines else 0.0
        endless = f"at the end {cut:.0%} of the responses were cut at `max_response_tokens` before they ended by "
        endless += "themselves"
        return {
            **({CUT_FOR_REWARD: told} if unread else {}),
            **({CUT: endless} if cut >= MANY else {}),
            **({"mean_tokens_generated": {"first": tokens[0], "last": tokens[-1]}} if tokens else {}),
            **({} if notice is None else {"reward_without_score": notice}),
        }

    def loss_terms(self, batch: Mapping[str, Tensor]) -> int:
        """One term a response, or a token, each as often as it was drawn."""
        return int(batch[TERMS].sum()) if TERMS in batch else len(batch["input_ids"])
