"""Preference tuning: of two responses to a prompt the chosen one becomes likelier than the rejected one.

What the untouched base says of every response is computed once, before the method changes it, and kept with the run: so
each method has its true reference, also one that starts elsewhere than at the base, or on a quantised one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from peftlab.core.config import refuse_unused
from peftlab.core.errors import DataError, UnsupportedError
from peftlab.core.record import Guard
from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.core.task import TASKS, Comparison, Inference, Policy, Prediction, Scorer, UntouchedBase
from peftlab.core.task_guess import Guesser
from peftlab.tasks.guesses.conversations import guess_preferences
from peftlab.tasks.language.conversations import (
    Conversation,
    Message,
    check_tools,
    open_conversation,
)
from peftlab.tasks.language.decoder import DecoderTask, pad_language
from peftlab.tasks.language.rendering import Renderer
from peftlab.tasks.language.vocabulary_head import targets
from peftlab.tasks.preference.against_base import compare_with_base
from peftlab.tasks.preference.compared_responses import ComparedResponses
from peftlab.tasks.preference.course import guard_of_start
from peftlab.tasks.preference.encoding import text_of
from peftlab.tasks.preference.log_probabilities import response_log_probabilities, row_sums
from peftlab.tasks.preference.losses import WITHOUT_REFERENCE, PairLoss, Responses, kto_losses, pair_losses
from peftlab.tasks.preference.rows import (
    CHOSEN,
    LABEL,
    REJECTED,
    RESPONSE,
    arrange_pairs,
    arrange_responses,
    read_prompt,
)
from peftlab.tasks.preference.scorer import PreferenceScorer

if TYPE_CHECKING:
    from torch import Tensor, nn

BETAS = {"simpo": 2.0, "length_normalised": 5.0, "sppo": 1e-3}
"""Strengths from the losses' papers, where they are not the usual one."""
USUAL_BETA = 0.1
REFERENCE = "reference"


