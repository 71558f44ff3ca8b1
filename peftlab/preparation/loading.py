"""The first stage of a run: tokens, base model, method; everything that training needs, and what it begins with."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from peftlab.artifact.saved_run import checkpoint_of
from peftlab.artifact.take_up import take_up
from peftlab.core.errors import DataError, UnsupportedError
from peftlab.core.given_values import check_kind
from peftlab.core.input_embeddings import input_embeddings
from peftlab.core.known_warnings import without_known_warnings
from peftlab.core.method import MethodContext
from peftlab.core.record import Guard, Parameters
from peftlab.core.splits import EncodedSplit
from peftlab.core.tensors import count_weights
from peftlab.data.batching import plan_epoch
from peftlab.data.locations import parse_location, resolve_location
from peftlab.models.added_tokens import ids_of
from peftlab.models.base_model import BaseModel, checkpoint_activations, load_base_model, load_tokenizer, local_source
from peftlab.models.character_tokenizer import CHARACTERS, character_tokenizer
from peftlab.models.image_reader import new_image_reader
from peftlab.models.image_text_reader import ImageTextReader
from peftlab.models.model_config import ModelConfig
from peftlab.models.new_model import NEW_VOCABULARY_SIZE, write_new_model
from peftlab.models.remote_code import is_remote
from peftlab.models.tokenizer_facts import missing_rows
from peftlab.preparation.check import CheckedRecipe
from peftlab.preparation.earlier_run import open_earlier
from peftlab.training.checkpoints import trainable_parameters
from peftlab.training.guards import check_trainable_parameters, hash_tensors
from peftlab.training.steps import StepPlan
from peftlab.training.text_pairs import Pair, pairs_of


@dataclass(frozen=True)
class WrappedModel:
    """A base model wrapped by its method.

    Args:
        model: To train.
        context: What the method was told.
        parameters: How many there are, and how many train.
        initial_hashes: SHA-256 of every trainable tensor at the start.
        guard: Whether only what is meant to train does.
        own_head: What became of the head that the base brought; empty where it has none.
    """

    model: nn.Module
    context: MethodContext
    parameters: Parameters
    initial_hashes: dict[str, str]
    guard: Guard
    own_head: str


class Loader:
    """Loads what a recipe names; the base as often as it is asked to.

    Args:
        checked: The recipe, its model's place and its data.
        dtype: Of the base's weights.
        offline: Allow no network.
        source: Where the tokenizer is; None: where the base is, which is made ready to be loaded.
        device: Where a quantised base will be; None: on a card if there is one.

    Attributes:
        source: What plain transformers loads the base from.
        tokenizer: The base's.
        splits: The data, tokenised; without the test split where the recipe leaves it alone.
        plan: All steps of the run.
        pairs: Texts without labels and their changed copies, where a hook compares both.
    """

    def __init__(
        self,
        checked: CheckedRecipe,
        *,
        dtype: torch.dtype,
        offline: bool,
        source: str | None = None,
        device: torch.device | None = None,
    ) -> None:
        self._checked, self._recipe = checked, checked.recipe
        self._dtype, self._offline, self._device = dtype, offline, device
        if checked.model_location is None:
            self.tokenizer: Any = self._new_tokenizer()
            self.source = self._new_model()
        else:
            self.source = source or checkpoint_of(checked.model_location, offline=offline)
            self.tokenizer = load_tokenizer(self.source, self._recipe.model, offline=offline)
        self.splits: dict[str, EncodedSplit] = {
            name: self._recipe.task.encode(split, self.tokenizer, checked.labels)
            for name, split in checked.data.splits.items()
            if not name.startswith("test") or self._recipe.evaluation.test
        }
        self._add_values()
        self._check_added_tokens()
        self.plan = self._plan_steps()
        self.pairs = self._encode_pairs()

    def _add_values(self) -> None:
        """Put what regularisers want to know of each training row into its example."""
        rows, encoded = self._checked.data.splits["train"], self.splits["train"]
        for regularizer in self._recipe.training.regularizers:
            for key, values in regularizer.example_values(rows).items():
                for example, value in zip(encoded.examples, values, strict=True):
                    example[key] = value

    def _new_tokenizer(self) -> Any:
        """The tokenizer of a model that starts from nothing: another model's, or one that the task makes."""
        model = self._recipe.model
        values = model.from_config or {}
        size = values.get("vocab_size", NEW_VOCABULARY_SIZE)
        if self._checked.facts.family == "image_text":
            size = values["text_config"].get("vocab_size", NEW_VOCABULARY_SIZE)
            return ImageTextReader(self._new_text_tokenizer(size), new_image_reader(values["vision_config"]))
        if self._checked.facts.family == "image" and model.tokenizer is None:
            return new_image_reader(values)
        return self._new_text_tokenizer(size)

    def _new_text_tokenizer(self, size: int) -> Any:
        model, task = self._recipe.model, self._recipe.task
        if model.tokenizer == CHARACTERS:
            train = self._checked.data.splits["train"]
            names = [name for name in task.text_columns() if name not in task.image_columns()]
            values = [value for name in names for value in train.columns[name]]
            return character_tokenizer([each if isinstance(each, str) else " ".join(each) for each in values], size)
        if model.tokenizer is not None:
            place = resolve_location(parse_location(model.tokenizer), offline=self._offline)
            return load_tokenizer(local_source(place), model, offline=self._offline)
        return task.build_tokenizer(self._checked.data.splits["train"], size)

    def _new_model(self) -> str:
        """A checkpoint with new weights, which is gone when the loader is."""
        self._new_folder = tempfile.TemporaryDirectory(prefix="peftlab-")
        folder = Path(self._new_folder.name)
        head = self._recipe.task.head(self._checked.labels)
        write_new_model(self._recipe.model, head, tokenizer=self.tokenizer, seed=self._recipe.seed, folder=folder)
        return str(folder)

    def load_wrapped(self, look: Callable[[Any], None] = lambda _base: None) -> WrappedModel:
        """Load the base and wrap it by the recipe's method.

        Args:
            look: Gets the base before the method changes it.
        """
        recipe, base = self._recipe, self.load_base()
        if recipe.method.trains_base and is_remote(base.model):
            raise UnsupportedError(
                "the model is of a class that comes with it, and whole models are loaded by transformers' own alone",
                where="method.type",
                hint="Choose a method that leaves the base as it is, such as lora.",
            )
        look(base.model)
        # Kept until the check that goes by their ids: peft puts others in the place of 8-bit ones when it unpacks them.
        own = list(base.model.named_parameters())
        base_names = {id(parameter): name for name, parameter in own}
        context = MethodContext(
            peft_task_type=recipe.task.peft_task() or None,
            total_steps=self.plan.total,
            seed=recipe.seed,
            head_modules=base.head_modules,
            family=self._checked.facts.family,
        )
        # Seeded anew, so that an adapter starts alike whatever the head before it has drawn.
        torch.manual_seed(recipe.seed)
        with without_known_warnings():
            model = recipe.method.apply(base.model, context)
        check_kind(
            model, nn.Module, what=f"apply of {recipe.method.registered_name}", hint="Return the model to train."
        )
        earlier = open_earlier(recipe)
        if earlier is not None and recipe.continues is not None and recipe.continues.weights:
            take_up(model, recipe.method, earlier.folder, before=earlier.recipe.method)
        elif recipe.method.needs_original:
            in_full = recipe.model.model_copy(update={"quantization": None})
            recipe.method.take_original(model, self._load_base(in_full).model)
        if recipe.training.gradient_checkpointing:
            checkpoint_activations(base.model, recipe.model)
        trainable = trainable_parameters(model)
        return WrappedModel(
            model,
            context,
            Parameters(
                total=sum(count_weights(parameter) for parameter in model.parameters()),
                trainable=sum(parameter.numel() for parameter in trainable.values()),
            ),
            hash_tensors(trainable),
            check_trainable_parameters(model, recipe.method, base_names=base_names, head_modules=base.head_modules),
            base.own_head if self._checked.model_location is not None else "",
        )

    def load_base(self) -> BaseModel:
        """Load the base with the task's head; always with the same new weights."""
        base = self._load_base(self._recipe.model)
        self._check_rows(base)
        return base

    def _load_base(self, model: ModelConfig) -> BaseModel:
        recipe = self._recipe
        dropout = model.dropout
        if dropout is None and not recipe.method.trains_base:
            dropout = 0.0
        torch.manual_seed(recipe.seed)
        return load_base_model(
            self.source,
            model,
            recipe.task.head(self._checked.labels),
            dtype=self._dtype,
            dropout=dropout,
            pad_token_id=self.tokenizer.pad_token_id,
            offline=self._offline,
            added_token_ids=ids_of(self.tokenizer, model.add_tokens),
            rows_apart=not recipe.method.trains_base,
            device=self._device,
        )

    def _check_rows(self, base: BaseModel) -> None:
        """Every token has an embedding; what files could not tell before is known now."""
        if self._checked.facts.family == "image":
            return
        rows = len(input_embeddings(base.model).weight)
        without = sorted((at, token) for token, at in self.tokenizer.get_vocab().items() if at >= rows)
        if without:
            error = missing_rows([token for _, token in without], without[0][0], rows)
            error.where = "model.path"
            raise error

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits."""
        return self._checked.labels

    def _check_added_tokens(self) -> None:
        """Every added token is in the training data: its row would stay as it was drawn else."""
        tokens = self._recipe.model.add_tokens
        if not tokens:
            return
        read = {token for example in self.splits["train"].examples for token in example.get("input_ids", ())}
        for token in tokens:
            at = self.tokenizer.convert_tokens_to_ids(token)
            if at not in read and at != self.tokenizer.pad_token_id:
                raise DataError(
                    f"the token `{token}` is in no training example, so its embedding would not learn",
                    where="model.add_tokens",
                    hint="Remove it from the list, or add examples with it.",
                )

    def _encode_pairs(self) -> list[Pair]:
        """The pairs; where copies are made later, as before an estimate, each text with itself."""
        data, recipe = self._checked.data, self._recipe
        if data.unlabeled is None or not any(hook.needs_unlabeled for hook in recipe.training_hooks()):
            return []
        changed = data.unlabeled if data.unlabeled_copies is None else data.unlabeled_copies
        if not len(changed):
            return []
        texts, copies = (
            recipe.task.encode_inputs(split, self.tokenizer, self._checked.labels)
            for split in (data.unlabeled, changed)
        )
        return pairs_of(texts, copies)

    def train_lengths(self) -> list[int]:
        """The length of each training example, as the task counts it."""
        return self._recipe.task.lengths(self.splits["train"].examples)

    def _plan_steps(self) -> StepPlan:
        training, seed = self._recipe.training, self._recipe.seed
        lengths = self.train_lengths()

        def batches(epoch: int) -> list[list[int]]:
            return plan_epoch(
                lengths,
                batch_size=training.batch_size,
                max_tokens=training.max_tokens_per_batch,
                seed=seed,
                epoch=epoch,
                window=training.length_window,
            )

        return StepPlan(batches, training.gradient_accumulation_steps, training.epochs, training.max_steps)
