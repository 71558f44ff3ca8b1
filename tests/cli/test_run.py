"""`peftlab run`, from the recipe to the record, on a tiny model."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from peftlab.cli.run import _guards_line, summary
from peftlab.core.changed_settings import changed_settings
from peftlab.core.record import Guard, RunRecord, Throughput, read_record
from peftlab.recipe.schema import load_recipe
from peftlab.run.evaluation_stage import EvaluationStage
from peftlab.run.run import run_recipe
from peftlab.tasks.text_classification import TextClassification
from tests.cli.conftest import RECIPE, read_json
from tests.conftest import MadeOnce, sentences
from tests.forks import Fork
from tests.patience import PATIENCE
from tests.small_methods import DISTINCT

pytestmark = pytest.mark.slow
RECORD_KEYS = {
    "schema_version", "status", "error", "recipe", "scores", "phases", "memory", "throughput", "parameters",
    "artifact_bytes", "guards", "data", "environment", "started_at", "seconds",
}  # fmt: skip


def check_record(record: dict) -> None:
    """The contract of a successful record."""
    assert record.keys() >= RECORD_KEYS
    assert record["status"] == "success"
    assert record["error"] is None
    for split in ("validation", "test"):
        assert all(math.isfinite(value) for value in record["scores"][split].values())
    for phase in ("load", "train", "evaluate", "save"):
        assert record["phases"][phase]["seconds"] > 0
        assert record["phases"][phase]["peak_memory_bytes"] > 0
    memory = record["memory"]
    assert all(memory[f"{kind}_bytes"] > 0 for kind in ("parameters", "gradients", "optimizer", "activations", "peak"))
    assert memory["peak_bytes"] >= memory["parameters_bytes"] + memory["optimizer_bytes"]
    assert record["throughput"]["tokens_per_second"] > 0
    assert 0 <= record["throughput"]["padding_fraction"] < 1
    parameters, is_whole = record["parameters"], record["recipe"]["method"]["type"] == "full"
    assert 0 < parameters["trainable"] <= parameters["total"]
    assert (parameters["trainable"] == parameters["total"]) == is_whole
    assert {guard["status"] for guard in record["guards"].values()} <= {"passed", "not_applicable"}
    for name in (
        "trainable_parameters",
        "gradients",
        "loss_finite",
        "adapter_changed",
        "reload_agrees",
    ):
        assert record["guards"][name]["status"] == "passed", name
    assert is_whole or record["guards"]["base_unchanged"]["status"] == "passed"
    assert record["data"]["fingerprint"]
    assert record["environment"]["versions"]["torch"]


def test_a_recipe_becomes_a_record(command, recipe: Path, tmp_path: Path) -> None:
    done = command("run", recipe, "--output-dir", "out", "--json", "--set", "training.epochs=10")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    check_record(record)
    folder = tmp_path / "out"
    assert json.loads((folder / "record.json").read_text()) == record
    assert isinstance(read_record(folder), RunRecord)
    assert record["scores"]["validation"]["accuracy"] >= 0.7  # the commoner class has 0.55
    assert record["data"]["rows"] == {"train": 154, "validation": 38, "test": 48}
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} == {
        "adapter", "metrics.jsonl", "predictions.parquet", "recipe.yaml", "record.json",
    }  # fmt: skip
    assert not list(folder.rglob("*.bin"))
    check_predictions(folder, record)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "validation" in line] == [*range(20, 201, 20)]
    assert all("loss" in line or "validation" in line for line in lines)
    best = max(line["validation"]["accuracy"] for line in lines if "validation" in line)
    assert record["scores"]["validation"]["accuracy"] == best


def check_predictions(folder: Path, record: dict) -> None:
    rows = pq.read_table(folder / "predictions.parquet").to_pylist()
    assert {row["split"] for row in rows} == {"validation", "test"}
    source = Path(record["recipe"]["data"]["source"]).read_text().splitlines()[1:]
    assert all(source[row["index"]].endswith(f",{row['label']}") for row in rows)
    test = [row for row in rows if row["split"] == "test"]
    accuracy = sum(row["label"] == row["prediction"] for row in test) / len(test)
    assert accuracy == pytest.approx(record["scores"]["test"]["accuracy"])
    for row in test:
        assert sum(row["scores"]) == pytest.approx(1, abs=1e-5)
        assert record["labels"][row["scores"].index(max(row["scores"]))] == row["prediction"]


UNMEASURED = ["--set", "measure=false"]
"""For runs whose memory and speed no test looks at: to measure them takes as long as the rest of so short a run."""


def test_the_recipe_that_is_left_runs_from_anywhere(command, recipe: Path, reviews: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(reviews.read_text())
    recipe.write_text(recipe.read_text().replace(str(reviews), "mine.csv"))
    done = command("run", recipe, "--output-dir", "out", "--json", *UNMEASURED, "--set", "training.max_steps=4")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["recipe"]["data"]["source"] == str(tmp_path / "mine.csv")
    again = command("run", "out/recipe.yaml", "--output-dir", "again", "--json")
    assert json.loads(again.stdout)["scores"] == json.loads(done.stdout)["scores"]


def test_the_same_recipe_gives_the_same_scores(command, recipe: Path, tmp_path: Path) -> None:
    records, options = [], [*UNMEASURED, "--set", "training.epochs=1"]
    for name in ("a", "b"):
        done = command("run", recipe, "--output-dir", name, "--json", *options)
        assert done.returncode == 0, done.stderr
        records.append(json.loads(done.stdout))
    assert records[0]["scores"] == records[1]["scores"]
    assert records[0]["initial_adapter_sha256"] == records[1]["initial_adapter_sha256"]
    other = command(
        "run", recipe, "--output-dir", "c", "--json", *UNMEASURED, "--set", "training.max_steps=2", "--set", "seed=1"
    )
    assert json.loads(other.stdout)["initial_adapter_sha256"] != records[0]["initial_adapter_sha256"]


def fork(recipe: Path, folder: Path, *options: str) -> Fork:
    """A run in a process that can be killed."""
    words = ["run", recipe, "--output-dir", folder, *options]
    with folder.with_suffix(".log").open("wb") as log:
        return Fork(words, folder=folder.parent, stdout=log, stderr=log)


def wait_for_step(process: Fork, folder: Path, step: int) -> None:
    """Wait until a step is in the log."""
    deadline = time.monotonic() + PATIENCE
    log = folder / "metrics.jsonl"
    while time.monotonic() < deadline and process.poll() is None:
        if log.exists() and any(f'"step": {number},' in log.read_text() for number in range(step, step + 50)):
            return
        time.sleep(0.01)
    raise AssertionError(f"step {step} never came: {folder.with_suffix('.log').read_text()}")


SLOW = [
    "--set", "training.epochs=4", "--set", "training.checkpoint_every_steps=7", "--set", "training.log_every_steps=1",
    "--set", "model.dropout=0.1",
    "--set", "waive_guards=[answers_vary]",  # whether it learns is not the question here
]  # fmt: skip


def slow(method: str) -> list[str]:
    """The options of a run by a method; one of them is measured."""
    return [*SLOW, *([] if method == "lora" else UNMEASURED), "--set", f"method.type={method}"]


@pytest.fixture(scope="module")
def whole(made_once: MadeOnce, tiny_bert: Path, reviews: Path) -> Callable[[str], Path]:
    """The run of a method that nobody has disturbed."""

    def of(method: str) -> Path:
        def write(folder: Path) -> None:
            (folder / "recipe.yaml").write_text(RECIPE.format(model=tiny_bert, data=reviews))
            loaded = load_recipe(folder / "recipe.yaml", slow(method)[1::2])
            assert run_recipe(*loaded, output_dir=folder / "run").record.status == "success"

        return made_once(f"whole-{method}", write) / "run"

    return of


# Between two checkpoints: within AdaLoRA's first phase, in the next, and near the end; the others have but one.
@pytest.mark.parametrize(("method", "killed_at"), [("lora", (35,)), ("adalora", (10, 35, 62)), ("full", (35,))])
def test_a_killed_run_ends_as_if_nothing_had_been(
    method: str, killed_at: tuple[int, ...], whole: Callable[[str], Path], command, recipe: Path, tmp_path: Path
) -> None:
    options = slow(method)
    folder = tmp_path / "killed"
    for step in killed_at:
        process = fork(recipe, folder, "--resume", *options)
        wait_for_step(process, folder, step)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    resumed = command("run", recipe, "--output-dir", "killed", "--resume", "--json", *options)
    assert resumed.returncode == 0, resumed.stderr
    one, other = read_json(whole(method) / "record.json"), json.loads(resumed.stdout)
    for key in ("scores", "best_step", "steps", "memory", "parameters", "initial_adapter_sha256", "data", "guards"):
        assert one[key] == other[key], key
    assert other["resumed"] >= 1
    assert (folder / "metrics.jsonl").read_text() == (whole(method) / "metrics.jsonl").read_text()
    assert pq.read_table(folder / "predictions.parquet").equals(pq.read_table(whole(method) / "predictions.parquet"))


@pytest.mark.parametrize(
    ("method", "rows", "steps"),
    [
        *[(method, 16, 2) for method in DISTINCT],
        *[(method, 60, 10) for method in ("adalora", "full", "lora", "prefix_tuning")],
    ],
)
def test_few_rows_and_short_runs(method: str, rows: int, steps: int, command, recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "few.csv").write_text("text,label\n" + "".join(f"{t},{label}\n" for t, label in sentences(rows)))
    options = [f"method={{type: {method}}}", f"training={{max_steps: {steps}, batch_size: 4}}", "seed=1"]
    options += [f"measure={str(method == 'lora').lower()}"]
    sets = [word for option in (f"data.source={tmp_path / 'few.csv'}", *options) for word in ("--set", option)]
    done = command("run", recipe, "--output-dir", "out", "--json", *sets)
    assert done.returncode == 0, done.stderr + done.stdout
    assert json.loads(done.stdout)["steps"] == steps


@pytest.mark.parametrize("best", [2, 14, 32, 40], ids=["warm-up", "pruning", "last pruning", "final"])
def test_adalora_leaves_what_it_promises_whatever_the_best_epoch(
    best: int, command, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the last pruning the ranks are more than the recipe asks for: what is kept is of the final phase."""
    score, calls = EvaluationStage.score, []

    def scored(self, *arguments, **keywords):
        scores = score(self, *arguments, **keywords)
        calls.append(1)
        step = 2 * len(calls)  # every second one is evaluated; then comes the reloaded model
        return {**scores, "accuracy": 1.0 - abs(step - best) / 100} if step <= 40 else scores

    monkeypatch.setattr(EvaluationStage, "score", scored)
    options = ["method={type: adalora, initial_rank: 6, target_rank: 2}", "training.max_steps=40", "evaluation.every=2"]
    options += ["measure=false"]
    sets = [word for option in options for word in ("--set", option)]
    done = command("run", recipe, "--output-dir", "out", "--json", *sets)
    assert done.returncode == 0, done.stderr + done.stdout
    record = json.loads(done.stdout)
    assert record["best_step"] == max(best, 28)
    config = json.loads((tmp_path / "out" / "adapter" / "adapter_config.json").read_text())
    pattern = config["rank_pattern"]
    assert sum(sum(kept) for kept in pattern.values()) == 2 * len(pattern)
    assert record["guards"]["ranks_changed"]["status"] == "passed"


