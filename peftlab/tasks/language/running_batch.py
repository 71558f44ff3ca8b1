"""Texts that are written together, and that others join while they are being written.

A batch that starts with those who wait makes whoever comes next wait for its last text. Here every step writes one
token of each text; before it, newcomers are read, and their keys and values are put beside those of the others. Rows
are padded on the left, so that each one's next token stands at the end. Texts that have ended leave at once.
(Iteration-level scheduling: Yu et al., Orca, OSDI 2022.)
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from peftlab.core.task import Inference
from peftlab.tasks.language.generation import is_drawn, text_room
from peftlab.tasks.language.vocabulary_head import is_encoder_decoder, language_model

if TYPE_CHECKING:
    from torch import Tensor, nn

READ_TOKENS = {"cpu": 512}
"""Tokens of newcomers, padding included, that are read before the others get their next token; a long prompt may have
more, alone."""
READ_TOKENS_ELSEWHERE = 8192
NO_TOKEN = -1
"""Where the logits are no numbers: the other texts of the batch go on."""


def _always() -> bool:
    return True


@dataclass(eq=False)
class RunningText:
    """A text that is being written.

    Args:
        prompt: Its tokens; the model has positions for at least one more.
        max_new_tokens: Where it is cut if it does not end by itself, and if the model's positions do not end before.
        temperature: 0: always the most likely token; else tokens are drawn, from all of them.
        on_tokens: Is given all tokens so far, whenever there is a new one.
        is_wanted: Is asked at each token whether the text is still wanted.
        ids: What is written so far, without the end token.
        has_ended: Whether it is whole.
        has_failed: Whether it ended because the model's logits were no numbers.
    """

    prompt: Sequence[int]
    max_new_tokens: int
    temperature: float = 0.0
    on_tokens: Callable[[list[int]], None] | None = None
    is_wanted: Callable[[], bool] = _always
    ids: list[int] = field(default_factory=list)
    has_ended: bool = False
    has_failed: bool = False

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be written."""
        return self.has_ended or not self.is_wanted()

    def take(self, token: int, ends: Container[int]) -> None:
        """The model's next token."""
        self.has_failed = token == NO_TOKEN
        self.has_ended = self.has_failed or token in ends
        if not self.has_ended:
            self.ids.append(token)
            self.has_ended = len(self.ids) >= self.max_new_tokens
            if self.on_tokens is not None:
                self.on_tokens(self.ids)


