"""A conversation with the model of a run, or with its base for comparison."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from peftlab.artifact.saved_run import SavedRun
from peftlab.core.devices import choose_device
from peftlab.core.errors import UserError
from peftlab.core.reporter import ProgressCallback
from peftlab.inference.free_memory import free_memory
from peftlab.inference.generate import generating_task
from peftlab.inference.load_tuned import load_run, load_untuned
from peftlab.inference.tuned_model import TunedModel
from peftlab.tasks.language.conversations import Conversation
from peftlab.tasks.language.generation import TextPieces, decode_tokens, generate_tokens, prompt_room, response_ends
from peftlab.training.micro_batches import is_out_of_memory

TUNED, BASE = "tuned", "none"


class ChatSession:
    """Multi-turn, streaming; every model is loaded when it is first asked.

    Args:
        run: The folder of a run of ``instruction_tuning`` or ``text_generation``, or of ``causal_lm``.
        max_new_tokens: Where an answer is cut.
        temperature: 0: greedy.
        seed: Of sampling.
        offline: Allow no network.
        device: Where it computes; None: CUDA where it is there.
        report: Is told of downloads, and of settings that count in training alone.

    Raises:
        UserError: There is no such run, or it is none that one can talk to.
    """

    def __init__(
        self,
        run: Path | str,
        *,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
        offline: bool = False,
        device: torch.device | None = None,
        report: ProgressCallback | None = None,
    ) -> None:
        self._report = report
        self._device = device or choose_device()
        self._first = SavedRun.open(run)
        self._renderer = generating_task(self._first).renderer(self._first.tokenizer)
        self._offline, self._max_new_tokens, self._temperature = offline, max_new_tokens, temperature
        self._models: dict[str, TunedModel] = {}
        self._messages: list[dict[str, Any]] = []
        self._name = TUNED
        self._model()
        torch.manual_seed(seed)  # once the model is there: to load it may start a card, whose generator begins then

    @property
    def description(self) -> str:
        """Who answers."""
        recipe = self._first.recipe
        base = recipe.model.path or "a model that started from nothing"
        return f"{recipe.name}: {base}, tuned with {recipe.method.registered_name}."

    @property
    def tokenizer(self) -> Any:
        """Of the run."""
        return self._first.tokenizer

    def reset(self) -> None:
        """Forget what was said."""
        self._messages.clear()

    def choose(self, name: str) -> str:
        """Let another one answer from now on; what was said stays.

        Args:
            name: ``none`` for the base, ``tuned`` (or the run's name) for the run itself, or another run's folder.

        Returns:
            A sentence on who answers now.

        Raises:
            UserError: There is no such run, or it has another base or tokenizer.
        """
        before = self._name
        self._name = TUNED if name == self._first.recipe.name else name
        try:
            self._model()
        except UserError:
            self._name = before
            raise
        return {BASE: "The base answers now, without an adapter."}.get(self._name, f"{name} answers now.")

    def answer(self, text: str, show: Callable[[str], None] = lambda text: None) -> str:
        """Answer a message.

        Args:
            text: What the user says.
            show: Is given the answer piece by piece, as it is written.
        """
        messages = [*self._messages, {"role": "user", "content": text}]
        ids, _ = self._renderer.fit_prompt(Conversation(messages), self._room(), where="the conversation")
        written = self._write(ids, show)
        self._messages = [*messages, {"role": "assistant", "content": written}]
        return written

    def _write(self, ids: list[int], show: Callable[[str], None]) -> str:
        model, inference = self._model().module()
        pieces = TextPieces(lambda ids: decode_tokens(self.tokenizer, ids), show)
        (written,) = generate_tokens(
            model,
            [ids],
            inference,
            max_new_tokens=self._max_new_tokens,
            ends=response_ends(self._renderer, model),
            temperature=self._temperature,
            on_tokens=pieces.update,
        )
        return pieces.finish(written)

    def _room(self) -> int:
        """Tokens that may have been said: old turns go where the model has too few positions.

        At least half of these are theirs: an answer ends where the positions do.
        """
        model, inference = self._model().module()
        positions = prompt_room(model, inference, 0)
        return max(1, prompt_room(model, inference, min(self._max_new_tokens, positions // 2)))

    def _model(self) -> TunedModel:
        name = self._name
        if name not in self._models:
            run = self._first if name in (TUNED, BASE) else self._other(Path(name))
            try:
                found = self._load(run)
            except Exception as error:
                if not self._models or not is_out_of_memory(error):
                    raise
                found = None
            if found is None:  # beside those that have answered there is no room for it; outside, the error is gone
                self._models.clear()
                free_memory()
                found = self._load(run)
            self._models[name] = found
        return self._models[name]

    def _load(self, run: SavedRun) -> TunedModel:
        if self._name == BASE:
            return load_untuned(run, offline=self._offline, device=self._device)
        return load_run(run, offline=self._offline, device=self._device, report=self._report)

    def _other(self, folder: Path) -> SavedRun:
        other = SavedRun.open(folder)
        generating_task(other)
        if other.tokenizer.get_vocab() != self.tokenizer.get_vocab():
            raise UserError("that run has another tokenizer, so it cannot continue this chat", where=str(folder))
        return other
