"""Turing machines: data without end and without error, by which one sees whether a model computes or only guesses."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from peftlab.core.config import refuse_unused
from peftlab.core.errors import ConfigError, DataError, UnsupportedError, did_you_mean
from peftlab.core.report_parts import ComparedMethod, ReportPart, Units
from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.core.task import TASKS, Inference, Prediction, Scorer
from peftlab.tasks._tokenizers import word_tokenizer
from peftlab.tasks.language.decoder import DecoderTask, shifted
from peftlab.tasks.language.user_text import tokens_of
from peftlab.tasks.language.vocabulary_head import score_labels
from peftlab.tasks.text_inputs import IGNORED
from peftlab.tasks.turing_machine.data import Player, draw_runs, named_players, random_players
from peftlab.tasks.turing_machine.machine import STATE_NAMES, SYMBOL_NAMES, Machine, Trace
from peftlab.tasks.turing_machine.named import NAMED
from peftlab.tasks.turing_machine.notation import (
    BETWEEN,
    HALTS,
    NEXT,
    TABLE_END,
    read_machine,
    vocabulary,
    write_configuration,
)
from peftlab.tasks.turing_machine.positions import PositionIds, Positions
from peftlab.tasks.turing_machine.report import survival_part, units_of_runs
from peftlab.tasks.turing_machine.scorer import SurvivalScorer

if TYPE_CHECKING:
    from torch import nn


@TASKS.register("turing_machine")
class TuringMachine(DecoderTask):
    """Compute: write what a Turing machine does next, or its whole run; the data is generated and exact.

    A run is right as far as the model's most likely token is the true one everywhere: that is just what greedy
    generation, fed with its own output, would have written up to there. So one pass over the true run scores it.
    """

    metrics: ClassVar[tuple[str, ...]] = (
        "step_exact_match",
        "run_exact_match",
        "steps_survived",
        "survived_fraction",
    )
    train_rows_key: ClassVar[str | None] = "train_runs"

    machines: Literal["random"] | list[str] = Field(
        "random", description=f"'random', or names: {', '.join(NAMED)}. Not used where `data` names a table of runs."
    )
    machine_count: PositiveInt = Field(512, description="Random machines in the training split.")
    machine_seed: NonNegativeInt = Field(0, description="Seed of the random machines.")
    data_seed: NonNegativeInt | None = Field(None, description="Seed of the runs. null: the recipe's seed.")
    states: int = Field(2, ge=1, le=len(STATE_NAMES), description="States of random machines, without halting states.")
    symbols: int = Field(3, ge=2, le=len(SYMBOL_NAMES), description="Symbols of random machines, with the blank.")
    tape_length: PositiveInt = Field(
        6, description="Cells of the longest tape in the splits train, validation and test."
    )
    max_steps: PositiveInt = Field(
        30, description="Most steps of a run. Longer runs are cut, and count as not halting."
    )
    train_runs: PositiveInt = Field(4000, description="Runs in the training split.")
    train_repeats: bool = Field(
        False,
        description="Whether a run may occur more than once in training, for machines with few tapes. Its cell "
        "numbers (`addresses`) and random positions start elsewhere each time.",
    )
    validation_runs: PositiveInt = Field(100, description="Runs in the validation split.")
    test_runs: PositiveInt = Field(200, description="Runs in each test split.")
    longer_tape_length: PositiveInt | None = Field(
        None, description="Longest tape of the split test_longer_tapes. null: twice tape_length."
    )
    more_states: int | None = Field(
        None,
        ge=1,
        le=len(STATE_NAMES),
        description="States in the split test_more_states, for 'random' only. null: one more.",
    )
    writes: Literal["step", "run"] = Field(
        "step", description="What the model writes: the next configuration, or all until the machine halts."
    )
    table: bool = Field(True, description="Show the machine's table before the configuration.")
    addresses: NonNegativeInt = Field(
        0, description="Number the cells modulo this, from a random start (index hints). 0: no numbers."
    )
    positions: Positions = Field(
        "absolute",
        description="Position ids of the model: from 0, all 0, from a random start in training, or the last "
        "address written (Abacus embeddings, with `addresses` only).",
    )
    max_length: PositiveInt = Field(256, description="Most tokens of a run. A longer run is an error.")

    @field_validator("machines")
    @classmethod
    def _machines_are_known(cls, value: str | list[str]) -> str | list[str]:
        for name in value if isinstance(value, list) else ():
            if name not in NAMED:
                raise ValueError(f"unknown machine `{name}`. {did_you_mean(name, NAMED)}")
        if not value:
            raise ValueError("one machine at least is needed")
        return value

    @model_validator(mode="after")
    def _longer_is_longer(self) -> TuringMachine:
        if self.longer_tape_length is not None and self.longer_tape_length <= self.tape_length:
            raise ValueError("`longer_tape_length` must be more than `tape_length`")
        if self.positions == "cells" and not self.addresses:
            raise ValueError("`positions: cells` needs `addresses`, the number of cells that can be told apart")
        of_random = ("machine_count", "machine_seed", "states", "symbols", "more_states")
        refuse_unused(self, dict.fromkeys(of_random, ("machines: random", self.machines == "random")))
        return self

    @property
    def supports_virtual_tokens(self) -> bool:
        """Prompt methods ignore position ids."""
        return self.positions == "absolute"

    def text_columns(self) -> tuple[str, ...]:
        """A table of rules (or a machine's name), and the tape's symbols between blanks."""
        return ("machine", "tape")

    def label_columns(self) -> tuple[str, ...]:
        """None: the simulator makes them."""
        return ()

    def make_splits(self, seed: int) -> dict[str, Split]:
        """Runs for training, validation and test, and a test split for each kind of generalisation."""
        seed = seed if self.data_seed is None else self.data_seed
        usual = range(1, self.tape_length + 1)
        longer = range(self.tape_length + 1, (self.longer_tape_length or 2 * self.tape_length) + 1)
        trained, others = self._players()
        plan: dict[str, tuple[list[Player], int, range, str | None]] = {
            "train": (trained, self.train_runs, usual, "train"),
            "validation": (trained, self.validation_runs, usual, "validation"),
            "test": (trained, self.test_runs, usual, "test"),
            "test_longer_tapes": (trained, self.test_runs, longer, None),
            **{name: (players, self.test_runs, usual, None) for name, players in others.items()},
        }
        splits = {
            name: draw_runs(
                name,
                players,
                count,
                lengths,
                seed=f"{seed}/{name}",
                max_steps=self.max_steps,
                bucket=bucket,
                repeats=self.train_repeats and name == "train",
            )
            for name, (players, count, lengths, bucket) in plan.items()
        }
        for name, split in splits.items():
            if not len(split):
                raise ConfigError(
                    f"the {name} split is empty: there are too few tapes of up to {self.tape_length} cells",
                    where="task.tape_length",
                    hint="Raise it.",
                )
        return splits

    def _players(self) -> tuple[list[Player], dict[str, list[Player]]]:
        if isinstance(self.machines, list):
            return named_players(self.machines), {}
        draw = partial(random_players, symbols=self.symbols)
        trained = draw(f"machines/{self.machine_seed}", self.machine_count, states=self.states)
        known = frozenset(player.table for player in trained)
        more = self.more_states or min(self.states + 1, len(STATE_NAMES))
        return trained, {
            "test_unseen_machines": draw(
                f"unseen/{self.machine_seed}", self.test_runs, states=self.states, without=known
            ),
            "test_more_states": draw(f"larger/{self.machine_seed}", self.test_runs, states=more, without=known),
        }

    def build_tokenizer(self, train: Split, vocabulary_size: int) -> Any:
        """One token for each word of the notation."""
        return word_tokenizer(vocabulary(self.addresses))

    def check_split(self, split: Split, labels: tuple[str, ...]) -> None:
        """Every machine must be able to run and to halt, and to read its tape."""
        for row in range(len(split)):
            try:
                trace = self._trace(split, row)
            except DataError as error:
                raise DataError(error.message, where=split.where(row), hint=error.hint) from None
            if not trace.steps:
                raise DataError("the run has no steps", where=split.where(row))

    def encode(self, split: Split, tokenizer: Any, labels: tuple[str, ...]) -> EncodedSplit:
        """One example a step, or one a run; ``pieces`` are the tokens of each configuration that is to be written."""
        examples: list[Example] = []
        index: list[int] = []
        endless = 0
        positions = PositionIds(self.positions, tokenizer, addresses=self.addresses, max_length=self.max_length)
        for row in range(len(split)):
            trace = self._trace(split, row)
            endless += not trace.halted
            for example in self._examples(split, row, trace, tokenizer, positions):
                examples.append(example)
                index.append(split.index[row])
        longest = max(len(example["input_ids"]) for example in examples)
        if longest > self.max_length:
            raise ConfigError(
                f"a run of the {split.name} split needs {longest} tokens",
                where="task.max_length",
                hint=f"Raise it to {longest}, or lower max_steps or tape_length.",
            )
        notes = {"steps": sum(len(example["pieces"]) for example in examples), "runs_that_do_not_halt": endless}
        return EncodedSplit(split.name, index, examples, notes)

    def prompts(self, split: Split, tokenizer: Any) -> list[Example]:
        """The table and the first configuration of each row, with the cells numbered from 0; too long is an error."""
        if self.positions != "absolute":
            raise UnsupportedError(
                f"text is generated with positions from 0, and this run was tuned with `positions: {self.positions}`"
            )
        self.check_split(split, ())
        first = [self._trace(split, row).configurations[0] for row in range(len(split))]
        texts = [write_configuration(configuration, addresses=self.addresses) for configuration in first]
        prompts = [self._prompt(split, row, text, tokenizer) for row, text in enumerate(texts)]
        for row, prompt in enumerate(prompts):
            if len(prompt) > self.max_length:  # as for the runs of a split: half a machine is none
                raise DataError(
                    f"machine and tape have {len(prompt)} tokens; the model was tuned for {self.max_length} at most",
                    where=split.where(row),
                    hint="Shorten the tape.",
                )
        return [{"input_ids": prompt} for prompt in prompts]

    def predict_examples(
        self, model: nn.Module, examples: Sequence[Example], pad_token_id: int, inference: Inference
    ) -> list[Prediction]:
        """What the model writes, up to its first error.

        The scores are the run's number, its first step, the tape's length, and 1 or 0 for each step: whether it is
        right, given the right configuration before.
        """
        losses, choices = inference.compute(score_labels, model, self.collate(examples, pad_token_id))
        written, of_tokens, predictions = choices.tolist(), losses.tolist(), []
        for example in examples:
            target = [token for token in example["labels"] if token != IGNORED]
            own, written = written[: len(target)], written[len(target) :]
            loss, of_tokens = sum(of_tokens[: len(target)]), of_tokens[len(target) :]
            right, start = [], 0
            for count in example["pieces"]:
                right.append(float(own[start : start + count] == target[start : start + count]))
                start += count
            wrong = next(
                (place for place, pair in enumerate(zip(own, target, strict=True)) if pair[0] != pair[1]), None
            )
            said = own if wrong is None else own[: wrong + 1]
            predictions.append(
                Prediction(
                    label=inference.tokenizer.decode(target, skip_special_tokens=True).strip(),
                    prediction=inference.tokenizer.decode(said, skip_special_tokens=True).strip(),
                    scores=[float(example["run"]), float(example["first_step"]), float(example["tape_length"]), *right],
                    loss=loss,
                    loss_terms=len(target),
                )
            )
        return predictions

    def decisions(self, prediction: Prediction) -> list[tuple[Any, Any]]:
        """None: what the model says is stored up to its first mistake, so that equal answers tell nothing."""
        return []

    def scorer(self, labels: tuple[str, ...]) -> Scorer:
        """Exact matches of steps and runs, and steps before the first error."""
        return SurvivalScorer()

    @classmethod
    def compared_units(cls, scores: Callable[[], Sequence[Sequence[float]]]) -> Units | None:
        """Whole runs: steps of one run are no independent draws."""
        return units_of_runs(scores())

    @classmethod
    def report_parts(cls, methods: Sequence[ComparedMethod]) -> Sequence[ReportPart]:
        """How far models go before their first error."""
        part = survival_part(methods)
        return [] if part is None else [part]

    # --- rows to examples -----------------------------------------------------------------------------------------

    def _trace(self, split: Split, row: int) -> Trace:
        machine = _machine(str(split.columns["machine"][row]).strip())
        return machine.run(_tape(str(split.columns["tape"][row])), self.max_steps)

    def _prompt(self, split: Split, row: int, configuration: str, tokenizer: Any) -> list[int]:
        table = f"{split.columns['machine'][row]} {TABLE_END} " if self.table else f"{TABLE_END} "
        return _tokens(tokenizer, f"{table}{configuration} {self._opening(NEXT)}")

    def _opening(self, mark: str) -> str:
        """What stands before a configuration that the model writes; by cells, its first cell has a mark of its own."""
        return f"{mark} {TABLE_END}" if self.positions == "cells" else mark

    def _examples(self, split: Split, row: int, trace: Trace, tokenizer: Any, positions: PositionIds) -> list[Example]:
        generator = random.Random(f"{split.name}/{row}")  # noqa: S311 - no secret
        shift = int(generator.random() * self.addresses)
        texts = [write_configuration(item, addresses=self.addresses, shift=shift) for item in trace.configurations]
        common = {"run": row, "tape_length": len(_tape(str(split.columns["tape"][row])))}
        if self.writes == "step":
            pairs = [(step, [after]) for step, after in enumerate(texts[1:])]
        else:
            ends = [self._opening(BETWEEN)] * (trace.steps - 1) + [HALTS if trace.halted else BETWEEN]
            pairs = [(0, [f"{text} {end}" for text, end in zip(texts[1:], ends, strict=True)])]
        examples = []
        for step, answers in pairs:
            prompt = self._prompt(split, row, texts[step], tokenizer)
            pieces = [_tokens(tokenizer, f" {answer}") for answer in answers]
            if trace.halted or self.writes == "step":
                pieces[-1].append(tokenizer.eos_token_id)
            ids = [*prompt, *(token for piece in pieces for token in piece)]
            example: Example = {
                "input_ids": ids,
                "labels": shifted(ids, len(prompt)),
                "pieces": [len(piece) for piece in pieces],
                "first_step": step,
                **common,
            }
            own = positions.of(ids, generator, training=split.name == "train")
            examples.append(example if own is None else {**example, "position_ids": own})
        return examples


@lru_cache(maxsize=4096)
def _machine(text: str) -> Machine:
    if text in NAMED:
        return NAMED[text].machine
    if " " not in text:
        raise DataError(f"unknown machine `{text}`", hint=did_you_mean(text, NAMED))
    return read_machine(text)


def _tape(text: str) -> list[str]:
    return text.split() if " " in text.strip() else list(text.strip())


def _tokens(tokenizer: Any, text: str) -> list[int]:
    return list(tokens_of(tokenizer, text, add_special_tokens=False)["input_ids"])
