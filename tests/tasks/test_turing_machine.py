"""The task of machines: exact data, splits that share no run, and scores that mean what feeding back would mean."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import transformers
from language_models import Reading

from peftlab.core.errors import ConfigError, DataError, UnsupportedError
from peftlab.core.splits import Split
from peftlab.core.task import Prediction
from peftlab.tasks.turing_machine.notation import NEXT, read_machine, write_configuration
from peftlab.tasks.turing_machine.scorer import SurvivalScorer
from peftlab.tasks.turing_machine.task import TuringMachine

SMALL = {"train_runs": 20, "validation_runs": 10, "test_runs": 12, "tape_length": 5}


def rows_of(split: Split) -> set[tuple[str, str]]:
    return set(zip(split.columns["machine"], split.columns["tape"], strict=True))


def encoded(task: TuringMachine, name: str = "train"):
    splits = task.make_splits(0)
    tokenizer = task.build_tokenizer(splits["train"], 0)
    return task.encode(splits[name], tokenizer, ()), tokenizer


@pytest.mark.parametrize("keys", [{"machine_count": 20}, {"machines": ["binary_increment", "palindrome"]}])
def test_no_run_is_in_two_splits(keys: dict[str, Any]) -> None:
    task = TuringMachine(**keys, **SMALL)
    splits = task.make_splits(3)
    rows = {name: rows_of(split) for name, split in splits.items()}
    names = list(rows)
    for position, name in enumerate(names):
        assert len(rows[name]) == len(splits[name]) > 0
        for other in names[position + 1 :]:
            assert not rows[name] & rows[other], (name, other)
    assert {len(tape.split()) for tape in splits["test_longer_tapes"].columns["tape"]} <= set(range(6, 11))


def test_repeated_runs_stay_in_training_and_start_at_other_addresses() -> None:
    task = TuringMachine(
        machines=["binary_increment"], table=False, addresses=16, train_repeats=True, **{**SMALL, "train_runs": 300}
    )
    splits = task.make_splits(0)
    assert len(splits["train"]) == 300 > len(rows_of(splits["train"]))
    for name, split in splits.items():
        if name != "train":
            assert len(rows_of(split)) == len(split)
            assert not rows_of(split) & rows_of(splits["train"])
    found, tokenizer = encoded(task)
    tapes = splits["train"].columns["tape"]
    often = max(set(tapes), key=tapes.count)
    firsts = [
        tokenizer.decode(example["input_ids"])
        for example in found.examples
        if tapes[example["run"]] == often and example["first_step"] == 0
    ]
    assert 1 < len(set(firsts)) <= len(firsts)
    assert {text.replace("@", "").split()[0] for text in firsts} == {"|"}


def test_unseen_machines_are_unseen_and_larger_ones_larger() -> None:
    splits = TuringMachine(machine_count=20, states=2, **SMALL).make_splits(0)
    known = set(splits["train"].columns["machine"])
    assert not known & set(splits["test_unseen_machines"].columns["machine"])
    assert {len(read_machine(text).states) for text in known} == {2}
    assert {len(read_machine(text).states) for text in splits["test_more_states"].columns["machine"]} == {3}


def test_data_follow_from_the_seed() -> None:
    task = TuringMachine(machine_count=5, **SMALL)
    first, again, other = (task.make_splits(seed) for seed in (1, 1, 2))
    assert {name: split.columns for name, split in first.items()} == {n: s.columns for n, s in again.items()}
    assert first["train"].columns != other["train"].columns
    assert TuringMachine(machine_count=5, machine_seed=9, **SMALL).make_splits(1) != first


@pytest.mark.parametrize("writes", ["step", "run"])
def test_examples_say_what_the_simulator_says(writes: str) -> None:
    task = TuringMachine(machines=["palindrome"], writes=writes, table=False, max_steps=60, **SMALL)
    split = task.make_splits(0)["test"]
    tokenizer = task.build_tokenizer(split, 0)
    found = task.encode(split, tokenizer, ())
    for index, example in zip(found.index, found.examples, strict=True):
        row = list(split.index).index(index)
        trace = read_machine(split.columns["machine"][row]).run(split.columns["tape"][row].split(), 60)
        texts = [write_configuration(item) for item in trace.configurations]
        prompt, _, answer = tokenizer.decode(example["input_ids"]).partition(f" {NEXT} ")
        step = example["first_step"]
        assert prompt == f"| {texts[step]}"
        expected = texts[step + 1] if writes == "step" else f"{' , '.join(texts[1:])} {'.' if trace.halted else ','}"
        assert answer.removesuffix(" <end>") == expected
        assert sum(example["pieces"]) == sum(label != -100 for label in example["labels"])


def test_runs_without_an_end_are_labelled_and_counted() -> None:
    task = TuringMachine(max_steps=4, machine_count=20, **SMALL)
    split = task.make_splits(0)["train"]
    endless = [halts for halts in split.columns["halts"] if not halts]
    assert 0 < len(endless) < len(split)
    assert encoded(task)[0].notes["runs_that_do_not_halt"] == len(endless)


def test_scores_are_those_of_greedy_generation_fed_with_its_own_output() -> None:
    """One pass over the true run, against the definition: write, feed back, compare, until the first error."""
    task = TuringMachine(machines=["binary_increment"], table=False, **{**SMALL, "train_runs": 10})
    splits = task.make_splits(0)
    tokenizer = task.build_tokenizer(splits["train"], 0)
    seen = task.encode(splits["train"], tokenizer, ())
    model = half_trained(task, seen.examples, tokenizer)
    scorer = SurvivalScorer()
    with torch.inference_mode():
        scorer.add(task.predict_examples(model, seen.examples, tokenizer.pad_token_id, Reading(tokenizer)))
        survived, whole = [], []
        for row in range(len(splits["train"])):
            machine = read_machine(splits["train"].columns["machine"][row])
            trace = machine.run(splits["train"].columns["tape"][row].split(), task.max_steps)
            text, steps = write_configuration(trace.configurations[0]), 0
            for after in trace.configurations[1:]:
                text = written(model, tokenizer, f"| {text} {NEXT}")
                if text != write_configuration(after):
                    break
                steps += 1
            survived.append(steps)
            whole.append(steps == trace.steps)
    scores = scorer.compute()
    assert scores["steps_survived"] == pytest.approx(sum(survived) / len(survived))
    assert scores["run_exact_match"] == pytest.approx(sum(whole) / len(whole))
    assert 0 < scores["step_exact_match"] < 1  # neither hopeless nor perfect: the test says something


def half_trained(task: TuringMachine, examples, tokenizer):
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_embd=64, n_layer=2, n_head=4, n_positions=64, resid_pdrop=0, embd_pdrop=0,
        attn_pdrop=0, bos_token_id=1, eos_token_id=1,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    batch = task.collate(examples, tokenizer.pad_token_id)
    for _ in range(300):
        loss = task.training_loss(model, batch) / task.loss_terms(batch)
        if loss < 0.15:
            break
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def written(model, tokenizer, prompt: str) -> str:
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    start = len(ids)
    while len(ids) < 60:
        token = int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
        if token == tokenizer.eos_token_id:
            return tokenizer.decode(ids[start:])
        ids.append(token)
    return ""


def test_survival_is_counted_up_to_the_first_error() -> None:
    scorer = SurvivalScorer()
    steps = {0: [1, 1, 0, 1], 1: [1, 1], 2: [0]}
    predictions = [
        Prediction("", "", [run, step, 3, float(right)])
        for run, rights in steps.items()
        for step, right in enumerate(rights)
    ]
    scorer.add(predictions[::-1])
    assert scorer.compute() == pytest.approx(
        {"step_exact_match": 5 / 7, "run_exact_match": 1 / 3, "steps_survived": 4 / 3, "survived_fraction": 0.5}
    )


def test_cells_have_the_same_position_before_and_after_a_step() -> None:
    task = TuringMachine(machines=["binary_increment"], positions="cells", addresses=16, **SMALL)
    found, tokenizer = encoded(task)
    example = max(found.examples, key=lambda item: len(item["input_ids"]))
    words = tokenizer.convert_ids_to_tokens(example["input_ids"])
    start = words.index("|")
    for place, (word, position) in enumerate(zip(words, example["position_ids"], strict=True)):
        if word.startswith("@"):
            assert position == int(word[1:]) + 1
            assert example["position_ids"][place + 1] == position
    assert example["position_ids"][:start] == list(range(17, 17 + start))


@pytest.mark.parametrize("writes", ["step", "run"])
def test_a_mark_at_the_first_cell_of_the_configuration_before_opens_each(writes: str) -> None:
    task = TuringMachine(machines=["binary_increment"], positions="cells", addresses=16, writes=writes, **SMALL)
    found, tokenizer = encoded(task)
    for example in found.examples:
        words, positions = tokenizer.convert_ids_to_tokens(example["input_ids"]), example["position_ids"]
        marks = [place for place, word in enumerate(words) if word == "|"]
        assert len(marks) == 1 + (len(example["pieces"]))
        for before, after in itertools.pairwise(marks):
            cells = [int(word[1:]) for word in words[before:after] if word.startswith("@")]
            assert positions[after] == cells[0] + 1
            assert words[after - 1] in (NEXT, ",")
            assert positions[after - 1] == cells[-1] + 1
        assert positions[marks[0]] == positions[marks[1]]


def test_no_positions_and_random_ones() -> None:
    nothing, _ = encoded(TuringMachine(machines=["palindrome"], positions="none", max_steps=60, **SMALL))
    assert all(set(example["position_ids"]) == {0} for example in nothing.examples)
    task = TuringMachine(machines=["palindrome"], positions="random_offset", max_steps=60, max_length=300, **SMALL)
    starts = {example["position_ids"][0] for example in encoded(task)[0].examples}
    assert len(starts) > 20
    assert {example["position_ids"][0] for example in encoded(task, "test")[0].examples} == {0}
    assert not task.supports_virtual_tokens


def test_cells_need_a_tokenizer_that_knows_addresses(tiny_gpt2) -> None:
    task = TuringMachine(machines=["binary_increment"], positions="cells", addresses=16, **SMALL)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_gpt2)
    with pytest.raises(UnsupportedError, match="one token for each address"):
        task.encode(task.make_splits(0)["train"], tokenizer, ())


def test_a_run_that_does_not_fit_is_refused_with_the_length_that_would() -> None:
    task = TuringMachine(machines=["binary_increment"], max_length=50, **SMALL)
    with pytest.raises(ConfigError, match=r"needs \d+ tokens"):
        encoded(task)


@pytest.mark.parametrize(
    ("machine", "tape", "message"),
    [
        ("binary_increment", "1 a 1", "row 2: the tape holds 'a', a symbol that the machine binary_increment lacks"),
        ("A 0 0 R A ; A _ _ L A", "0", "row 2: the machine has no halting state"),
        ("binary_increment", "1 _", None),
        ("binery_increment", "1", "row 2: unknown machine `binery_increment`"),
        ("A 0 0 R", "0", "row 2: `A 0 0 R` is no rule"),
    ],
)
def test_rows_of_a_table_are_checked(machine: str, tape: str, message: str | None) -> None:
    split = Split("train", [0, 1], {"machine": ["palindrome", machine], "tape": ["101", tape]}, "runs.csv")
    if message is None:
        TuringMachine().check_split(split, ())
        return
    with pytest.raises(DataError) as caught:
        TuringMachine().check_split(split, ())
    assert message in str(caught.value)
    assert "runs.csv" in str(caught.value)


def test_keys_that_make_no_sense_together_are_refused() -> None:
    with pytest.raises(ValueError, match="needs `addresses`"):
        TuringMachine(positions="cells")
    with pytest.raises(ValueError, match="`states` goes with `machines: random`"):
        TuringMachine(machines=["palindrome"], states=3)
    with pytest.raises(ValueError, match="more than `tape_length`"):
        TuringMachine(tape_length=8, longer_tape_length=8)
    with pytest.raises(ValueError, match="unknown machine `palindrom`"):
        TuringMachine(machines=["palindrom"])
