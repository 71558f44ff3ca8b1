"""Model cards: a README in the Hub's format, with its metadata, for what a run or an export leaves.

The metadata are huggingface_hub's own; the text is ours, since its templates have no place for guards and intervals.
https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftlab.core.amounts import duration, short_size
from peftlab.core.files import write_text
from peftlab.core.method import METHODS
from peftlab.core.record import MODEL, RunRecord
from peftlab.core.task import Task
from peftlab.measurement.example_intervals import ExampleIntervals
from peftlab.models.pretraining import PRETRAINING

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

CARD_NAME = "README.md"
CARD_TAG = "peftlab"
"""Tells on the Hub who uploaded a model."""
PIPELINES = {
    "SEQ_CLS": "text-classification",
    "TOKEN_CLS": "token-classification",
    "QUESTION_ANS": "question-answering",
    "CAUSAL_LM": "text-generation",
    "SEQ_2_SEQ_LM": "text2text-generation",
}
"""The Hub's name of what a model does, by peft's name of its task."""
PEFT_CONFIG = "adapter_config.json"
IMAGE_SETTINGS = "preprocessor_config.json"
CHAT_TEMPLATE = "chat_template.jinja"
NO_INTERVALS = ExampleIntervals({}, ())


def write_card(
    record: RunRecord,
    folder: Path,
    *,
    task: Task,
    library: str,
    intervals: ExampleIntervals,
    usage: str = "",
    export: str | None = None,
) -> Path:
    """Write ``README.md`` beside the weights.

    Args:
        record: Of the run.
        folder: Holds the weights.
        task: What it was tuned on.
        library: What loads the folder: ``peft``, ``transformers``, ``onnx`` or ``gguf``.
        intervals: Of the metrics on the test split (on the validation split where there is none).
        usage: What must be done with the model's outputs.
        export: What was checked of an export, as a paragraph.
    """
    path = folder / CARD_NAME
    metadata = _metadata(record, task.peft_task(), library)
    loading = _loading(record, folder, task.head(tuple(record.labels or ())).auto_class, library)
    write_text(path, f"---\n{metadata.to_yaml()}\n---\n\n{_body(record, intervals, usage, export, loading)}")
    return path


def _metadata(record: RunRecord, peft_task_type: str, library: str) -> ModelCardData:
    from huggingface_hub import EvalResult, ModelCardData

    split, scores = _reported(record)
    pipeline = PIPELINES.get(peft_task_type)
    results = [
        EvalResult(
            task_type=pipeline,
            dataset_name=_data_name(record),
            dataset_type="other",
            dataset_split=split,
            metric_type=name,
            metric_value=round(value, 4),
        )
        for name, value in scores.items()
        if pipeline
    ]
    has_other_base = library == "peft" and _has_own_base(record)  # the Hub's widgets would put the adapter on `path`
    return ModelCardData(
        base_model=None if has_other_base else _hub_id(record.recipe["model"]["path"]),
        library_name=library,
        tags=[CARD_TAG, record.recipe["method"]["type"], record.recipe["task"]["type"]],
        # Nobody but its owner can say under which licence a model is given away.
        license="unknown",
        metrics=sorted(scores),
        pipeline_tag=pipeline,
        model_name=record.name if results else None,
        eval_results=results or None,
    )


def _hub_id(path: str | None) -> str | None:
    """The base model, where it is one of the Hub's: the Hub refuses a card that names a folder or a wheel as its base.

    https://github.com/huggingface/transformers/issues/33922
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    if path is None or Path(path).exists():
        return None
    try:
        validate_repo_id(path)
    except HFValidationError:
        return None
    return path