def test_ctrl_c_leaves_a_run_that_can_be_resumed(
    whole: Callable[[str], Path], command, recipe: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "stopped"
    options = [*SLOW, *UNMEASURED]
    process = fork(recipe, folder, *options)
    wait_for_step(process, folder, 9)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=PATIENCE) == 1
    assert "Traceback" not in folder.with_suffix(".log").read_text()
    record = read_record(folder)
    assert record.status == "cancelled"
    assert "--resume" in (record.error or "")
    resumed = command("run", recipe, "--output-dir", "stopped", "--resume", "--json", *options)
    assert json.loads(resumed.stdout)["scores"] == read_json(whole("lora") / "record.json")["scores"]


def test_a_finished_run_is_neither_repeated_nor_overwritten(command, recipe: Path, tmp_path: Path) -> None:
    options = [*UNMEASURED, "--set", "training.max_steps=3"]
    assert command("run", recipe, "--output-dir", "out", *options).returncode == 0
    before = (tmp_path / "out" / "record.json").read_bytes()
    again = command("run", recipe, "--output-dir", "out", *options)
    assert again.returncode == 2
    assert "--resume" in again.stderr
    resumed = command("run", recipe, "--output-dir", "out", "--resume", *options)
    assert resumed.returncode == 0
    assert "already finished" in resumed.stderr
    other = command("run", recipe, "--output-dir", "out", "--resume", *UNMEASURED, "--set", "training.max_steps=4")
    assert other.returncode == 2
    assert "training.max_steps was 3, is 4" in other.stderr
    assert changed_settings({"a": {"b": None, "c": 1, "d": True}}, {"a": {"b": "x", "d": True}}) == [
        'a.b was not set, is "x"',
        "a.c was 1, is not set",
    ]
    assert (tmp_path / "out" / "record.json").read_bytes() == before


