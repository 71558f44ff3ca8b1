from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, PrivateAttr

from peftlab.core.errors import ConfigError
from peftlab.core.perturbation import PERTURBATIONS, Perturbation


@PERTURBATIONS.register("paraphrase")
class Paraphrase(Perturbation):
    """The text in other words, as a run that writes puts it; without one it is left out."""

    expects = "nothing"  # what a model gets wrong may be the paraphraser's fault
    what = "another model has put the text in other words"

    model: str | None = Field(None, description="The folder of a run that writes texts, such as a tuned paraphraser.")
    prompt: str = Field("Say the same in other words: {text}", description="What it is told; {text} is the text.")

    _written: dict[str, str] = PrivateAttr(default_factory=dict)

    def why_not(self) -> str | None:
        """It needs a model."""
        return None if self.model else "give a run that writes: [{type: paraphrase, model: runs/my-paraphraser}]"

    def prepare(self, texts: Sequence[str]) -> None:
        """Write all paraphrases, in batches.

        Raises:
            UserError: The model is no run that writes texts.
        """
        from peftlab.audit.audited_run import AuditedRun
        from peftlab.inference.load_tuned import load_tuned

        if self.model is None:
            return
        if "{text}" not in self.prompt:
            raise ConfigError("the prompt needs {text}", where="robustness.perturbations: paraphrase.prompt")
        if not Path(self.model).exists():
            raise ConfigError("no such run", where=f"robustness.perturbations: paraphrase.model: {self.model}")
        open_ones = [text for text in dict.fromkeys(texts) if text not in self._written]
        writer = AuditedRun(load_tuned(self.model, offline=True))
        written = writer.write([self.prompt.replace("{text}", text) for text in open_ones])
        if written is None:
            raise ConfigError(
                "this run writes no texts",
                where=f"robustness.perturbations: paraphrase.model: {self.model}",
                hint="Name a run of instruction_tuning, causal_lm or text_generation.",
            )
        self._written |= dict(zip(open_ones, written, strict=True))

    def change(self, text: str, generator: random.Random) -> str:
        """What was written; the text itself where that is nothing."""
        return self._written.get(text, "").strip() or text
