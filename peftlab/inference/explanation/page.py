"""An explanation for people: coloured text, in the terminal and as a page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftlab.core.files import write_text
from peftlab.inference.predict import rounded

if TYPE_CHECKING:
    from peftlab.inference.explanation.attributions import Explanation

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{{ explanation.run }}</title>
<style>
:root { color-scheme: light dark; --page: #fdfdfc; --text: #1c1e21; --muted: #5d646d; --line: #dddcd6;
  --for: 40 110 220; --against: 230 120 20; --strongest: .7; }
@media (prefers-color-scheme: dark) {
  :root { --page: #15171a; --text: #e6e7e9; --muted: #9aa2ac; --line: #31353b;
    --for: 60 120 215; --against: 205 100 15; --strongest: .65; }
}
* { box-sizing: border-box; }
body { font: 16px/1.6 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem;
  background: var(--page); color: var(--text); overflow-wrap: anywhere; -webkit-text-size-adjust: 100%; }
h1 { font-size: 1.5rem; line-height: 1.25; }
.tokens { line-height: 2; }
.tokens span { padding: .15rem .1rem; border-radius: .2rem; white-space: pre-wrap;
  background: rgb(var(--tone) / calc(var(--share) * var(--strongest))); }
.for { --tone: var(--for); } .against { --tone: var(--against); }
.key span { padding: 0 .3rem; border-radius: .2rem; background: rgb(var(--tone) / var(--strongest)); }
table { border-collapse: collapse; }
td, th { padding: .1rem 0; text-align: left; border-bottom: 1px solid var(--line); }
td:last-child, th:last-child { padding-left: 1.5rem; text-align: right; font-variant-numeric: tabular-nums; }
.note { color: var(--muted); font-size: .9rem; }
</style>
</head>
<body>
<h1>{{ explanation.run }}</h1>
<p class="key">Prediction: <strong>{{ decision }}</strong>. What each token added to the logit of
<strong>{{ explanation.target }}</strong>: <span class="for">for it</span>, <span class="against">against it</span>.</p>
<p class="tokens">
{%- for row in rows %}{{ " " if row.after_blank }}<span class="{{ row.kind }}" title="{{ row.value }}" style="--share:
{{- row.share }}">{{ row.token }}</span>{% endfor %}</p>
<table><thead><tr><th>token</th><th>attribution</th></tr></thead>
<tbody>
{% for row in rows %}<tr><td>{{ row.token }}</td><td>{{ row.value }}</td></tr>
{% endfor %}</tbody></table>
<p class="note">{{ completeness }}</p>
</body></html>
"""


LARGE_GAP = 0.05
"""Share of the greatest value; with a larger gap a reader is told not to trust the values."""


@dataclass(frozen=True)
class Row:
    """A token as the page shows it."""

    token: str
    after_blank: bool
    value: str
    kind: str
    share: str


def decision(explanation: Explanation) -> str:
    """What the model says, as people write it: a number with the digits that mean something, labels in a row."""
    said = rounded(explanation.prediction)
    return (", ".join(map(str, said)) or "no label") if isinstance(said, list) else str(said)


def completeness(explanation: Explanation) -> str:
    """The check that the attributions make up the whole difference, in sentences."""
    difference, gap = explanation.logit - explanation.baseline_logit, explanation.completeness_gap
    told = (
        f"Check: the logit of {explanation.target} is {_signed(explanation.logit)}, and "
        f"{_signed(explanation.baseline_logit)} with padding in the place of the text. The tokens add up to "
        f"{_signed(sum(explanation.attributions))} of the difference {_signed(difference)} (gap {_signed(gap)}, "
        f"{explanation.steps} steps)."
    )
    if abs(gap) <= LARGE_GAP * max(map(abs, (difference, *explanation.attributions))):
        return told
    return f"{told} The gap is large, so these values are not exact; more --steps may mend it."


def write_page(explanation: Explanation, path: Path | str) -> None:
    """Write the explanation as one HTML file without scripts."""
    path = Path(path)
    import jinja2

    rows = [
        Row(token, after_blank, f"{value:+.4f}", "for" if value > 0 else "against", f"{share:.3f}")
        for (token, value, share), after_blank in zip(_rows(explanation), explanation.after_blank, strict=True)
    ]
    page = jinja2.Environment(autoescape=True).from_string(PAGE)
    write_text(
        path,
        page.render(
            explanation=explanation, rows=rows, completeness=completeness(explanation), decision=decision(explanation)
        ),
    )


def coloured_text(explanation: Explanation) -> Any:
    """The tokens as ``rich`` text: blue for the target, orange against it."""
    from rich.text import Text

    text = Text()
    for at, (token, value, share) in enumerate(_rows(explanation)):
        tone = [round(255 - share * (255 - full)) for full in ((40, 110, 220) if value > 0 else (230, 120, 20))]
        if at and explanation.after_blank[at]:
            text.append(" ")
        text.append(token, style=f"black on rgb({tone[0]},{tone[1]},{tone[2]})")
    return text


def _signed(value: float) -> str:
    return f"{round(value, 4) + 0.0:+.4f}"  # + 0.0: no -0.0000


def _rows(explanation: Explanation) -> list[tuple[str, float, float]]:
    """Token, attribution, and its size as a share of the greatest."""
    largest = max(map(abs, explanation.attributions), default=0.0) or 1.0
    pairs = zip(explanation.tokens, explanation.attributions, strict=True)
    return [(token, value, abs(value) / largest) for token, value in pairs]