def test_divergence_is_a_status_not_a_score(command, recipe: Path, tmp_path: Path) -> None:
    options = ["--set", "training.learning_rate=1e30", "--set", "training.max_gradient_norm=null"]
    done = command("run", recipe, "--output-dir", "out", "--json", *options)
    assert done.returncode == 1
    record = json.loads(done.stdout)
    assert record["status"] == "diverged"
    assert "learning_rate" in record["error"]
    assert record["guards"]["loss_finite"]["status"] == "failed"
    assert record["scores"] == {}
    assert "NaN" not in (tmp_path / "out" / "record.json").read_text()


@pytest.mark.parametrize("bad_step", [3, 12, 19])
def test_a_loss_that_was_not_finite_in_one_step_between_two_logged_ones(
    bad_step: int, command, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found at the next logged step, though the loss has been finite again since."""
    own, calls = TextClassification.loss, []

    def loss(self, logits, batch):
        calls.append(1)
        value = own(self, logits, batch)
        # No part of the graph: the gradients, and so the parameters, stay finite.
        return value + float("nan") if len(calls) == bad_step else value

    monkeypatch.setattr(TextClassification, "loss", loss)
    done = command("run", recipe, "--output-dir", "out", "--json", "--set", "measure=false")
    record = json.loads(done.stdout)
    assert (done.returncode, record["status"]) == (1, "diverged")
    assert f"at step {bad_step}" in record["error"]
    assert record["guards"]["loss_finite"]["status"] == "failed"


def test_a_failed_guard_fails_the_run_unless_waived(command, recipe: Path, tmp_path: Path) -> None:
    """A learning rate of next to nothing changes no bit of float32 weights."""
    options = [
        "--set", "training.learning_rate=1e-30", "--set", "training.weight_decay=0.0", "--set", "training.max_steps=4",
        *UNMEASURED,
    ]  # fmt: skip
    done = command("run", recipe, "--output-dir", "out", "--json", *options)
    assert done.returncode == 1
    record = json.loads(done.stdout)
    assert record["status"] == "failed"
    assert record["guards"]["adapter_changed"]["status"] == "failed"
    assert "adapter_changed" in record["error"]
    waived = command("run", recipe, "--output-dir", "b", "--json", *options, "--set", "waive_guards=[adapter_changed]")
    assert waived.returncode == 0
    assert json.loads(waived.stdout)["guards"]["adapter_changed"] == {
        **record["guards"]["adapter_changed"], "waived": True,
    }  # fmt: skip


def test_early_stopping_keeps_the_best(command, recipe: Path, tmp_path: Path) -> None:
    options = ["--set", "training.epochs=30", "--set", "training.early_stopping_patience=2", *UNMEASURED]
    done = command("run", recipe, "--output-dir", "out", "--json", *options)
    record = json.loads(done.stdout)
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    evaluations = [(line["step"], line["validation"]["accuracy"]) for line in lines if "validation" in line]
    assert record["steps"] == evaluations[-1][0] < 600
    assert record["best_step"] in (record["tied_steps"] or [evaluations[-3][0]])
    assert max(score for _, score in evaluations) == evaluations[-3][1] == record["scores"]["validation"]["accuracy"]


@pytest.mark.parametrize(
    "options",
    [
        ["training.gradient_accumulation_steps=4", "training.batch_size=2"],
        ["training.max_tokens_per_batch=200", "training.batch_size=null"],
        ["training.gradient_checkpointing=true"],
        ["training.optimizer=adamw_8bit", "measure=false"],
        ["training.schedule=cosine", "evaluation.every=3", "measure=false"],
        ["data.validation_fraction=0.0", "data.test_fraction=0.0"],
        ["tracking=[tensorboard]", "measure=false"],
        ["method.type=linear_probe", "model.attention=eager", "measure=false"],
    ],
    ids=lambda options: options[0].partition("=")[0] + "_" + options[0].partition("=")[2][:12],
)
def test_the_ways_to_train(options: list[str], command, recipe: Path, tmp_path: Path) -> None:
    options = [*options, "training.max_steps=8", "waive_guards=[answers_vary]"]  # too few to learn much
    sets = [word for option in options for word in ("--set", option)]
    done = command("run", recipe, "--output-dir", "out", "--json", *sets)
    assert done.returncode == 0, done.stderr + done.stdout
    record = json.loads(done.stdout)
    assert record["status"] == "success"
    if "tracking=[tensorboard]" in options:
        assert list((tmp_path / "out" / "tracking").rglob("events.out.tfevents.*"))
    if "data.test_fraction=0.0" in options:
        assert record["scores"] == {}
        assert record["best_step"] is None


def test_a_decoder_without_a_padding_token(command, recipe: Path, tiny_gpt2: Path, tmp_path: Path) -> None:
    options = ["--set", f"model.path={tiny_gpt2}", "--set", "training.epochs=10"]
    done = command("run", recipe, "--output-dir", "out", "--json", *options)
    assert done.returncode == 0, done.stderr + done.stdout
    record = json.loads(done.stdout)
    check_record(record)
    assert record["scores"]["validation"]["accuracy"] > 0.6  # the commoner class has 0.55


ONE_AFTER_THE_OTHER = """
import json, sys
from peftlab.cli.app import main
codes = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["peftlab", *words]
    try:
        main()
    except SystemExit as ended:
        codes.append(ended.code or 0)
print(json.dumps(codes))
"""


def test_nothing_reaches_the_network_offline(recipe: Path, tmp_path: Path) -> None:
    blocker = tmp_path / "site" / "sitecustomize.py"
    blocker.parent.mkdir()
    blocker.write_text(
        "import socket\n"
        "def refuse(*args, **kwargs):\n"
        "    raise RuntimeError('a connection was tried')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
    )
    here = ["run", str(recipe), "--output-dir", "out", "--offline", "--set", "training.max_steps=3"]
    hub = ["run", str(recipe), "--output-dir", "b", "--offline", "--set", "model.path=someone/model"]
    path = os.pathsep.join([str(blocker.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", ONE_AFTER_THE_OTHER, json.dumps([here, hub])],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "HF_HOME": str(tmp_path / "hf")},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [0, 2], done.stderr
    assert "recipe.yaml" in done.stderr or "--set: model.path" in done.stderr
    assert "a connection was tried" not in done.stderr
    assert not (tmp_path / "b").exists()


def test_two_processes_cannot_share_a_folder(command, recipe: Path, tmp_path: Path) -> None:
    process = fork(recipe, tmp_path / "out", *SLOW, *UNMEASURED)
    wait_for_step(process, tmp_path / "out", 1)
    second = command("run", recipe, "--output-dir", "out", "--resume", *SLOW, *UNMEASURED)
    process.kill()
    process.wait()
    assert second.returncode == 2
    assert "another process" in second.stderr
    assert os.path.exists(tmp_path / "out")  # noqa: PTH110


FULL = ["--set", "method.type=full", "--set", "training.learning_rate=1e-3"]


def test_full_tuning_leaves_the_same_record(command, recipe: Path) -> None:
    done = command("run", recipe, "--output-dir", "out", "--json", *FULL)
    assert done.returncode == 0, done.stderr
    check_record(json.loads(done.stdout))


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["lora", "prefix_tuning", "houlsby_adapter", "full", "float16"])
def test_on_a_gpu(method: str, command, recipe: Path) -> None:
    """A half-precision base under float32 adapters, and full tuning in float32 with bfloat16 autocast."""
    own = {"full": FULL, "float16": ["--set", "model.dtype=float16"]}
    options = own.get(method, ["--set", f"method.type={method}"])
    done = command("run", recipe, "--output-dir", "out", "--json", *options)
    assert done.returncode == 0, done.stderr + done.stdout
    record = json.loads(done.stdout)
    check_record(record)
    assert record["environment"]["device"]["type"] == "cuda"


def test_a_run_that_answers_one_class_is_no_success(command, recipe: Path) -> None:
    """Its rate is so high that the head says one class of everything; accuracy alone would look like a score."""
    options = ["training.learning_rate=3.0", "training.schedule=constant", "training.epochs=3", "measure=false"]
    sets = [word for option in options for word in ("--set", option)]
    done = command("run", recipe, "--output-dir", "out", "--json", *sets)
    record = json.loads(done.stdout)
    assert (done.returncode, record["status"]) == (1, "failed"), record["guards"]
    assert record["guards"]["answers_vary"]["status"] == "failed"
    assert "answers_vary" in record["error"]
    assert record["scores"]["test"]["matthews"] == 0.0
    waived = command("run", recipe, "--output-dir", "b", "--json", *sets, "--set", "waive_guards=[answers_vary]")
    assert waived.returncode == 0
    assert json.loads(waived.stdout)["guards"]["answers_vary"]["waived"] is True


def test_equal_answers_stand_at_the_end_also_where_they_are_no_fault() -> None:
    guards = {
        "loss_finite": Guard.check(True, "in all 2 steps"),
        "answers_vary": Guard.not_applicable(
            "2 steps are too few to tell (test: all 24 answers are 'a', where 8 are others)"
        ),
    }
    shown = _guards_line(SimpleNamespace(guards=guards))
    assert shown.splitlines()[0].strip() == "guards      1 passed"
    assert "note: answers_vary: 2 steps are too few to tell (test: all 24" in shown
    guards["answers_vary"] = Guard.not_applicable("the task decides nothing by examples, or none was evaluated")
    assert "note" not in _guards_line(SimpleNamespace(guards=guards))


@pytest.mark.parametrize(("used", "told"), [(0.39, "39% of this machine's"), (1.91, "more than a busy machine's")])
def test_no_share_of_the_machine_is_above_one(used: float, told: str, tiny_run: Callable[..., Path]) -> None:
    speed = Throughput(
        tokens_per_second=1.0, examples_per_second=1.0, padding_fraction=0.0, flops_utilization=used, timed_steps=1,
        matmul_flops_per_second=1.0,
    )  # fmt: skip
    record = read_record(tiny_run()).model_copy(update={"throughput": speed})
    assert f"1 tokens/s, {told} matmul rate; 0.0% padding" in summary(SimpleNamespace(record=record, folder=Path("r")))
