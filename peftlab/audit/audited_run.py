"""A tuned model as an audit asks it; what it reads is counted, for the progress bar."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from peftlab.audit.pseudo_likelihood import pair_likelihoods
from peftlab.audit.word_attributions import words_of
from peftlab.audit.word_vectors import word_vectors
from peftlab.core.audit import AttributedWord, texts_of
from peftlab.core.capabilities import GeneratesText
from peftlab.core.errors import DataError, UnsupportedError
from peftlab.core.reporter import Silent
from peftlab.core.splits import Example, Split
from peftlab.core.task import Prediction, Task
from peftlab.data.streaming import stream_rows
from peftlab.inference.generate import generate_rows, options_of, prompt_columns
from peftlab.inference.load_tuned import load_run
from peftlab.inference.text_vectors import mean_states
from peftlab.inference.tuned_model import TunedModel
from peftlab.tasks.language.generation import prompt_room

STEPS = 16
"""Of the integrals; the order of words needs fewer than a sum that is complete."""
LIKELIHOOD_BATCH = 8
"""So many texts have logits over the whole vocabulary at once."""
CHUNK = 256
"""So many texts are encoded together; the bar moves after each."""


class AuditedRun:
    """A run, or an export of one.

    Args:
        tuned: The model.
        after_texts: Is told how many texts it has read.
    """

    def __init__(self, tuned: TunedModel, after_texts: Callable[[int], None] = lambda count: None) -> None:
        self.tuned = tuned
        self._after_texts = after_texts

    @property
    def name(self) -> str:
        """The run's."""
        return self.tuned.name

    @property
    def task(self) -> Task:
        """What it does."""
        return self.tuned.task

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.tuned.labels

    def predict(self, rows: Split) -> list[Prediction]:
        """What it says of each row; nothing, where texts are joined and cut into blocks.

        Raises:
            UnsupportedError: It judges some rows together.
        """
        found: list[Prediction] = []
        for part in _parts(rows):
            encoded = self.tuned.encode(part)
            said = self.tuned.predict(encoded.examples)
            if list(encoded.index) != list(part.index):
                if not any(self.task.decisions(each) for each in said):
                    return [Prediction(None, None, [])] * len(rows)
                raise UnsupportedError(
                    f"a run of {self.task.registered_name} judges these rows together, and an audit looks at each",
                    where=rows.source or self.name,
                )
            found += said
            self._after_texts(len(part))
        return found

    def logits(self, rows: Split) -> NDArray[np.float64] | None:
        """Rows × classes; None where a row has not one vector of them."""
        if not self.task.predicts_from_logits:
            return None
        return self._each(rows, lambda batch: self.tuned.compute_logits(batch), self.labels)

    def log_likelihoods(self, texts: Sequence[str]) -> NDArray[np.float64] | None:
        """The log-probability of each text after the token that texts begin with.

        Raises:
            DataError: A text is longer than what the model reads at once.
        """
        tuned = self.tuned
        if tuned.model is None or self.task.head(tuned.labels).auto_class != "AutoModelForCausalLM":
            return None
        model, inference = tuned.module()
        room = prompt_room(model, inference, 0)
        found: list[float] = []
        for start in range(0, len(texts), LIKELIHOOD_BATCH):
            part = texts[start : start + LIKELIHOOD_BATCH]
            batch = token_batch(part, tuned.tokenizer)
            length = batch["input_ids"].shape[1]
            if length > room:
                raise DataError(
                    f"a text has {length} tokens with the one before it, and the model reads {room}",
                    where=max(part, key=len)[:60],
                    hint="Leave it out, or shorten it.",
                )
            found += inference.compute(_log_likelihoods, model, batch).tolist()
            self._after_texts(len(part))
        return np.array(found)

    def pair_log_likelihoods(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64] | None:
        """The log-probabilities of both texts, or by a masked model those of the tokens that both have.

        Raises:
            DataError: A text is longer than what the model reads at once.
        """
        tuned = self.tuned
        if tuned.model is None or self.task.head(tuned.labels).auto_class != "AutoModelForMaskedLM" or tuned.labels:
            found = self.log_likelihoods([text for pair in pairs for text in pair])
            return None if found is None else found.reshape(-1, 2)
        said: list[tuple[float, float]] = []
        for start in range(0, len(pairs), LIKELIHOOD_BATCH):
            part = pairs[start : start + LIKELIHOOD_BATCH]
            model, inference = tuned.module()
            said += pair_likelihoods(model, part, tuned.tokenizer, inference)
            self._after_texts(2 * len(part))
        return np.array(said).reshape(-1, 2)

    def write(self, prompts: Sequence[str]) -> list[str] | None:
        """What it writes, as evaluation lets it: always the likeliest token."""
        task = self.task
        if self.tuned.model is None or not isinstance(task, GeneratesText):
            return None
        if not prompts:
            return []
        rows = stream_rows("prompts", map(task.prompt_row, prompts), keep=prompt_columns(self.tuned))
        written = generate_rows(self.tuned, rows, Silent(), options_of(self.tuned))
        return [str(row["generated"]) for row in written]

    def attributions(self, text: str, target: str) -> list[AttributedWord] | None:
        """Integrated gradients, the tokens of a word together."""
        from peftlab.inference.explanation.attributions import explain

        tuned = self.tuned
        if tuned.model is None or not tuned.labels or not self.task.predicts_from_logits:
            return None
        try:
            found = explain(tuned, text, target=target, steps=STEPS)
        except UnsupportedError:  # such as of a text that is read in several windows
            return None
        self._after_texts(STEPS)
        return words_of(found, frozenset(tuned.tokenizer.all_special_tokens))

    def randomized(self) -> AuditedRun | None:
        """A copy from the run's folder, the numbers of each weight in another order (Adebayo et al., NeurIPS 2018)."""
        if self.tuned.record is None or self.tuned.inference is None:
            return None
        copy = load_run(self.tuned.folder, offline=True, device=self.tuned.inference.device)
        model, _ = copy.module()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weights in model.parameters():
                if weights.is_floating_point():
                    order = torch.randperm(weights.numel(), generator=generator).to(weights.device)
                    weights.copy_(weights.flatten()[order].view_as(weights))
        return AuditedRun(copy, self._after_texts)

    def embed(self, rows: Split) -> NDArray[np.float64]:
        """The mean of each text's last hidden states; of its words, where torch does not run the model."""
        tuned = self.tuned
        if tuned.model is None or tuned.inference is None or not self.task.predicts_from_logits:
            return word_vectors(texts_of(rows, self.task))
        model, inference = tuned.module()

        def vectors(batch: Mapping[str, Tensor]) -> Tensor:
            return inference.compute(mean_states, model, batch).float().cpu()

        found = self._each(rows, vectors, None)
        return word_vectors(texts_of(rows, self.task)) if found is None else found

    def _each(
        self, rows: Split, compute: Callable[[Mapping[str, Tensor]], Tensor], classes: tuple[str, ...] | None
    ) -> NDArray[np.float64] | None:
        """One vector a row, in the order of the rows; None where batches have another shape."""
        found: dict[int, NDArray[np.float64]] = {}
        start = 0
        for part in _parts(rows):
            examples = self.tuned.encode(part).examples
            if len(examples) != len(part):
                return None
            for positions in self.tuned.batches(self.task.lengths(examples)):
                vectors = compute(self._collated([examples[at] for at in positions]))
                if vectors.ndim != 2 or len(vectors) != len(positions):
                    return None
                if classes is not None and vectors.shape[1] != len(classes):
                    return None
                found.update(zip([start + at for at in positions], vectors.double().numpy(), strict=True))
            start += len(part)
            self._after_texts(len(part))
        return np.array([found[at] for at in range(len(rows))])

    def _collated(self, examples: list[Example]) -> Mapping[str, Any]:
        return self.task.collate(examples, self.tuned.tokenizer.pad_token_id)


