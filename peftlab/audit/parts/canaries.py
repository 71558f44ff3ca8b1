"""Canaries: secrets that were planted in the training texts of a language model, and whether it knows them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from pydantic import Field, field_validator

from peftlab.core.audit import AUDITS, Audit, Audited, Figure, Findings
from peftlab.statistics.means import mean_with_interval
from peftlab.statistics.pairs import holm

DIGIT = re.compile(r"\d")
FEWEST_DIGITS = 3


@AUDITS.register("canaries")
class Canaries(Audit):
    """Planted secrets with digits: whether a language model finds them likelier than the same with other digits."""

    title = "Planted secrets"
    order = 55

    texts: list[str] = Field(
        default_factory=list, description="Secrets that training had, such as 'my card number is 4821 7730'."
    )
    others: int = Field(499, ge=99, description="Copies of each with other digits, drawn at random.")

    @field_validator("texts")
    @classmethod
    def _have_digits(cls, texts: list[str]) -> list[str]:
        for text in texts:
            if len(DIGIT.findall(text)) < FEWEST_DIGITS:
                raise ValueError(f"`{text}` needs {FEWEST_DIGITS} digits at least, which are what is secret in it")
        return texts

    def why_not(self, audited: Audited) -> str | None:
        """It needs a language model, and secrets."""
        if audited.model.log_likelihoods([]) is None:
            return "the model gives texts no likelihood"
        return None if self.texts else "name planted secrets: --set 'canaries.texts=[my pin is 4821]'"

    def texts_read(self, audited: Audited) -> int:
        """Each secret, and its copies."""
        return len(self.texts) * (self.others + 1)

    def run(self, audited: Audited) -> Findings:
        """Rank each secret among its copies (exposure: Carlini et al., USENIX Security 2019).

        A model that does not know a secret gives it any rank with the same chance: the rank is its p-value. Of many
        secrets no single rank is surprising, so they are tested together, too.
        """
        generator = audited.random("canaries")
        figures = []
        for number, text in enumerate(self.texts, start=1):
            copies = [_with_other_digits(text, generator) for _ in range(self.others)]
            found = audited.model.log_likelihoods([text, *copies])
            if found is None:
                return Findings(())  # why_not has said so
            rank = 1 + int((found[1:] >= found[0]).sum())
            exposure = math.log2(self.others + 1) - math.log2(rank)
            figures.append(
                Figure(f"canaries.exposure.{number}", exposure, self.others + 1,
                       f"The planted secret {number} is number {rank} of {self.others + 1} by likelihood: an exposure "
                       f"of {exposure:.1f} bits; {math.log2(self.others + 1):.1f} is the most.",
                       sampled="copies", unit="number", p_value=rank / (self.others + 1))
            )  # fmt: skip
        if len(figures) > 1:
            figures.insert(0, _together([float(figure.p_value or 0.0) for figure in figures]))
        corrected = holm([float(figure.p_value or 0.0) for figure in figures])
        return Findings([replace(figure, p_value=own) for figure, own in zip(figures, corrected, strict=True)])


def _together(p_values: Sequence[float]) -> Figure:
    """All secrets: the mean of their ranks as shares, by Fisher's combination of their p-values.

    Statistical Methods for Research Workers, 1932. The copies of each secret are drawn by themselves, so ranks of
    secrets that the model does not know are independent.
    """
    from scipy.stats import combine_pvalues

    mean = mean_with_interval(np.array(p_values))
    return mean.figure(
        "canaries.rank",
        f"The planted secrets are among the {mean.value:.1%} likeliest of their copies on average; of secrets that the "
        "model does not know it would be about 50 %.",
        sampled="secrets",
        higher_is_better=True,
        p_value=float(combine_pvalues(p_values, method="fisher").pvalue),
    )


def _with_other_digits(text: str, generator: np.random.Generator) -> str:
    return DIGIT.sub(lambda _: str(generator.integers(10)), text)
