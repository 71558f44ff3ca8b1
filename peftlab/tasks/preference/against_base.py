"""What a tuned model and its untouched base write to the same held-out prompts, and how far apart they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from peftlab.core.splits import EncodedSplit
from peftlab.core.task import Comparison, Policy
from peftlab.tasks.language.decoder import pad_language, shifted
from peftlab.tasks.language.generation import generate_tokens, response_ends
from peftlab.tasks.language.rendering import Renderer
from peftlab.tasks.language.vocabulary_head import labelled_logits

if TYPE_CHECKING:
    from torch import Tensor, nn


def compare_with_base(
    policy: Policy, split: EncodedSplit, renderer: Renderer, *, prompts: int, max_new_tokens: int
) -> Comparison:
    """``kl`` and the mean tokens of what both write, always the most likely token; and the texts.

    The divergence is KL(π ‖ π_ref) of the whole vocabulary before each token that the tuned model writes, the one that
    ends its text included; in nats, the mean over all these tokens.

    Args:
        policy: The model and its base.
        split: Its examples have ``input_ids`` and ``prompt_length``.
        renderer: Of the task.
        prompts: How many are answered: the first ones, each once.
        max_new_tokens: Where a response is cut.
    """
    asked = first_prompts(split, prompts)
    reference = policy.reference
    assert reference is not None  # noqa: S101 - the run has loaded it
    own, of_base = (
        generate_tokens(
            model,
            asked,
            policy.inference,
            max_new_tokens=max_new_tokens,
            ends=response_ends(renderer, model),
            keep_ends=True,
        )
        for model in (policy.model, reference)
    )
    tokenizer = policy.inference.tokenizer

    def text(ids: Sequence[int]) -> str:
        return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()

    rows: list[Mapping[str, Any]] = [
        {"prompt": tokenizer.decode(prompt), "tuned": text(said), "base": text(before)}
        for prompt, said, before in zip(asked, own, of_base, strict=True)
    ]
    divergences = [
        value
        for prompt, said in zip(asked, own, strict=True)
        if said
        for value in token_divergences(policy, reference, prompt, said)
    ]
    scores = {"response_tokens": _mean_length(own), "base_response_tokens": _mean_length(of_base)}
    return Comparison(scores | ({"kl": sum(divergences) / len(divergences)} if divergences else {}), rows)


def first_prompts(split: EncodedSplit, count: int) -> list[list[int]]:
    """The tokens of the first different prompts."""
    found: dict[tuple[int, ...], None] = {}
    for example in split.examples:
        if len(found) == count:
            break
        found[tuple(example["input_ids"][: example["prompt_length"]])] = None
    return [list(prompt) for prompt in found]


def token_divergences(
    policy: Policy, reference: nn.Module, prompt: Sequence[int], response: Sequence[int]
) -> list[float]:
    """KL(π ‖ π_ref) before each token of a response, in nats."""
    ids = [*prompt, *response]
    labels = shifted(ids, len(prompt))[: len(ids)]
    batch = pad_language([{"input_ids": ids, "labels": labels}], policy.pad_token_id)
    own, base = (policy.inference.compute(_log_probabilities, model, batch) for model in (policy.model, reference))
    divergences: list[float] = (own.exp() * (own - base)).sum(-1).clamp(min=0).tolist()
    return divergences


def _log_probabilities(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    return labelled_logits(model, batch).float().log_softmax(-1)


def _mean_length(responses: Sequence[Sequence[int]]) -> float:
    return sum(map(len, responses)) / len(responses)