@TASKS.register("preference_tuning")
class PreferenceTuning(ComparedResponses, DecoderTask):
    """Learn which of two responses is preferred (DPO and its kin), or which ones are desirable at all (KTO)."""

    guess: ClassVar[Guesser] = staticmethod(guess_preferences)
    metrics: ClassVar[tuple[str, ...]] = (
        "reward_accuracy",
        "reward_margin",
        "preferred_log_ratio",
        "dispreferred_log_ratio",
    )
    guard_names: ClassVar[Mapping[str, str]] = {
        "margins_start_at_zero": "a model that starts as the base has margins of 0 before its first step"
    }

    objective: PairLoss | Literal["kto"] = Field(
        "dpo",
        description="The loss. Of pairs: dpo, ipo, cdpo and robust (for labels that are wrong at times), "
        "length_normalised, hinge, discopop, apo_zero and apo_down (where the chosen responses are better, or worse, "
        "than the model's own), nca and sppo (each response by itself), and without a reference orpo, simpo and cpo. "
        "kto: of responses that stand alone.",
    )
    response: str = Field("response", description="kto: the column of the response.")
    label: str = Field("label", description="kto: the column that says whether it is desirable, true or false.")
    beta: PositiveFloat | None = Field(
        None,
        description="How strongly the reference holds; ORPO's weight of the odds. null: 0.1; simpo 2, "
        "length_normalised 5, sppo 0.001.",
    )
    label_noise: float = Field(
        0.1, ge=0, lt=0.5, description="cdpo, robust: the share of pairs that are taken to be the wrong way round."
    )
    gamma: float = Field(1.0, ge=0, description="simpo: the margin of rewards that is asked for.")
    sft_weight: float = Field(
        0.0,
        ge=0,
        description="Of pairs: the weight of the chosen response's own loss, the mean over its tokens, beside that of "
        "the pair (RPO; 1 is usual). Of cpo 1 where nothing is said.",
    )
    desirable_weight: PositiveFloat = Field(1.0, description="kto: the weight of desirable responses.")
    undesirable_weight: PositiveFloat = Field(1.0, description="kto: the weight of the others.")
    max_new_tokens: PositiveInt = Field(
        64, description="Where a response is cut that the tuned model writes, if it does not end by itself."
    )

    compared_prompts: int = Field(
        0,
        ge=0,
        description="How many held-out prompts of each split the tuned model and the base answer at the end, for "
        "`kl` and the lengths of what they write. The base is loaded once more for it. 0: none.",
    )

    @model_validator(mode="before")
    @classmethod
    def _own_loss_of_cpo(cls, data: Any) -> Any:
        is_cpo = isinstance(data, Mapping) and data.get("objective") == "cpo"
        return {"sft_weight": 1.0, **data} if is_cpo else data

    @model_validator(mode="after")
    def _columns_differ(self) -> PreferenceTuning:
        if len({*self.source_columns()}) < len(self.source_columns()):
            raise ValueError("prompt, responses and label must be different columns")
        readers = {"label_noise": ("cdpo", "robust"), "gamma": ("simpo",)}
        readers |= {"sft_weight": tuple(kind for kind in get_args(PairLoss) if kind != "orpo")}  # which has it
        readers |= dict.fromkeys(("desirable_weight", "undesirable_weight"), ("kto",))
        refuse_unused(
            self, {key: (f"objective: {' | '.join(kinds)}", self.objective in kinds) for key, kinds in readers.items()}
        )
        return self

    @property
    def divisible(self) -> bool:  # type: ignore[override]
        """KTO estimates one divergence of a whole batch; all others look at one pair at a time."""
        return self.is_paired

    @property
    def is_paired(self) -> bool:
        """Whether a row has two responses."""
        return self.objective != "kto"

    @property
    def has_reference(self) -> bool:
        """Whether the loss asks the untouched base."""
        return self.objective not in WITHOUT_REFERENCE

    @property
    def strength(self) -> float:
        """Beta, as the recipe says or as is usual."""
        return self.beta if self.beta is not None else BETAS.get(self.objective, USUAL_BETA)

    # --- rows -------------------------------------------------------------------------------------------------------

    def label_columns(self) -> tuple[str, ...]:
        """Both responses; or the response, and whether it is desirable."""
        return (CHOSEN, REJECTED) if self.is_paired else (RESPONSE, LABEL)

    def source_columns(self) -> tuple[str, ...]:
        """The columns as the recipe names them."""
        return (self.prompt, *((self.chosen, self.rejected) if self.is_paired else (self.response, self.label)))

    def arrange(self, split: Split) -> Split:
        """A context and its responses for each row."""
        if self.is_paired:
            return arrange_pairs(split, prompt=self.prompt, chosen=self.chosen, rejected=self.rejected)
        return arrange_responses(split, prompt=self.prompt, response=self.response, label=self.label)

    def check_split(self, split: Split, labels: tuple[str, ...]) -> None:
        """KTO trains on responses of both kinds.

        Raises:
            DataError: The training split has only one.
        """
        if not self.is_paired and split.name == "train" and len({*split.columns[LABEL]}) == 1:
            kind = "desirable" if split.columns[LABEL][0] else "undesirable"
            raise DataError(
                f"all responses are {kind}; kto learns from responses of both kinds",
                where=split.source,
                hint=f"Look at the column `{self.label}`.",
            )

    def placeholder(self, length: int, labels: tuple[str, ...]) -> Example:
        """Two texts of like length, each of a prompt of one token."""
        example = {"input_ids": [0] * length, "lengths": [length - length // 2, length // 2], "prompt_length": 1}
        return example if self.is_paired else {**example, LABEL: True}

    # --- objective --------------------------------------------------------------------------------------------------

    def prepare(
        self, splits: Mapping[str, EncodedSplit], base: UntouchedBase
    ) -> Mapping[str, Mapping[str, Tensor]] | None:
        """The reference: of each example the log-probabilities of both responses by the untouched base."""
        if not self.has_reference:
            return None

        def of_both(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
            return response_log_probabilities(model, batch).view(2, -1).T

        return {name: {REFERENCE: base.values(split, of_both)} for name, split in splits.items()}

    def guards_at_start(
        self, policy: Policy, examples: Sequence[Example], *, starts_as_base: bool
    ) -> Mapping[str, Guard]:
        """A model that starts as the base has margins of 0 before its first step: then the reference is its own."""
        if not (self.has_reference and starts_as_base):
            return {"margins_start_at_zero": Guard.not_applicable("no reference is asked, or none begins as the base")}
        batch = self.collate(examples, policy.pad_token_id)
        sums = policy.inference.compute(response_log_probabilities, policy.model, batch).detach().cpu()
        return {"margins_start_at_zero": guard_of_start(self._responses(sums, batch))}

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """Two rows an example: all first texts, then all second ones; labels are on the responses.

        ``reference`` (2 × examples) is not a number as long as it has not been computed.
        """
        import torch

        rows = [text_of(example, side) for side in (0, 1) for example in examples]
        batch = pad_language(rows, pad_token_id)
        if self.has_reference:
            unknown = [math.nan, math.nan]
            batch[REFERENCE] = torch.tensor([example.get(REFERENCE, unknown) for example in examples]).T.contiguous()
        if not self.is_paired:
            batch["is_desirable"] = torch.tensor([bool(example[LABEL]) for example in examples])
        return batch

    @property
    def has_class_targets(self) -> bool:
        """No term of the loss is the cross-entropy of a class."""
        return False

    def loss(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """The loss, summed over the pairs or responses, from logits of all tokens of the responses."""
        from torch.nn import functional

        losses = functional.cross_entropy(logits.float(), targets(batch), reduction="none")
        return self._losses(self._responses(-row_sums(losses, batch), batch), batch).sum()

    def training_loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """The same sum, in chunks."""
        return self._losses(self._responses(response_log_probabilities(model, batch), batch), batch).sum()

    def loss_terms(self, batch: Mapping[str, Tensor]) -> int:
        """One term a pair, or a response."""
        return len(batch["input_ids"]) // 2

    def _responses(self, sums: Tensor, batch: Mapping[str, Tensor]) -> Responses:
        """Log-probabilities of the batch's rows, as 2 × examples."""
        counts = row_sums(sums.new_ones(len(batch["label_rows"])), batch)
        return Responses(sums.view(2, -1), counts.view(2, -1), batch.get(REFERENCE))

    def _losses(self, responses: Responses, batch: Mapping[str, Tensor]) -> Tensor:
        if self.objective != "kto":
            losses = pair_losses(
                self.objective, responses, beta=self.strength, label_noise=self.label_noise, gamma=self.gamma
            )
            return losses - self.sft_weight * responses.sums[0] / responses.counts[0] if self.sft_weight else losses
        own, others = responses.log_ratios
        return kto_losses(
            own,
            others,
            batch["is_desirable"],
            beta=self.strength,
            desirable=self.desirable_weight,
            undesirable=self.undesirable_weight,
        )

    # --- answers ----------------------------------------------------------------------------------------------------

    def predict_examples(
        self, model: nn.Module, examples: Sequence[Example], pad_token_id: int, inference: Inference
    ) -> list[Prediction]:
        """The margin of a pair's rewards, or a response's reward; the scores are the log-ratios to the reference.

        Without a reference, those of the loss are the log-probabilities.

        Raises:
            UnsupportedError: The reference has not been computed.
        """
        batch = self.collate(examples, pad_token_id)
        sums = inference.compute(response_log_probabilities, model, batch).cpu()
        if self.has_reference and not all(REFERENCE in example for example in examples):
            raise UnsupportedError(f"{self.registered_name} scores nothing without the base's log-probabilities")
        responses = self._responses(sums, batch)
        rewards, ratios = responses.rewards(self.objective, self.strength), responses.log_ratios.T.tolist()
        if not self.is_paired:
            labels = batch["is_desirable"].tolist()
            rows = zip(labels, rewards[0].tolist(), ratios, strict=True)
            return [Prediction(label, reward, ratio[:1]) for label, reward, ratio in rows]
        losses = self._losses(responses, batch).tolist()
        rows = zip((rewards[0] - rewards[1]).tolist(), ratios, losses, strict=True)
        return [Prediction(True, margin, ratio, loss=loss) for margin, ratio, loss in rows]

    def scorer(self, labels: tuple[str, ...]) -> Scorer:
        """Rewards, and how far the model went from its base."""
        return PreferenceScorer(has_reference=self.has_reference)

    @property
    def compares_with_base(self) -> bool:
        """Where the recipe asks for prompts."""
        return self.compared_prompts > 0

    def compare_with_base(self, policy: Policy, split: EncodedSplit) -> Comparison:
        """The divergence from the base, how long both write, and what."""
        renderer, count = self.renderer(policy.inference.tokenizer), self.compared_prompts
        return compare_with_base(policy, split, renderer, prompts=count, max_new_tokens=self.max_new_tokens)

    # --- texts ------------------------------------------------------------------------------------------------------

    def prompt_columns(self) -> tuple[str, ...]:
        """The prompt."""
        return (self.prompt,)

    def prompts(self, split: Split, tokenizer: Any) -> list[Example]:
        """Tokens before the response."""
        renderer, values = self.renderer(tokenizer), split.columns[self.prompt]
        found = []
        for row, value in enumerate(values):
            where = split.where(row)
            found.append(self._prompt(renderer, Conversation(read_prompt(value, self.prompt, where)), where))
        return found

    def conversation_prompt(
        self, messages: Sequence[Message], tokenizer: Any, tools: Sequence[Any] | None = None
    ) -> Example:
        """Tokens before the response to the last message."""
        conversation = Conversation(open_conversation(list(messages), "messages"), check_tools(tools, "tools"))
        return self._prompt(self.renderer(tokenizer), conversation, "messages")

    def _prompt(self, renderer: Renderer, conversation: Conversation, where: str) -> Example:
        room = min(self.max_new_tokens, self.max_length // 2)
        ids, truncated = renderer.fit_prompt(conversation, self.max_length - room, where=where)
        return {"input_ids": ids, "truncated": truncated}

    def new_tokens(self) -> int:
        """As the recipe says."""
        return self.max_new_tokens

    def written_text(self, ids: Sequence[int], tokenizer: Any) -> str:
        """A response without the blanks around it."""
        return super().written_text(ids, tokenizer).strip()
