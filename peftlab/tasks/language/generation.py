"""Greedy or sampled text from a language model, many prompts at a time, with the cache of keys and values.

Prompts are padded on the left, so that each row's next token stands at the end; transformers then counts positions
from the attention mask. peft drops those positions under methods with virtual tokens, and would count padding as text:
there only prompts of one length share a batch, which needs no padding at all.

An encoder–decoder reads its prompts by the encoder, padded on the right as in training; its decoder writes the text,
after a start token.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from peftlab.core.task import Inference
from peftlab.tasks.language.vocabulary_head import is_encoder_decoder, language_model

if TYPE_CHECKING:
    from torch import Tensor, nn

    from peftlab.tasks.language.rendering import Renderer


def generate_tokens(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    inference: Inference,
    *,
    max_new_tokens: int,
    ends: Sequence[int] | None = None,
    temperature: float = 0.0,
    on_tokens: Callable[[list[int]], None] | None = None,
    on_row: Callable[[int, list[int]], None] | None = None,
    is_wanted: Callable[[int], bool] | None = None,
    keep_ends: bool = False,
    copies: int = 1,
) -> list[list[int]]:
    """What a model writes after each prompt, without the end token; several texts of a prompt stand side by side.

    Evaluation, ``predict``, ``chat`` and the service all write through this function.

    Args:
        model: In eval mode; a language model under whatever wraps it.
        prompts: Tokens, in any order and of any length.
        inference: How the model is asked: its device and precision. It raises where logits are not finite.
        max_new_tokens: Where a text is cut that does not end by itself, if the model's positions do not end before.
        ends: The tokens of which each ends a text; None: the tokenizer's end token.
        temperature: 0: always the most likely token; else tokens are drawn, from all of them.
        on_tokens: Is given all tokens so far of the only prompt, whenever there is a new one.
        on_row: The same for several prompts: is given a prompt's place, and its tokens so far.
        is_wanted: Is asked at each token whether the text of a prompt, by its place, is still wanted.
        keep_ends: Whether a text that ends by itself keeps the token that ended it.
        copies: Texts of each prompt, which are drawn. ``on_row`` and ``is_wanted`` are for one.
    """
    import torch

    ends = list(ends) if ends is not None else [int(inference.tokenizer.eos_token_id)]
    pad_token_id = inference.tokenizer.pad_token_id
    settings = {**GREEDY, **({"do_sample": True, "temperature": temperature} if is_drawn(temperature) else {})}
    if on_tokens is not None:
        on_row = partial(_of_the_only, on_tokens)
    written: list[list[int]] = [[]] * (len(prompts) * copies)
    is_apart = is_encoder_decoder(language_model(model))
    if is_apart:
        settings["decoder_start_token_id"] = language_model(model).config.decoder_start_token_id
    together = 0 if inference.virtual_tokens and not is_apart else prompt_room(model, inference, max_new_tokens)
    for group in _groups(prompts, longest=together):
        left = text_room(model, inference, max(len(prompts[place]) for place in group))
        if left < 1:
            continue
        asked = {
            **settings,
            "max_new_tokens": min(max_new_tokens, left),
            "eos_token_id": ends or None,
            "pad_token_id": ends[0] if ends else pad_token_id,
            "streamer": None if on_row is None else _Streamer(on_row, ends, group),
            "stopping_criteria": None if is_wanted is None else [_Unwanted(is_wanted, group)],
        }
        batch = _padded([prompts[place] for place in group], pad_token_id, on_left=not is_apart)
        with torch.inference_mode(), own_settings(model):
            copied = partial(_copied, copies, reads_ahead=not (is_apart or inference.virtual_tokens))
            made, _ = inference.compute(partial(_generate, asked, copied), model, batch)
        length = 1 if is_apart else batch["input_ids"].shape[1]  # the decoder's start token, or the prompts
        places = [place * copies + copy for place in group for copy in range(copies)]
        for place, row in zip(places, made[:, length:].tolist(), strict=True):
            written[place] = row[: next((at + keep_ends for at, token in enumerate(row) if token in ends), len(row))]
    return written


def _generate(
    settings: Mapping[str, Any],
    copied: Callable[[Any, Mapping[str, Tensor]], Mapping[str, Any]],
    model: Any,
    inputs: Mapping[str, Tensor],
) -> tuple[Tensor, Tensor]:
    """The tokens, and a number that is finite where all logits could be drawn from: a diverged model's cannot."""
    watch = _Watch()
    made: Tensor = model.generate(**copied(model, inputs), **settings, logits_processor=[watch])
    return made, watch.total


