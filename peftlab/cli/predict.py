"""``peftlab predict``: what a run says of new texts."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from peftlab.cli.computing import start_computing
from peftlab.cli.json_object import print_result, print_with_items
from peftlab.cli.options import Device, Encoding, Force, Format, Json, Offline, Read, Run, ThreadCount
from peftlab.cli.output import reporting
from peftlab.cli.verbs import verb
from peftlab.core.amounts import plural

if TYPE_CHECKING:
    from peftlab.data.streaming import RowStream
    from peftlab.inference.tuned_model import TunedModel


@verb()
def predict(
    run: Run,
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT…", help="Texts to predict on. A lone `-` reads standard input.", show_default=False
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--input", metavar="FILE", help="A table with the text column. `-` reads standard input."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The file for the answers: .csv, .jsonl or .parquet.")
    ] = None,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Most tokens of an answer. Default: as in the recipe.", show_default=False),
    ] = None,
    force: Force = False,
    file_format: Format = None,
    encoding: Encoding = "utf-8",
    read: Read = None,
    device: Device = "auto",
    threads: ThreadCount = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Predict on texts, a table of any size, or the lines of standard input. Language models write an answer."""
    from peftlab.inference.files import options_in_hints

    if texts == ["-"] and source is None:
        texts, source = None, "-"
    with reporting() as reporter, options_in_hints():
        from peftlab.artifact.saved_export import inputs_of_saved
        from peftlab.inference.load_tuned import load_tuned
        from peftlab.inference.outputs import check_output, write_answers
        from peftlab.inference.predict import answer_rows, check_answers

        if output is not None:
            given = [source] if source is not None else []
            check_output(output, inputs=[*given, *inputs_of_saved(run)], force=force)
        _check_input(texts, source)
        chosen = start_computing(device, threads, reporter.say)
        tuned = load_tuned(run, offline=offline, device=chosen, report=reporter.say)
        check_answers(tuned)
        rows = _rows(tuned, texts, source, file_format, encoding, read or [])
        answers = answer_rows(tuned, rows, reporter, max_new_tokens=max_new_tokens)
        if output is not None:
            cut: list[int] = []
            count = write_answers(output, _noting_cuts(answers, cut))
            summary = {"run": tuned.name, "rows": count, "truncated": len(cut), "output": str(output)}
            print_result(json.dumps(summary) if as_json else f"{plural(count, 'prediction')}: {output}")
        elif as_json:
            _print_object(tuned, answers)
        else:
            _print_lines(tuned, answers)


def _check_input(texts: list[str] | None, source: str | None) -> None:
    from peftlab.core.errors import UserError

    if texts and source is not None:
        raise UserError("texts are given both as arguments and by --input", hint="Leave one of them out.")
    if not texts and source is None and sys.stdin.isatty():
        raise UserError("there is nothing to predict on", hint="Give texts, --input FILE, or lines on standard input.")


def _rows(
    tuned: TunedModel,
    texts: list[str] | None,
    source: str | None,
    file_format: str | None,
    encoding: str,
    settings: list[str],
) -> RowStream:
    from peftlab.data.decoding import open_lines
    from peftlab.data.streaming import stream_file, stream_rows, stream_standard_input
    from peftlab.inference.files import reading_config, refuse_options_without_file, refuse_unread
    from peftlab.inference.predict import input_columns, text_row

    keep, images = input_columns(tuned), tuned.task.image_columns()
    if texts:
        refuse_options_without_file(file_format, encoding, settings)
        rows_of_texts = [text_row(text, tuned) for text in texts]
        return stream_rows("the arguments", rows_of_texts, keep=keep, total=len(texts), image_columns=images)
    if source is not None and source != "-":
        config = reading_config(tuned.recipe, file_format, encoding, settings)
        refuse_unread([Path(source)], config, file_format, settings, has_numbers=False)
        return stream_file(Path(source), config, keep=keep, image_columns=images)
    if file_format is None:
        refuse_options_without_file(None, None, settings)
        lines = open_lines(sys.stdin.buffer, encoding, where="standard input")
        rows = (text_row(line, tuned) for line in lines if line.strip())
        return stream_rows("standard input", rows, keep=keep, image_columns=images)
    config = reading_config(tuned.recipe, file_format, encoding, settings)
    return stream_standard_input(sys.stdin.buffer, config, keep=keep, image_columns=images)


def _print_lines(tuned: TunedModel, answers: Iterable[Mapping[str, Any]]) -> None:
    from peftlab.inference.predict import input_columns

    columns = input_columns(tuned)
    for answer in answers:
        text = "\t".join(_shown(answer[column]) for column in columns if answer.get(column) is not None)
        if "generated" in answer:
            print(f"{_one_line(answer['generated'])}\t{_one_line(text)}", flush=True)
            continue
        found = answer["entities"] if "entities" in answer else answer["prediction"]
        score = f"\t{answer['score']:.3f}" if "score" in answer else ""
        print(f"{_shown(found)}{score}\t{text}", flush=True)


def _noting_cuts(answers: Iterable[Mapping[str, Any]], cut: list[int]) -> Iterator[Mapping[str, Any]]:
    """The same answers; the list takes the row of each whose text or prompt was cut."""
    for answer in answers:
        if answer["truncated"]:
            cut.append(answer["index"])
        yield answer


def _one_line(text: str) -> str:
    """The same text, with its line breaks written out: every answer is one line."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def _shown(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict) and "type" not in value[0]:
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return ", ".join(f"{entity['type']}: {entity['text']} ({entity['score']:.2f})" for entity in value)
    if isinstance(value, list):
        return ", ".join(map(str, value)) if value else "-"
    return str(value)


def _print_object(tuned: TunedModel, answers: Iterator[Mapping[str, Any]]) -> None:
    """One JSON object, written as the answers come."""
    first = next(answers, None)
    head: dict[str, Any] = {"run": tuned.name}
    if first is None or "generated" not in first:
        head["temperature"] = tuned.temperature
    print_with_items(head, "predictions", itertools.chain([first] if first is not None else [], answers))
