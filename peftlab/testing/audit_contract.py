"""What every part of an audit must keep: it says what it cannot look at, and its figures are fit for the page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from peftlab.audit.page import render_page
from peftlab.audit.run_audit import build_report
from peftlab.core.audit import AUDITS, Audited, Findings
from peftlab.core.errors import PeftlabError
from peftlab.core.registry import Registry
from peftlab.testing.audited_rows import audited, audited_numbers, audited_tags, split
from peftlab.testing.broken_contract import BrokenContractError, require
from peftlab.testing.chance import asked_twice
from peftlab.testing.figures import require_findings
from peftlab.testing.plugin_contract import PluginContract, Section

ROWS = 60
WORDS = ("good", "fine", "bad", "poor")


def audited_kinds() -> Mapping[str, Audited]:
    """Rows of three kinds of tasks: of classes, of numbers, and of words with a tag each."""
    texts = [f"the {WORDS[at % 4]} film of {1990 + at % 9} is {WORDS[at % 3]}" for at in range(ROWS)]
    labels = ["good" if at % 4 < 2 else "bad" for at in range(ROWS)]
    train = split("train", [f"{text} again" for text in texts[:40]], labels[:40])

    def scores(text: str) -> Sequence[float]:
        good = 0.2 + 0.6 * (text.count("good") + text.count("fine") > 0)
        return [1 - good, good]

    words = [text.split() for text in texts]
    tags = [["B-GOOD" if word in WORDS[:2] else "O" for word in row] for row in words]
    found = {
        "classes": audited(scores, texts, labels, train=train),
        "numbers": audited_numbers(lambda text: float(len(text)), texts, [20.0 + at % 5 for at in range(ROWS)]),
        "tags": audited_tags(lambda word: "B-GOOD" if word == "good" else "O", words, tags),
        "one class": audited(lambda _: [0.1, 0.9], texts[:20], ["good"] * 20),
    }
    for each in found.values():
        groups = [("one", "other")[at % 2] for at in range(len(each))]
        object.__setattr__(each, "rows", replace(each.rows, columns={**each.rows.columns, "group": groups}))
    return found


class AuditContract(PluginContract):
    """The tests of a part of an audit. Inherit them in a file that pytest collects, and say which part they are of.

    .. code-block:: python

        from peftlab.testing import AuditContract


        class TestShouting(AuditContract):
            plugin = {"type": "shouting"}

    It is tried on rows of classes, of numbers, of tags, and of one class alone, which have a column ``group`` too; and
    on ``rows`` of your own.
    """

    registry: ClassVar[Registry[Any]] = AUDITS

    def rows(self) -> Mapping[str, Audited]:
        """Rows by name, on which it is tried besides: such in which it finds something."""
        return {}

    def test_it_gives_figures_or_says_why_not(self, section: Section) -> None:
        """Of all kinds of tasks, since an audit runs all parts; the same in each audit of the same rows."""
        looked, reasons = [], dict[str, None]()
        for kind, rows in {**audited_kinds(), **self.rows()}.items():
            whose = f"{section['type']} on {kind}"
            before = repr((dict(rows.rows.columns), list(rows.predictions)))
            why = _asked(whose, lambda rows=rows: self.build(section).why_not(rows))
            if why is not None:
                require(isinstance(why, str) and why.strip(), f"{whose}: `why_not` gives {why!r}", hint="A sentence.")
                reasons[why] = None
                continue
            findings = asked_twice(
                whose,
                lambda rows=rows, whose=whose: _asked(whose, lambda: self.build(section).run(rows)),  # type: ignore[misc]
                source="`audited.random(purpose)`",
            )
            require_findings(findings, whose, begin=[section["type"]])
            require(
                repr((dict(rows.rows.columns), list(rows.predictions))) == before,
                f"{whose} changes the rows or the predictions, which other parts look at too",
                hint="Make a copy: `audited.rewritten(positions, rewrite)`.",
            )
            self._show(section, rows, findings)
            looked.append(kind)
        require(
            looked,
            f"{section['type']} says nothing of any rows: {'; '.join(reasons)}",
            hint="Write keys into `plugin` with which it can. If it is for other rows: `def rows(self)` in the "
            "class of the tests gives some.",
        )

    def _show(self, section: Section, rows: Audited, findings: Findings) -> None:
        """Write the report and the page."""
        report = build_report(rows, {section["type"]: findings}, {}, data="test", began=0)
        json.dumps(report.model_dump(mode="json"), allow_nan=False)
        render_page(report)


def _asked(whose: str, ask: Any) -> Any:
    __tracebackhide__ = True
    try:
        return ask()
    except PeftlabError as error:
        raise BrokenContractError(
            f"{whose}: {error}", hint="What it cannot look at, it says by `why_not`: an audit runs all parts."
        ) from error
    except Exception as error:
        raise BrokenContractError(
            f"{whose}: {type(error).__name__}: {error}",
            hint="It meets tasks of all kinds. What it cannot look at, it says by `why_not`.",
        ) from error