def _body(record: RunRecord, intervals: ExampleIntervals, usage: str, export: str | None, loading: str) -> str:
    recipe, method = record.recipe, record.recipe["method"]
    settings = ", ".join(f"{key}: {value}" for key, value in method.items() if key != "type")
    path, paper = recipe["model"]["path"], METHODS.get(method["type"]).paper
    parts = [
        f"# {record.name}",
        f"{_base_name(recipe)}, tuned with {method['type']} by peftlab on {recipe['task']['type']}.",
        "## Intended use",
        " ".join(filter(None, [_intended_use(record), usage])),
        *(["## Load it", loading] if loading else []),
        "## Scores",
        _scores(record, intervals),
        "## Method",
        f"`{method['type']}`{f' ({settings})' if settings else ''}{f', {paper}' if paper else ''}.\n"
        + _parameters(record),
        "## Data",
        _data(record),
        "## Cost",
        _cost(record),
        "## Guards",
        "\n".join(
            f"- {name}: {guard.status}{' (waived)' if guard.waived else ''}" for name, guard in record.guards.items()
        ),
        "## Licences",
        "- This model: not stated; put the licence into the metadata above before it is given away.\n"
        f"- Base model: {f'see {path}' if path else 'none'}.\n- Data: {_data_licence(record)}.",
    ]
    if export:
        parts[2:2] = ["## Export", export]
    return "\n\n".join(parts) + "\n"


def _loading(record: RunRecord, folder: Path, auto_class: str, library: str) -> str:
    """How others load the folder, as Python or a command that runs in it as it stands; empty where they cannot."""
    is_adapter = library == "peft"
    if library == "gguf":
        return "```sh\nllama-server -m model.gguf    # of llama.cpp; in the folder of this file\n```" + (
            ""
            if (folder / CHAT_TEMPLATE).is_file()
            else "\n\nThere is no chat template here, and llama.cpp would take one of its own for "
            "`/v1/chat/completions`. Ask `/completion`, with prompts as the run's recipe makes them."
        )
    if library == "onnx" or (is_adapter and not (folder / PEFT_CONFIG).is_file()):
        return ""
    added = is_adapter and record.recipe["model"].get("add_tokens")
    if added and not json.loads((folder / PEFT_CONFIG).read_text(encoding="utf-8")).get("trainable_token_indices"):
        return (
            "With peftlab, from the run; or as what `peftlab export RUN --format merged` makes of it. For this method "
            "peft has no form for the embeddings of added tokens: plain peft would load the adapter without them, and "
            "say nothing."
        )
    code = [
        *(["import peft", "import transformers", ""] if is_adapter else ["import transformers", ""]),
        'folder = "."  # where this file lies',
        _loading_of_inputs(folder),
    ]
    if is_adapter:
        code += [
            "base = peft.PeftConfig.from_pretrained(folder).base_model_name_or_path",
            f"model = transformers.{auto_class}.from_pretrained(",
            "    base, config=transformers.AutoConfig.from_pretrained(folder)",
            ")",
            *(["model.resize_token_embeddings(len(tokenizer))"] if added else []),
            "model = peft.PeftModel.from_pretrained(model, folder)",
        ]
    else:
        code.append(f"model = transformers.{auto_class}.from_pretrained(folder)")
    return "```python\n" + "\n".join(code) + "\n```" + (f"\n\n{_where_base_is(record)}" if is_adapter else "")


def _where_base_is(record: RunRecord) -> str:
    """What an adapter's reader puts it on."""
    path = record.recipe["model"]["path"]
    if _has_own_base(record):
        return (
            f"The base is what this run has made of `{path}` by pre-training: the folder `{PRETRAINING}/{MODEL}` of "
            "the run, which is not here. On another machine, put that folder there in the place of `base`. On "
            f"`{path}` itself the adapter says other things."
        )
    return f"The base is `{path}`. On another machine, put its folder there in the place of `base`."


def _has_own_base(record: RunRecord) -> bool:
    """Whether the run has pre-trained its base."""
    return record.recipe["model"].get("pretrain") is not None


