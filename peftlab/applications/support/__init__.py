"""Customer service: intents, a company's FAQ and past answers, a language model that is checked, and people.

What a company has is a table of dialogues and a FAQ. The parts learn from them; how sure an answer must be is chosen on
questions that nothing learned from, so that a stated share of the answers is wrong at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PositiveInt

from peftlab.core.application import APPLICATIONS, Application, Hosting, Part, Workplace
from peftlab.core.audit import Findings

if TYPE_CHECKING:
    from starlette.types import ASGIApp


@APPLICATIONS.register("support")
class Support(Application):
    """Answer customers from a FAQ and past dialogues; what is not sure goes to a person."""

    needs_packages: ClassVar[Mapping[str, str]] = {"bm25s": "support"}
    computes_at_once: ClassVar[int] = 2  # one question reads while one answer is written

    dialogues: str = Field(
        description="Address of a table: `dialogue`, `role` (customer or agent), `text`; customers' rows may have "
        "`intent` and `faq` (which entry answers), and dialogues a `split`: train, validation, calibration or test."
    )
    faq: str = Field(
        description="Address of a table (`question`, `answer`, and perhaps `id` and `intent`), or of a folder of .md "
        "and .txt files."
    )
    out_of_scope: str = Field("out_of_scope", description="The intent of questions that nothing in the FAQ answers.")
    embedding: Part = Field(description="Finds entries: a recipe of text_embedding.")
    intents: Part | None = Field(None, description="Tells what a customer wants: a recipe of text_classification.")
    reranking: Part | None = Field(None, description="Orders the best entries anew: a recipe of reranking.")
    writer: Part | None = Field(
        None, description="Writes an answer from the entries found: a recipe of instruction_tuning. null: nobody does."
    )
    error_rate: float = Field(
        0.02, gt=0, lt=1, description="Of what is answered without a person, at most this share is wrong."
    )
    certainty: float = Field(
        0.95, gt=0.5, lt=1, description="How sure that bound is, over the questions that it was chosen on."
    )
    validation_fraction: float = Field(
        0.1, gt=0, lt=0.5, description="Share of dialogues on which parts and weights are chosen."
    )
    calibration_fraction: float = Field(
        0.1, gt=0, lt=0.5, description="Share of dialogues on which only the bounds are chosen."
    )
    test_fraction: float = Field(0.2, gt=0, lt=0.5, description="Share of dialogues that only `app evaluate` reads.")
    reranked: PositiveInt = Field(5, description="So many entries are ordered anew.")
    passages: PositiveInt = Field(3, description="So many entries are shown to the writer, and as its sources.")
    quotable: float = Field(
        0.8,
        gt=0,
        le=1,
        description="Written answers are made of this share of the FAQ's sentences: of those most like the rest of "
        "their entry. What somebody has planted is seldom among them.",
    )
    max_new_tokens: PositiveInt = Field(80, description="Where a written answer is cut.")
    evaluated_texts: PositiveInt = Field(40, description="`app evaluate` lets so many answers be written.")

    @property
    def considered(self) -> int:
        """Entries that are ordered: those that are read again, and no fewer than are shown."""
        return max(self.reranked, self.passages)

    def check(self, place: Workplace) -> None:
        """Read both tables."""
        from peftlab.applications.support.company import read_company

        read_company(self, place)

    def prepare(self, place: Workplace) -> Mapping[str, Mapping[str, Any]]:
        """Write a table for each part, and all questions with their splits."""
        from peftlab.applications.support.lessons import write_lessons

        return write_lessons(self, place)

    def build(self, place: Workplace) -> None:
        """Make the index, weigh the parts, and choose the bounds."""
        from peftlab.applications.support.fitting import fit

        fit(self, place)

    def evaluate(self, place: Workplace) -> Findings:
        """Ask the test questions."""
        from peftlab.applications.support.judging import judge

        return judge(self, place)

    def open_app(self, place: Workplace, hosting: Hosting) -> ASGIApp:
        """The customers' chat, the agents' desk, and the API."""
        from peftlab.applications.support.site import open_site

        return open_site(self, place, hosting)
