"""The objective of reinforcement, for any language task whose rows hold a prompt and an answer.

Before a step the model writes a group of responses to each prompt; rewards judge them; the step makes those likelier
that are better than their group. :mod:`peftlab.tasks.reinforcement.losses` has the formulas, and
:mod:`peftlab.tasks.reinforcement.estimators` says what each estimator is made of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.core.task import Policy, RollOut
from peftlab.tasks.language.decoder import pad_language, shifted
from peftlab.tasks.language.vocabulary_head import label_losses, targets
from peftlab.tasks.preference.course import reward_without_score
from peftlab.tasks.reinforcement.gradient_settings import GradientSettings
from peftlab.tasks.reinforcement.judged_responses import CUT, CUT_FOR_REWARD, Group
from peftlab.tasks.reinforcement.losses import advantages, policy_losses
from peftlab.tasks.reinforcement.replacing import REPLACED, teaching_groups
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
MOST = 0.9
"""A share of groups without a lesson that is told."""


class PolicyGradient(GradientSettings):
    """Mixed into a language task: its rows, answers and metrics stay, and it is trained by rewards.

    An example of that task must hold ``input_ids``, and ``labels`` on its answer.
    """

    collates_ahead: ClassVar[bool] = False

    # --- rows -------------------------------------------------------------------------------------------------------

    def encode(self, split: Split, tokenizer: Any, labels: tuple[str, ...]) -> EncodedSplit:
        """As the task that this is mixed into; of the training split only the prompts are read by the model."""
        encoded = super().encode(split, tokenizer, labels)  # type: ignore[safe-super]
        if split.name != "train":
            return encoded
        return replace(encoded, examples=[{**example, IS_PROMPT: True} for example in encoded.examples])

    # --- rolling out ------------------------------------------------------------------------------------------------

    def roll_out(self, policy: Policy, examples: Sequence[Example], where: Sequence[str]) -> RollOut:
        """Write a group of responses to each prompt, judge them, and keep what the loss needs of the old model."""
        groups = self.draw_groups(policy, examples, where)
        figures = self.figures_of(groups)
        if self.replace_groups:
            own = groups
            groups = teaching_groups(
                own,
                teaches=self._teaches,
                draw=partial(self.draw_groups, policy),
                others=policy.others,
                tries=self.replace_groups,
            )
            figures[REPLACED] = sum(a is not b for a, b in zip(own, groups, strict=True)) / len(groups)
        rolled = self._learned_from(groups)
        if self.steps_per_roll_out > 1 or self.needs_reference:
            own_values = self._score(policy, policy.model, rolled)
            figures["entropy"] = mean_entropy(rolled, own_values)
            # Of the other examples the model that learns is the one that wrote, whatever rounding and dropout say.
            first = policy.fresh if self.steps_per_roll_out > 1 else len(rolled)
            for place in range(first, len(rolled)):
                rolled[place] = {**rolled[place], OLD: own_values[place]}
            if policy.reference is not None:
                theirs = self._score(policy, policy.reference, rolled)
                rolled = [{**example, REFERENCE: values} for example, values in zip(rolled, theirs, strict=True)]
                figures["kl"] = mean_divergence(rolled, own_values, theirs)
        return RollOut(rolled, figures)

    def _teaches(self, group: Group) -> bool:
        return not group.is_equal and not (self.cut_responses == "skip" and all(group.is_cut))

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
            clip=(self.clip, self.highest),
            kl=self.kl,
            most_tokens=self.max_response_tokens,
            unbiased_kl=self.unbiased_kl,
        )
        return (losses * batch[COUNTS]).sum() if COUNTS in batch else losses.sum()

    def course_notices(self, log: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Mean tokens of responses in the first and the last step, rewards without a better score, and cuts."""
        lines = [line for line in log if "reward" in line]
        tokens = [line["response_tokens"] for line in lines]
        equal = sum(line["groups_of_equal_rewards"] for line in lines) / max(1, len(lines))
        idle = f"{equal:.0%} of the groups had one reward for all responses, and taught nothing: a reward that tells "
        idle += "responses apart, a higher temperature, larger groups or other prompts would"
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
            **({"groups_of_equal_rewards": idle} if equal >= MOST else {}),
            **({"mean_tokens_generated": {"first": tokens[0], "last": tokens[-1]}} if tokens else {}),
            **({} if notice is None else {"reward_without_score": notice}),
        }

    def loss_terms(self, batch: Mapping[str, Tensor]) -> int:
        """One term a response, or a token, each as often as it was drawn."""
        return int(batch[TERMS].sum()) if TERMS in batch else len(batch["input_ids"])