def _loading_of_inputs(folder: Path) -> str:
    """What makes the model's inputs: of a model of images its processor."""
    if (folder / IMAGE_SETTINGS).is_file():
        return "processor = transformers.AutoImageProcessor.from_pretrained(folder)"
    return "tokenizer = transformers.AutoTokenizer.from_pretrained(folder)"


def _intended_use(record: RunRecord) -> str:
    labels = (
        f" Its classes: {', '.join(record.labels[:20])}{' …' if len(record.labels) > 20 else ''}."
        if record.labels
        else ""
    )
    length = record.recipe["task"].get("max_length")
    limit = f" Longer texts than {length} tokens are cut." if length else ""
    return (
        f"{record.recipe['task']['type'].replace('_', ' ').capitalize()} of texts like those it was tuned on."
        f"{labels}{limit} It was not tested on texts of other kinds, nor for fairness between groups of people; test "
        "it on your own data (`peftlab evaluate`) before anything depends on it."
    )


def _reported(record: RunRecord) -> tuple[str, dict[str, float]]:
    split = "test" if "test" in record.scores else "validation"
    return split, record.scores.get(split, {})


def _scores(record: RunRecord, intervals: ExampleIntervals) -> str:
    split, scores = _reported(record)
    if not scores:
        return "There was no split to score on."
    rows = record.data.rows.get(split) if record.data else None
    lines = [f"| {split} | value | 95 % interval |", "|---|---|---|"]
    for name, value in scores.items():
        interval = intervals.by_metric.get(name)
        lines.append(f"| {name} | {value:.4f} | {f'{interval[0]:.4f} to {interval[1]:.4f}' if interval else '–'} |")
    lines.append(
        f"\nOn {rows} examples. Intervals are over the examples; what another seed would change is not in them."
    )
    lines += [f"\n{note}" for note in intervals.notes]
    if record.calibration:
        error = record.calibration.expected_calibration_error.get(split)
        if error and record.calibration.not_fitted is not None:
            lines.append(
                f"Expected calibration error: {error.uncalibrated:.4f}. No temperature was fitted: "
                f"{record.calibration.not_fitted}."
            )
        elif error:
            lines.append(
                f"Expected calibration error: {error.uncalibrated:.4f}; {error.calibrated:.4f} with logits divided by "
                f"the temperature {record.calibration.temperature:.3f}, which was fitted on the validation split."
            )
    return "\n".join(lines)


def _parameters(record: RunRecord) -> str:
    if record.parameters is None:
        return ""
    if record.steps == 0:
        return "No training step was taken."
    return f"{record.parameters.trainable:,} of {record.parameters.total:,} parameters were trained."


def _data_name(record: RunRecord) -> str:
    if record.recipe["data"] is None:
        return "made by the task"
    source = record.recipe["data"]["source"]
    return source if isinstance(source, str) else ", ".join(value for value in source.values() if value)


def _data_licence(record: RunRecord) -> str:
    return "none; the task makes them" if record.recipe["data"] is None else f"see {_data_name(record)}"


def _base_name(recipe: Mapping[str, Any]) -> str:
    return recipe["model"]["path"] or f"A new {recipe['model']['from_config']['model_type']} model"


def _data(record: RunRecord) -> str:
    if record.data is None:
        return _data_name(record)
    rows = ", ".join(f"{count} {split}" for split, count in record.data.rows.items())
    return f"{_data_name(record)}; rows: {rows}. SHA-256 of the rows: `{record.data.fingerprint}`."


def _cost(record: RunRecord) -> str:
    device = record.environment.get("device", "an unknown device")
    lines = [f"{duration(record.seconds)} in all, on {device}."]
    if record.memory:
        phase = "evaluation" if record.recipe["training"]["max_steps"] == 0 else "training"
        lines.append(f"Peak memory of {phase}: {short_size(record.memory.peak_bytes)}.")
    if record.throughput:
        lines.append(f"{record.throughput.tokens_per_second:.0f} tokens per second.")
    return " ".join(lines)