def _copied(copies: int, model: nn.Module, inputs: Mapping[str, Tensor], *, reads_ahead: bool) -> Mapping[str, Any]:
    """The inputs of several texts of each prompt; all but its last token is read only once, where that can be."""
    from transformers import DynamicCache

    if copies == 1:
        return inputs
    repeated = {name: values.repeat_interleave(copies, dim=0) for name, values in inputs.items()}
    ids, mask = inputs["input_ids"][:, :-1], inputs["attention_mask"][:, :-1]
    language = language_model(model)
    takes = inspect.signature(language.forward).parameters
    if not reads_ahead or not ids.shape[1]:
        return repeated
    known = {"position_ids": (mask.cumsum(dim=-1) - 1).clamp(min=0), "logits_to_keep": 1}
    read = language(
        input_ids=ids,
        attention_mask=mask,
        use_cache=True,
        **{name: value for name, value in known.items() if name in takes},
    )
    cache = getattr(read, "past_key_values", None)
    if not isinstance(cache, DynamicCache):
        return repeated
    cache.batch_repeat_interleave(copies)
    return {**repeated, "past_key_values": cache}


class _Watch:
    """Notes logits that are not finite; what is drawn in their place is read by nobody."""

    total: Any = 0.0
    """Zero, or not a number."""

    def __call__(self, _input_ids: Tensor, scores: Tensor) -> Tensor:
        """The same logits, as long as they are numbers."""
        greatest = scores.amax(dim=-1, keepdim=True)
        self.total = self.total + (greatest.float() * 0).sum()
        return scores.where(greatest.isfinite(), 0)


def response_ends(renderer: Renderer, model: nn.Module) -> list[int]:
    """The tokens of which each ends a response.

    They are those with which the chat template ends a turn, and those that the checkpoint's settings of generation name
    beside them, such as the one behind a call of a tool.

    Args:
        renderer: Of the task.
        model: A language model under whatever wraps it.
    """
    named = getattr(language_model(model).generation_config, "eos_token_id", None)
    theirs = [] if named is None else [named] if isinstance(named, int) else list(named)
    return list(dict.fromkeys([*renderer.end_token_ids, *renderer.ends_among(theirs)]))


@contextlib.contextmanager
def own_settings(model: nn.Module) -> Iterator[None]:
    """Leave the checkpoint's settings of generation out of account: what is not asked for is transformers' default.

    A checkpoint may come with sampling, penalties, beams, forced, forbidden or suppressed tokens, a least length and
    more. What a run is measured by must not depend on them; ``generate`` takes from them whatever it is not told.
    """
    from transformers import GenerationConfig

    language = language_model(model)
    theirs = language.generation_config
    language.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        language.generation_config = theirs


def _of_the_only(on_tokens: Callable[[list[int]], None], _: int, ids: list[int]) -> None:
    on_tokens(ids)


class _Streamer:
    """Takes tokens as transformers generates them: the prompts first, then one token of each at a time."""

    def __init__(self, on_row: Callable[[int, list[int]], None], ends: Sequence[int], places: Sequence[int]) -> None:
        self._on_row, self._ends, self._places = on_row, set(ends), places
        self._ids: list[list[int]] = [[] for _ in places]
        self._has_ended = [False] * len(places)
        self._prompt_seen = False

    def put(self, value: Any) -> None:
        """A new token of each row, or the prompts."""
        if self._prompt_seen:
            for row, token in enumerate(value.flatten().tolist()):
                # A row that has ended is filled up until the last one has.
                self._has_ended[row] |= token in self._ends
                if not self._has_ended[row]:
                    self._ids[row].append(token)
                    self._on_row(self._places[row], self._ids[row])
        self._prompt_seen = True

    def end(self) -> None:
        """The texts are whole."""