class RunningBatch:
    """Writes texts together; each may come at any time.

    What is written does not depend on who else is there, but for the rounding of sums in batches of another size.

    Args:
        model: In eval mode; one that :func:`can_be_joined`.
        inference: How the model is asked: its device and precision.
        ends: The tokens of which each ends a text.
    """

    def __init__(self, model: nn.Module, inference: Inference, ends: Sequence[int]) -> None:
        self._model, self._inference, self._ends = model, inference, frozenset(ends)
        self._waiting: deque[RunningText] = deque()
        self._texts: list[RunningText] = []
        self._cache: Any = None
        self._mask: Tensor | None = None
        device = next(model.parameters()).device.type
        self._read_tokens = READ_TOKENS.get(device, READ_TOKENS_ELSEWHERE)
        takes = inspect.signature(language_model(model).forward).parameters
        self._more: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._texts)

    def add(self, text: RunningText) -> None:
        """Let a text join; it is read in one of the next steps, in the order of coming."""
        text.max_new_tokens = min(text.max_new_tokens, text_room(self._model, self._inference, len(text.prompt)))
        text.has_ended = text.max_new_tokens < 1
        self._waiting.append(text)

    def step(self) -> list[RunningText]:
        """Read newcomers, and write a token of each text.

        Returns:
            The texts that have ended, those that nobody wants any more among them.
        """
        import torch

        with torch.inference_mode():
            ended = self._leave()
            if newcomers := self._newcomers():
                self._join(newcomers)
                ended += self._leave()
            if self._texts:
                self._write()
                ended += self._leave()
        return ended

    def _newcomers(self) -> list[RunningText]:
        chosen: list[RunningText] = []
        while self._waiting:
            longest = max(len(text.prompt) for text in (*chosen, self._waiting[0]))
            if chosen and longest * (len(chosen) + 1) > self._read_tokens:
                break
            chosen.append(self._waiting.popleft())
        return chosen

    def _join(self, texts: Sequence[RunningText]) -> None:
        import torch
        from transformers import DynamicCache

        cache: Any = DynamicCache(config=language_model(self._model).config)
        longest = max(len(text.prompt) for text in texts)
        paddings = [longest - len(text.prompt) for text in texts]
        rows = [[*[0] * left, *text.prompt] for left, text in zip(paddings, texts, strict=True)]
        mask = torch.tensor([[0] * left + [1] * (longest - left) for left in paddings])
        self._next_tokens(texts, cache, torch.tensor(rows), mask, (mask.cumsum(1) - 1).clamp(min=0))
        if self._mask is None:
            self._cache, self._mask = cache, mask
        else:
            self._mask = torch.cat(_of_one_length(self._mask, mask, dim=1))
            for own, new in zip(self._cache.layers, cache.layers, strict=True):
                own.keys = torch.cat(_of_one_length(own.keys, new.keys, dim=2))
                own.values = torch.cat(_of_one_length(own.values, new.values, dim=2))
        self._texts += texts

    def _write(self) -> None:
        import torch

        assert self._mask is not None  # noqa: S101 - there are texts
        positions = self._mask.sum(1, keepdim=True)
        self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=1)
        last = torch.tensor([[text.ids[-1]] for text in self._texts])
        self._next_tokens(self._texts, self._cache, last, self._mask, positions)

    def _next_tokens(
        self, texts: Sequence[RunningText], cache: Any, ids: Tensor, mask: Tensor, positions: Tensor
    ) -> None:
        """Read tokens (rows × length), and give each text its next one."""

        def ask(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
            logits = model(**batch, past_key_values=cache, use_cache=True, **self._more).logits[:, -1].float()
            are_numbers = logits.amax(-1).isfinite()
            logits = logits.where(are_numbers[:, None], 0)
            tokens: Tensor = logits.argmax(-1)
            for row, text in enumerate(texts):
                if is_drawn(text.temperature):
                    tokens[row] = (logits[row] / text.temperature).softmax(-1).multinomial(1)[0]
            return tokens.where(are_numbers, NO_TOKEN)

        batch = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        for text, token in zip(texts, self._inference.compute(ask, self._model, batch).tolist(), strict=True):
            text.take(token, self._ends)

    def _leave(self) -> list[RunningText]:
        """Take out the texts that have ended."""
        waiting = [text for text in self._waiting if text.is_over]
        if waiting:
            self._waiting = deque(text for text in self._waiting if text not in waiting)
        over = [text.is_over for text in self._texts]
        if any(over):
            ended = [text for text, is_over in zip(self._texts, over, strict=True) if is_over]
            self._keep([row for row, is_over in enumerate(over) if not is_over])
            return [*waiting, *ended]
        return waiting

    def _keep(self, rows: list[int]) -> None:
        self._texts = [self._texts[row] for row in rows]
        if not rows:
            self._cache = self._mask = None
            return
        assert self._mask is not None  # noqa: S101 - there are texts
        mask = self._mask[rows]
        first = int(mask.any(0).int().argmax())  # before it, only those that have left had tokens
        self._mask = mask[:, first:]
        for layer in self._cache.layers:
            layer.keys = layer.keys[rows, :, first:]
            layer.values = layer.values[rows, :, first:]


def _of_one_length(one: Tensor, other: Tensor, *, dim: int) -> list[Tensor]:
    """Both, the shorter one filled up with zeros on the left."""
    from torch.nn import functional

    length = max(one.shape[dim], other.shape[dim])
    behind = [0, 0] * (one.ndim - 1 - dim)
    return [functional.pad(each, [*behind, length - each.shape[dim], 0]) for each in (one, other)]


def can_be_joined(model: nn.Module, inference: Inference) -> bool:
    """Whether texts of this model can be put side by side while they are written.

    They can where all that a model keeps of a text are keys and values of each of its tokens, and where it is told the
    tokens' positions. So not with virtual tokens, an encoder, windows of attention, recurrent states, or positions
    whose frequencies depend on the longest text of a batch. A pass over two tokens shows what it keeps.

    Args:
        model: A language model under whatever wraps it, in eval mode.
        inference: How it is asked.
    """
    import torch
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    language = language_model(model)
    takes = inspect.signature(language.forward).parameters
    if (
        inference.virtual_tokens
        or is_encoder_decoder(language)
        or not {"position_ids", "past_key_values"} <= set(takes)
    ):
        return False
    if any(_frequencies_change(module) for module in model.modules()):
        return False
    cache: Any = DynamicCache(config=language.config)
    if not all(type(layer) is DynamicLayer for layer in cache.layers):
        return False

    def ask(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        logits: Tensor = model(**batch, past_key_values=cache, use_cache=True).logits
        return logits

    ones = torch.ones(1, 2, dtype=torch.long)
    with torch.inference_mode():
        inference.compute(ask, model, {"input_ids": ones, "attention_mask": ones, "position_ids": ones.cumsum(1) - 1})
    return bool(cache.layers) and all(
        type(layer) is DynamicLayer and layer.get_seq_length() == 2 for layer in cache.layers
    )


def _frequencies_change(module: Any) -> bool:
    types = getattr(module, "rope_type", None)
    names = types.values() if isinstance(types, dict) else [types]
    return any(name is not None and ("dynamic" in name or name == "longrope") for name in names)
