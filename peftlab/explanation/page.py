"""An explanation for people: coloured text, in the terminal and as a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftlab.files import write_text

if TYPE_CHECKING:
    from peftlab.explanation.attributions import Explanation

PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{{ explanation.run }}</title>
<style>
body { font: 16px/1.6 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
.tokens span { padding: .15rem .3rem; border-radius: .2rem; display: inline-block; margin: .1rem; }
table { border-collapse: collapse; } td, th { padding: .1rem .8rem; text-align: right; }
td:first-child { text-align: left; }
</style></head>
<body>
<h1>{{ explanation.run }}</h1>
<p>Prediction: <strong>{{ explanation.prediction }}</strong>. What each token added to the logit of
<strong>{{ explanation.target }}</strong>: blue for it, orange against it.</p>
<p class="tokens">{% for token, value, share in rows -%}
{% set colour = '40,110,220' if value > 0 else '230,120,20' -%}
<span title="{{ '%+.4f' | format(value) }}"
style="background: rgba({{ colour }},{{ '%.3f' | format(share * 0.75) }})">{{ token }}</span>
{% endfor %}</p>
<table><tr><th>token</th><th>attribution</th></tr>
{% for token, value, _ in rows %}<tr><td>{{ token }}</td><td>{{ '%+.4f' | format(value) }}</td></tr>
{% endfor %}</table>
<p>{{ completeness }}</p>
</body></html>
"""


def completeness(explanation: Explanation) -> str:
    """The check that the attributions make up the whole difference, as a sentence."""
    difference = explanation.logit - explanation.baseline_logit
    return (
        f"Completeness: the logit is {explanation.logit:+.4f}, that of padding {explanation.baseline_logit:+.4f}; "
        f"of the difference {difference:+.4f} the attributions make up {sum(explanation.attributions):+.4f} "
        f"(gap {explanation.completeness_gap:+.4f}, {explanation.steps} steps)."
    )


def write_page(explanation: Explanation, path: Path) -> None:
    """Write the explanation as one HTML file without scripts."""
    import jinja2

    environment = jinja2.Environment(autoescape=True)
    page = environment.from_string(PAGE)
    write_text(
        path, page.render(explanation=explanation, rows=_rows(explanation), completeness=completeness(explanation))
    )


def coloured_text(explanation: Explanation) -> Any:
    """The tokens as ``rich`` text: blue for the target, orange against it."""
    from rich.text import Text

    text = Text()
    for token, value, share in _rows(explanation):
        tone = [round(255 - share * (255 - full)) for full in ((40, 110, 220) if value > 0 else (230, 120, 20))]
        text.append(token, style=f"black on rgb({tone[0]},{tone[1]},{tone[2]})")
        text.append(" ")
    return text


def _rows(explanation: Explanation) -> list[tuple[str, float, float]]:
    """Token, attribution, and its size as a share of the greatest."""
    largest = max(map(abs, explanation.attributions), default=0.0) or 1.0
    pairs = zip(explanation.tokens, explanation.attributions, strict=True)
    return [(token, value, abs(value) / largest) for token, value in pairs]
