"""``peftlab export``: a run for other tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from peftlab.artifact.export_formats import FORMATS, ExportFormat
from peftlab.cli.computing import start_computing
from peftlab.cli.json_object import print_result
from peftlab.cli.options import Device, Json, Offline, ThreadCount
from peftlab.cli.output import reporting
from peftlab.cli.verbs import verb
from peftlab.core.amounts import size

Combine = Literal["linear", "ties", "dare"]


@verb()
def export(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN…", help="Folders of runs. Several runs are merged into one model.", show_default=False
        ),
    ],
    kind: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            help=" ".join(f"{name}: {form.told}." for name, form in FORMATS.items()),
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option(metavar="DIR", help="The folder to make.", show_default=False)],
    combine: Annotated[Combine, typer.Option(help="How several LoRA runs are merged.")] = "linear",
    weights: Annotated[
        str | None, typer.Option(metavar="W,W…", help="A weight for each run. Default: equal weights.")
    ] = None,
    density: Annotated[float, typer.Option(min=0.01, max=1, help="Share of the values that ties and dare keep.")] = 0.5,
    max_score_loss: Annotated[
        float | None,
        typer.Option(
            help="How much the recipe's metric may get worse. Default: 0.001, or 0.01 for gguf, onnx-int8 and "
            "quantised bases."
        ),
    ] = None,
    device: Device = "auto",
    threads: ThreadCount = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Export a run, and check the export against the run on validation data."""
    with reporting() as reporter:
        from peftlab.core.errors import UserError
        from peftlab.inference.export.compose import Composition, export_composition
        from peftlab.inference.export.export import export_run

        chosen = start_computing(device, threads, reporter.say)
        shared: Any = {"offline": offline, "device": chosen, "reporter": reporter, "max_score_loss": max_score_loss}
        if len(runs) == 1:
            if weights is not None:
                raise UserError("weights are only for merging several runs, and there is one run", where="--weights")
            done = export_run(runs[0], kind, output, **shared)
        else:
            composition = Composition(combine, _numbers(weights), density)
            done = export_composition(runs, composition, kind, output, **shared)
    if as_json:
        print_result(json.dumps({"output": str(output), **done.model_dump(mode="json")}, indent=2))
    else:
        print(_summary(done, output))


def _numbers(text: str | None) -> tuple[float, ...]:
    from peftlab.core.errors import UserError

    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise UserError(f"`{text}` is no list of numbers", where="--weights", hint="As in --weights 0.7,0.3.") from None


def _summary(done: Any, output: Path) -> str:
    from peftlab.core.files import folder_bytes

    check = done.check
    lines = [f"{done.name}: exported as {done.format} to {output} ({size(folder_bytes(output))})"]
    lines.append(f"  checked on           {check.examples} {check.split} examples")
    lines.append(f"  logits differ by     {check.greatest_logit_difference:.3g} at most")
    lines.append(f"  equal predictions    {check.equal_predictions:.2%}")
    for name, value in check.scores.items():
        if name in check.run_scores:
            lines.append(f"  {name:<20} {value:.4f} (the run: {check.run_scores[name]:.4f})")
    if check.logit_drift_of_dequantization is not None:
        lines.append(f"  dequantising moved a logit by {check.logit_drift_of_dequantization:.3g} at most")
    for part in done.composed_of:
        scores = ", ".join(f"{name} {part.run_scores[name]:.4f} → {value:.4f}" for name, value in part.scores.items())
        lines.append(
            f"  {part.folder} (weight {part.weight:.3g}), by itself → merged, on its {part.split} split: {scores}"
        )
    return "\n".join(lines)