def token_batch(texts: Sequence[str], tokenizer: Any) -> dict[str, Tensor]:
    """Tokens of texts, each after the token that begins or ends a text, padded to the right (texts × length)."""
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    rows = [torch.tensor([first, *tokenizer(text, add_special_tokens=False)["input_ids"]]) for text in texts]
    length = max(map(len, rows))
    ids, mask = torch.zeros((2, len(rows), length), dtype=torch.long)
    for at, row in enumerate(rows):
        ids[at, : len(row)], mask[at, : len(row)] = row, 1
    return {"input_ids": ids, "attention_mask": mask}


def _log_likelihoods(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    ids, mask = batch["input_ids"], batch["attention_mask"]
    with torch.inference_mode():
        # What a method puts before the text is left out.
        logits = model(input_ids=ids, attention_mask=mask).logits[:, -ids.shape[1] :]
        chosen = logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
    total: Tensor = (chosen * mask[:, 1:]).sum(1).cpu()
    return total


def _parts(rows: Split) -> list[Split]:
    found = []
    for start in range(0, len(rows), CHUNK):
        columns = {name: values[start : start + CHUNK] for name, values in rows.columns.items()}
        # Never as training rows, which some tasks encode with others beside them.
        found.append(Split("test", rows.index[start : start + CHUNK], columns, rows.source))
    return found
