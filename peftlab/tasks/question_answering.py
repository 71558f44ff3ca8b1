"""Question answering: the piece of a passage that answers a question, or that none does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, PositiveInt, model_validator

from peftlab.core.errors import DataError, UnsupportedError
from peftlab.core.metric import METRICS
from peftlab.core.model_facts import ModelFacts
from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.core.task import TASKS, Head, Inference, Prediction, Task
from peftlab.core.task_guess import Guesser
from peftlab.tasks.guesses.searching import guess_answers
from peftlab.tasks.spans.answers import Answer, read_answers
from peftlab.tasks.spans.choice import best_span
from peftlab.tasks.spans.windows import Window, windows_of
from peftlab.tasks.text_inputs import PADDING, check_family, check_length, model_inputs, pad, without_blank_texts

if TYPE_CHECKING:
    from torch import Tensor, nn

UNANSWERABLE = "has_unanswerable"


@TASKS.register("question_answering")
class QuestionAnswering(Task):
    """Find the answer to a question in a passage (SQuAD's layout), or say that there is none."""

    guess: ClassVar[Guesser] = staticmethod(guess_answers)
    peft_task_type: ClassVar[str] = "QUESTION_ANS"
    why_not_augmented: ClassVar[str] = "an answer is a place in its passage, which would be moved"
    why_not_rewritten: ClassVar[str] = "no text is changed: an answer is a place in its passage, which would be moved"
    collates_ahead: ClassVar[bool] = True
    predicts_from_logits: ClassVar[bool] = False
    labels_are_texts: ClassVar[bool] = True
    padding: ClassVar[Mapping[str, int]] = {**PADDING, "candidates": 0}
    metrics: ClassVar[tuple[str, ...]] = ("squad_f1", "squad_exact_match", "cmrc_f1", "cmrc_exact_match")

    question: str = Field("question", description="The column of the question.")
    passage: str = Field("context", description="The column of the passage.")
    answers: str = Field(
        "answers",
        description="The column of the answers: {text: […], answer_start: […]}, a list of texts, or one text. Empty: "
        "the passage has no answer.",
    )
    max_length: int = Field(
        384, ge=16, description="Tokens of question and passage. Longer passages are read in windows."
    )
    stride: int = Field(128, ge=0, description="Tokens that two windows share; a longer answer may be split.")
    max_answer_tokens: PositiveInt = Field(30, description="Longest answer that is given.")

    @model_validator(mode="after")
    def _windows_move(self) -> Self:
        if self.stride >= self.max_length // 2 - 3:
            raise ValueError(
                f"`stride` is {self.stride}, which leaves a window of {self.max_length} tokens (max_length) no step "
                f"forward: set it to {self.max_length // 2 - 4} or less"
            )
        return self

    def text_columns(self) -> tuple[str, ...]:
        """Question and passage."""
        return (self.question, self.passage)

    def label_columns(self) -> tuple[str, ...]:
        """The answers."""
        return (self.answers,)

    def nullable_columns(self) -> tuple[str, ...]:
        """Without answers, the passage does not answer the question."""
        return (self.answers,)

    def tidy_rows(self, split: Split) -> Split:
        """Blank texts are missing."""
        return without_blank_texts(split, self.text_columns())

    def check(self, facts: ModelFacts) -> None:
        """Refuse encoder-decoders, and lengths beyond the model's positions."""
        check_family(facts)
        check_length(self.max_length, facts)

    def learn(self, train: Split) -> dict[str, Any]:
        """Whether there are questions without an answer: else the model always gives one."""
        return {UNANSWERABLE: any(not self._answers(train, row) for row in range(len(train)))}

    def check_split(self, split: Split, labels: tuple[str, ...]) -> None:
        """Every answer must stand in its passage."""
        answered = sum(bool(self._answers(split, row)) for row in range(len(split)))
        if split.name == "train" and not answered:
            raise DataError("no question of the training split has an answer", where=split.source or "data")

    def head(self, labels: tuple[str, ...]) -> Head:
        """A linear layer over every token: is it the first one of the answer, is it the last one.

        Tokens are compared with each other, so a bias, which is the same for all, would say nothing.
        """
        return Head("AutoModelForQuestionAnswering", {"num_labels": 2}, bias_trains=False)

    def encode(self, split: Split, tokenizer: Any, labels: tuple[str, ...]) -> EncodedSplit:
        """In training an example for each window; elsewhere one for each question, with all windows."""
        if not tokenizer.is_fast:
            raise UnsupportedError(
                "question answering needs a fast tokenizer, which tells the characters of each token; there is none"
            )
        notes: Counter[str] = Counter()
        examples, index = list[Example](), list[int]()
        for row in range(len(split)):
            answers = self._answers(split, row)
            question, passage = (str(split.columns[column][row]) for column in self.text_columns())
            windows, is_cut = windows_of(question, passage, tokenizer, max_length=self.max_length, stride=self.stride)
            notes["questions_cut"] += is_cut
            notes["passages_in_windows"] += len(windows) > 1
            targets = [window.target(answers[0] if answers else None) for window in windows]
            found = any(window.nowhere != start for window, (start, _) in zip(windows, targets, strict=True))
            notes["answers_in_no_window"] += bool(answers) and not found
            groups = [[at] for at in range(len(windows))] if split.name == "train" else [list(range(len(windows)))]
            for group in groups:
                examples.append(
                    {
                        "input_ids": [token for at in group for token in windows[at].input_ids],
                        "windows": [windows[at] for at in group],
                        "targets": [targets[at] for at in group],
                        "passage": passage,
                        "answers": [answer.text for answer in answers],
                        "truncated": is_cut,
                    }
                )
                index.append(split.index[row])
        return EncodedSplit(split.name, index, examples, dict(notes))

    def placeholder(self, length: int, labels: tuple[str, ...]) -> Example:
        """A window that is all passage."""
        window = Window([0] * length, None, [(0, 0)] * length, 0)
        return {"input_ids": [0] * length, "windows": [window], "targets": [(0, 0)], "passage": "", "answers": []}

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """Padded windows; ``candidates`` (windows × length), the places of answers; ``labels`` (windows × 2)."""
        import torch

        windows: list[Window] = [window for example in examples for window in example["windows"]]
        rows: list[Example] = [
            {"input_ids": window.input_ids}
            | ({} if window.token_type_ids is None else {"token_type_ids": window.token_type_ids})
            for window in windows
        ]
        batch = pad(rows, pad_token_id)
        candidates = torch.zeros_like(batch["input_ids"])
        for row, window in enumerate(windows):
            places = [at for at, own in enumerate(window.offsets) if own is not None]
            candidates[row, [*places, window.nowhere]] = 1
        targets = [target for example in examples for target in example["targets"]]
        return {**batch, "candidates": candidates, "labels": torch.tensor(targets)}

    def logits(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Scores of the answer's first and last token, windows × length × 2, without virtual tokens."""
        import torch

        output: Any = model(**model_inputs(batch))
        return torch.stack([output.start_logits, output.end_logits], dim=-1)[:, -batch["input_ids"].shape[1] :]

    def loss(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy over the candidates, the mean of first and last token, summed over the windows."""
        import torch
        from torch.nn import functional

        scores = logits.float()
        scores = scores.masked_fill(batch["candidates"].unsqueeze(-1) == 0, torch.finfo(scores.dtype).min)
        first, last = (
            functional.cross_entropy(scores[..., side], batch["labels"][:, side], reduction="sum") for side in (0, 1)
        )
        return (first + last) / 2

    def predict(self, logits: Tensor, batch: Mapping[str, Tensor], labels: tuple[str, ...]) -> list[Prediction]:
        """An answer needs its passage: see ``predict_examples``.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("question_answering is asked through `predict_examples`")

    def predict_examples(
        self, model: nn.Module, examples: Sequence[Example], pad_token_id: int, inference: Inference
    ) -> list[Prediction]:
        """The best span of all windows, empty where that there is none is likelier.

        ``scores`` are by how much it is likelier than no answer (in logits), its first character, and the one behind
        its last: −1 where there is none.
        """
        batch = self.collate(examples, pad_token_id)
        logits = inference.compute(self.logits, model, batch).cpu()
        predictions, row = [], 0
        for example in examples:
            windows = example["windows"]
            span = best_span(windows, logits[row : row + len(windows)], self.max_answer_tokens)
            row += len(windows)
            is_none = bool(self.learned.get(UNANSWERABLE)) and span.margin <= 0
            text = "" if is_none else example["passage"][span.start : span.end]
            place = (-1.0, -1.0) if is_none or not text else (float(span.start), float(span.end))
            predictions.append(Prediction(list(example["answers"]), text, [span.margin, *place]))
        return predictions

    def decisions(self, prediction: Prediction) -> list[tuple[Any, Any]]:
        """The answer, and the same where it is right but for articles, marks and capitals; else the first right one."""
        said = prediction.prediction
        values = METRICS["squad_exact_match"].per_example([prediction.label], [said])
        is_right = values is not None and bool(values[0])
        return [(said if is_right else next(iter(prediction.label), ""), said)]

    def placeholder_labels(self, split: Split, labels: tuple[str, ...]) -> Mapping[str, Sequence[Any]]:
        """No answers."""
        return {self.answers: [None] * len(split)}

    def answer(self, prediction: Prediction, inputs: Mapping[str, Any], labels: tuple[str, ...]) -> dict[str, Any]:
        """The answer, its characters in the passage, and by how much it is likelier than that there is none."""
        margin, start, end = prediction.scores
        place = {"start": None, "end": None} if start < 0 else {"start": int(start), "end": int(end)}
        return {"prediction": prediction.prediction, **place, "margin": margin}

    def _answers(self, split: Split, row: int) -> list[Answer]:
        return read_answers(split.columns[self.answers][row], str(split.columns[self.passage][row]), split.where(row))
