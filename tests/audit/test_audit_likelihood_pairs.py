"""Pairs of sentences: a run of a language model by the verb, and its likelihoods against its own loss."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from peftlab.audit.audited_run import AuditedRun
from peftlab.core.audit import AUDITS, Audited
from peftlab.core.errors import DataError
from peftlab.core.splits import Split
from peftlab.inference.load_tuned import load_tuned
from peftlab.testing.audited_rows import audited
from tests.conftest import Command, sentences


@pytest.fixture(scope="module")
def language_run(tiny_run: Callable[..., Path]) -> Path:
    return tiny_run(base="gpt2", task="{type: causal_lm, max_length: 32}", steps=4)


def test_the_likelihood_of_a_text(language_run: Path) -> None:
    tuned = load_tuned(language_run)
    texts = [text for text, _ in sentences(11, seed=1)]
    found = AuditedRun(tuned).log_likelihoods(texts)
    assert found is not None
    for text, own in zip(texts, found, strict=True):
        first = tuned.tokenizer.bos_token_id
        first = tuned.tokenizer.eos_token_id if first is None else first
        ids = torch.tensor([[first, *tuned.tokenizer(text, add_special_tokens=False)["input_ids"]]])
        with torch.no_grad():
            loss = tuned.module()[0](input_ids=ids, labels=ids).loss  # the mean over all tokens but the first
        assert own == pytest.approx(-float(loss) * (ids.shape[1] - 1), rel=1e-4)


def test_pairs_of_a_table(command: Command, language_run: Path, tmp_path: Path) -> None:
    texts = [text for text, _ in sentences(70, seed=2)]
    generator = random.Random(0)
    pairs = [sorted(generator.sample(texts, 2)) for _ in range(60)]
    lines = [f"{more},{less},{'age' if at % 4 else 'race'}\n" for at, (more, less) in enumerate(pairs)]
    (tmp_path / "pairs.csv").write_text("sent_more,sent_less,bias_type\n" + "".join(lines))
    arguments = ("audit", language_run, "--parts", "likelihood_pairs", "--json")
    done = command(*arguments, "--set", "likelihood_pairs.data=pairs.csv")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert set(report["figures"]) == {"likelihood_pairs.all", "likelihood_pairs.kind.age"}
    assert "race" in report["parts"]["likelihood_pairs"]["notes"][0]
    found = AuditedRun(load_tuned(language_run)).log_likelihoods([text for pair in pairs for text in pair])
    assert found is not None
    more, less = np.reshape(found, (-1, 2)).T
    assert report["figures"]["likelihood_pairs.all"]["value"] == pytest.approx((more > less).mean(), abs=0.02)
    done = command(*arguments, "--set", "likelihood_pairs.data=pairs.csv", "--set", "likelihood_pairs.more=stereotype")
    assert done.returncode == 2
    assert "stereotype" in done.stderr


def test_pairs_for_a_masked_model(command: Command, tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    """Each token that both have is hidden by itself, as the naive loop does; what differs is not scored."""
    run = tiny_run(task="{type: masked_lm, max_length: 32}", steps=4)
    tuned = load_tuned(run)
    pairs = [
        ("the good film was bad", "the sad film was bad"),
        ("we saw it", "it was a day and we saw it"),
        ("a", "in"),
    ]
    found = AuditedRun(tuned).pair_log_likelihoods(pairs)
    assert found is not None
    model, tokenizer = tuned.module()[0], tuned.tokenizer
    shared = [([1, 3, 4, 5], [1, 3, 4, 5]), ([1, 2, 3], [6, 7, 8]), ([], [])]
    for pair, places, own in zip(pairs, shared, found, strict=True):
        for text, hidden, value in zip(pair, places, own, strict=True):
            total = 0.0
            for place in hidden:
                ids = torch.tensor([tokenizer(text)["input_ids"]])
                token, ids[0, place] = int(ids[0, place]), tokenizer.mask_token_id
                with torch.no_grad():
                    total += float(model(input_ids=ids).logits[0, place].log_softmax(-1)[token])
            assert value == pytest.approx(total, rel=1e-4)
    with pytest.raises(DataError, match="the model reads 64"):
        AuditedRun(tuned).pair_log_likelihoods([("the film", "the film " * 60)])
    lines = [f"{more},{less}\n" for more, less in pairs[:1] * 20]
    (tmp_path / "pairs.csv").write_text("sent_more,sent_less\n" + "".join(lines))
    settings = ("--set", "likelihood_pairs.data=pairs.csv", "--set", "likelihood_pairs.kind=null")
    done = command("audit", run, "--parts", "likelihood_pairs", "--json", *settings)
    assert done.returncode == 0, done.stderr
    expected = float(found[0, 0] > found[0, 1])
    assert json.loads(done.stdout)["figures"]["likelihood_pairs.all"]["value"] == expected
    assert "learns to fill gaps" in command("audit", run).stderr


def test_other_models_have_none() -> None:
    rows = audited(lambda text: [0.5, 0.5], ["x"] * 30, ["good"] * 30)
    assert "no likelihood" in str(AUDITS["likelihood_pairs"]().why_not(rows))


def test_a_text_that_is_too_long_is_refused(language_run: Path) -> None:
    model = AuditedRun(load_tuned(language_run))
    with pytest.raises(DataError, match="the model reads"):
        model.log_likelihoods(["a b", "the film was good " * 2000])


def test_of_blocks_of_joined_texts_nothing_is_said_of_a_row(language_run: Path) -> None:
    """Names would be told to move the loss of whatever stands in a block."""
    model = AuditedRun(load_tuned(language_run))
    rows = Split("test", range(30), {"text": [text for text, _ in sentences(30, seed=2)]})
    own = Audited(model, rows, model.predict(rows), train=rows)
    assert len(own.predictions) == 30
    assert "decides nothing" in str(AUDITS["fairness"]().why_not(own))
    leaks = next(figure for figure in AUDITS["data"]().run(own).figures if figure.name == "data.leaks")
    assert leaks.value == 1
    assert "label" not in leaks.examples[0]  # the last row is behind the last block