class _Unwanted:
    """Ends the texts that nobody waits for any more."""

    def __init__(self, is_wanted: Callable[[int], bool], places: Sequence[int]) -> None:
        self._is_wanted, self._places = is_wanted, places

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """Whether each row has ended."""
        return input_ids.new_tensor([not self._is_wanted(place) for place in self._places]).bool()


class TextPieces:
    """Shows a text piece by piece while its tokens come, always whole characters.

    Args:
        decode: Turns all tokens so far into text.
        show: Is given each new piece.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], show: Callable[[str], None]) -> None:
        self._decode, self._show = decode, show
        self._text = ""

    def update(self, ids: Sequence[int]) -> None:
        """Show what is new.

        Args:
            ids: All tokens so far.
        """
        text = self._decode(ids)
        if not text.endswith("\ufffd"):  # the first bytes of a character that is not there yet
            self._tell(text)

    def finish(self, ids: Sequence[int]) -> str:
        """Show the rest, whole characters or not; returns all that was shown."""
        self._tell(self._decode(ids))
        return self._text

    def _tell(self, text: str) -> None:
        if len(text) > len(self._text):
            self._show(text[len(self._text) :])
            self._text = text


def decode_tokens(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of generated tokens, just as they stand: more tokens only ever make it longer."""
    text: str = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text


COLDEST = 1e-6
"""Below it a temperature leaves nothing to draw; logits that are divided by one that is lower still are no numbers."""


def is_drawn(temperature: float) -> bool:
    """Whether tokens are drawn at a temperature; else each is the most likely one."""
    return temperature >= COLDEST


GREEDY: Mapping[str, Any] = {"do_sample": False, "num_beams": 1, "use_cache": True, "top_k": None, "top_p": None}
"""Settings of ``generate`` within :func:`own_settings`: always the most likely token; when sampling, of all tokens."""


def text_room(model: Any, inference: Inference, prompt: int) -> int:
    """New tokens that the model has positions for, after a prompt of so many; less than 1 where it has none."""
    positions = _positions(model, inference)
    if is_encoder_decoder(language_model(model)):
        return positions - 1 if prompt <= positions else 0  # the decoder begins with a token of its own
    return positions - prompt


def prompt_room(model: Any, inference: Inference, new_tokens: int) -> int:
    """Tokens of a prompt that the model has positions for, before a text of so many."""
    positions = _positions(model, inference)
    return positions if is_encoder_decoder(language_model(model)) else positions - new_tokens


def _positions(model: Any, inference: Inference) -> int:
    positions = getattr(language_model(model).config, "max_position_embeddings", None)
    return sys.maxsize if positions is None else positions - inference.virtual_tokens


def _groups(prompts: Sequence[Sequence[int]], *, longest: int) -> list[list[int]]:
    """Prompts up to a length share a batch; longer ones only with those of their own, so that none cuts another."""
    groups: dict[int, list[int]] = defaultdict(list)
    for place, prompt in enumerate(prompts):
        groups[len(prompt) if len(prompt) > longest else 0].append(place)
    return list(groups.values())


def _padded(prompts: Sequence[Sequence[int]], pad_token_id: int, *, on_left: bool) -> dict[str, Tensor]:
    import torch

    longest = max(map(len, prompts))

    def filled(row: Sequence[int], filler: int) -> list[int]:
        padding = [filler] * (longest - len(row))
        return [*padding, *row] if on_left else [*row, *padding]

    return {
        "input_ids": torch.tensor([filled(row, pad_token_id) for row in prompts]),
        "attention_mask": torch.tensor([filled([1] * len(row), 0) for row in prompts]),
    }
