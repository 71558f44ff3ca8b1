"""A run that learns from finished runs: the loss, what they are asked, rows that must not meet, and a stopped run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import peftlab
from peftlab.artifact.saved_run import SavedRun
from peftlab.core.config import replace_config
from peftlab.core.errors import UserError
from peftlab.core.reporter import Silent
from peftlab.data.duplicates import text_key
from peftlab.inference.ensemble.build import build_ensemble
from peftlab.preparation.load_data import load_data
from peftlab.regularizers.mixup import Mixup
from peftlab.run import stages, teachers
from peftlab.tasks.text_classification import TextClassification
from peftlab.training.distillation import Distillation, LearnsFromTeachers, soft_targets

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tiny_run: Callable[..., Path]) -> list[Path]:
    """Two methods on one split, and another split of the same table."""
    return [tiny_run(), tiny_run("{type: bitfit}"), tiny_run(seed=1)]


def student(first: Path, teachers: list[Path], **settings: Any) -> peftlab.Recipe:
    """The recipe of a run, with teachers."""
    recipe = SavedRun.open(first).recipe
    distillation = Distillation(teachers=[str(each) for each in teachers], **settings)
    training = replace_config(recipe.training, max_steps=6, epochs=None, distillation=distillation)
    return replace_config(recipe, name="student", measure=False, training=training, waive_guards=["answers_vary"])


def test_the_loss_and_its_gradient_are_those_of_the_paper() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, one, other = (torch.randn(5, 3, generator=generator, dtype=torch.float32) for _ in range(3))
    said, labels = soft_targets([one, other], 3.0), torch.tensor([0, 2, 1, 1, 0])
    logits.requires_grad_()
    task = LearnsFromTeachers(settings=Distillation(teachers=["a"], temperature=3.0, weight=0.7)).training_task(
        TextClassification()
    )
    loss = task.loss(logits, {"labels": labels, "soft_targets": said})
    (found,) = torch.autograd.grad(loss, logits)

    total, agreement = 0.0, 0.0
    for row in range(
        5
    ):  # Hinton et al. 2015, section 2: cross-entropy with the soft targets, times the temperature's square
        p = [(torch.exp(one[row, c] / 3) / torch.exp(one[row] / 3).sum()
              + torch.exp(other[row, c] / 3) / torch.exp(other[row] / 3).sum()) / 2 for c in range(3)]  # fmt: skip
        q = [torch.exp(logits[row, c] / 3) / torch.exp(logits[row] / 3).sum() for c in range(3)]
        hard = -torch.log(torch.exp(logits[row, labels[row]]) / torch.exp(logits[row]).sum())
        total += 0.3 * hard + 0.7 * 9 * sum(-p[c] * torch.log(q[c]) for c in range(3))
        agreement += 0.7 * 9 * sum(-p[c] * torch.log(p[c]) for c in range(3))
    (wanted,) = torch.autograd.grad(total, logits)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert float(loss.detach()) == pytest.approx(
        float((total - agreement).detach()), rel=1e-5
    )  # the divergence is 0 where both agree


def test_mixed_texts_have_mixed_answers_of_the_teachers() -> None:
    """A mixture's soft target is the mixture of both texts' own."""
    torch.manual_seed(0)
    task = LearnsFromTeachers(settings=Distillation(teachers=["a"], temperature=1.0, weight=1.0)).training_task(
        TextClassification()
    )
    logits, said = torch.randn(4, 2), torch.rand(4, 2).softmax(-1)
    batch = {"labels": torch.tensor([0, 1, 0, 1]), "soft_targets": said}
    found: list[torch.Tensor] = []

    class Backward:
        def __init__(self) -> None:
            self.task = type("Task", (), {"logits": lambda _s, _m, _b: logits, "loss": task.loss})()

        def __call__(self, loss: Any) -> torch.Tensor:
            found.append(loss(None, batch))
            return found[0]

    torch.manual_seed(3)
    share = torch.distributions.Beta(0.2, 0.2).sample()
    other = torch.randperm(4)
    torch.manual_seed(3)
    Mixup().around_backward(Backward(), None, batch)  # type: ignore[arg-type]
    mixed = share * logits + (1 - share) * logits[other]
    q = mixed.log_softmax(-1)
    wanted = sum(w * (p * (p.log() - q)).sum() for w, p in ((share, said), (1 - share, said[other])))
    torch.testing.assert_close(found[0], wanted)


def test_a_student_learns_what_all_teachers_say_and_goes_on_where_it_was(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught = student(runs[0], runs[:2], temperature=3.0)
    asked: list[str] = []
    real = teachers.ask_run
    monkeypatch.setattr(teachers, "ask_run", lambda run, *a, **k: asked.append(run.name) or real(run, *a, **k))
    done = peftlab.run_recipe(taught, output_dir=tmp_path / "whole")
    assert done.record.status == "success", done.record.error
    assert len(asked) == 2
    assert (
        done.record.data.fingerprint == SavedRun.open(runs[0]).record.data.fingerprint
    )  # one split, so none is left out
    losses = [json.loads((run / "metrics.jsonl").read_text().splitlines()[0])["loss"] for run in (done.folder, runs[0])]
    assert losses[0] != losses[1]  # of the same first step
    notes = done.record.data.notes["distillation"]
    assert [note["folder"] for note in notes] == [str(run) for run in runs[:2]]
    assert notes[0]["scores"] == SavedRun.open(runs[0]).record.scores

    kept = load_file(tmp_path / "whole/distillation.safetensors")["train/soft_targets"]
    rows = load_data(taught, offline=True, report=lambda line: None).splits["train"].columns["text"]
    torch.testing.assert_close(kept.sum(1), torch.ones(len(rows)))
    said = [(SavedRun.open(run), peftlab.load(run)) for run in runs[:2]]
    for at in (0, len(rows) - 1):
        scores = []
        for run, model in said:  # calibrated probabilities are those at the run's own temperature
            (answer,) = model.predict([rows[at]])
            own = torch.tensor([answer["scores"][name] for name in run.labels]).double().log()
            scores.append((own * run.temperature / 3.0).softmax(0))
        torch.testing.assert_close(kept[at].double(), torch.stack(scores).mean(0), atol=1e-5, rtol=1e-4)

    # Stopped before its first step, it ends the same and asks nobody again.
    monkeypatch.setattr(stages.TrainingStage, "train", stopping_once(stages.TrainingStage.train))
    stopped = peftlab.run_recipe(taught, output_dir=tmp_path / "stopped")
    assert stopped.record.status == "cancelled"
    before = len(asked)
    again = peftlab.run_recipe(taught, output_dir=tmp_path / "stopped", resume=True)
    assert again.record.scores == done.record.scores
    assert again.record.data == done.record.data
    assert len(asked) == before
    for file in (tmp_path / "whole/adapter").glob("*.safetensors"):
        assert file.read_bytes() == (tmp_path / "stopped/adapter" / file.name).read_bytes()


def stopping_once(real: Callable[..., None]) -> Callable[..., None]:
    calls: list[int] = []

    def train(self: Any, job: Any, *args: Any, **named: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        real(self, job, *args, **named)

    return train


def test_rows_that_must_not_meet_are_left_out_and_an_ensemble_is_its_members(runs: list[Path], tmp_path: Path) -> None:
    build_ensemble(runs[1:], tmp_path / "both", offline=True, reporter=Silent())
    recipe = student(runs[0], [tmp_path / "both"])
    splits = load_data(SavedRun.open(runs[0]).recipe, offline=True, report=lambda line: None).splits
    theirs = load_data(SavedRun.open(runs[2]).recipe, offline=True, report=lambda line: None).splits
    found = load_data(recipe, offline=True, report=lambda line: None)

    def keys(split: Any) -> list[bytes]:
        return [text_key([text]) for text in split.columns["text"]]

    tested, learned = set(keys(theirs["test"])), set(keys(theirs["train"]))
    chosen = learned | set(keys(theirs["validation"]))
    for name, seen in (("train", tested), ("validation", learned), ("test", chosen)):
        assert keys(found.splits[name]) == [key for key in keys(splits[name]) if key not in seen]
        assert found.summary.rows[name] == len(found.splits[name]) < len(splits[name])
    assert found.summary.notes["train_rows_that_test_teachers"] == len(splits["train"]) - len(found.splits["train"])
    assert found.summary.fingerprint != SavedRun.open(runs[0]).record.data.fingerprint


def test_teachers_whose_data_have_changed_are_refused(runs: list[Path], tmp_path: Path) -> None:
    """Which rows they have learned is not known then, so that test rows may be among them."""
    folder = shutil.copytree(runs[1], tmp_path / "teacher")
    record = json.loads((folder / "record.json").read_text())
    record["data"]["fingerprint"] = "0" * 64
    (folder / "record.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="the data of a teacher have changed since it was tuned"):
        load_data(student(runs[0], [folder]), offline=True, report=lambda line: None)


def test_bad_input_gets_a_message(runs: list[Path], tmp_path: Path) -> None:
    def refused(recipe: peftlab.Recipe, expected: str) -> None:
        with pytest.raises(UserError, match=expected):
            peftlab.run_recipe(recipe, output_dir=tmp_path / "bad")
        assert not (tmp_path / "bad").exists()

    good = student(runs[0], runs[:1])
    refused(student(runs[0], [tmp_path / "nothing"]), "nothing")
    refused(
        replace_config(good, task=replace_config(good.task, text="label", label="text")), "its text columns are text"
    )
    refused(replace_config(good, task=replace_config(good.task, focal_gamma=2.0)), "without focal loss")
    (tmp_path / "other.csv").write_text(
        "text,label\n" + "".join(f"day {at},{'fine' if at % 2 else 'poor'}\n" for at in range(40))
    )
    other = replace_config(good, data=replace_config(good.data, source=str(tmp_path / "other.csv")))
    refused(other, "its classes are bad, good, and the recipe has fine, poor")
