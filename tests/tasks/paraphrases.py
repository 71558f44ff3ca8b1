"""A task as another package would write it, in one file: texts and their paraphrases come to lie near each other."""

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from peftlab import METRICS, TASKS, Metric, Task
from peftlab.core.capabilities import EmbedsText
from peftlab.core.splits import EncodedSplit
from peftlab.core.task import Prediction
from peftlab.tasks.text_inputs import check_family, check_length, pad, text_vectors, tokens_of


@METRICS.register("own_is_nearest")
class OwnIsNearest(Metric):
    """Share of the texts whose own paraphrase is the nearest one."""

    higher_is_better = True
    range = (0.0, 1.0)
    unit = "share"

    @classmethod
    def per_example(cls, labels, predictions):
        return (np.asarray(predictions, dtype=np.float64) <= np.asarray(labels, dtype=np.float64)).astype(np.float64)


@TASKS.register("paraphrases")
class Paraphrases(Task):
    """Embed texts so that each lies nearest to its paraphrase; the others of a batch are the wrong answers."""

    metrics = ("own_is_nearest",)
    divisible = False  # the loss of a text depends on the whole batch
    ranks_whole_split = True  # and its rank on the whole split
    capabilities = (EmbedsText,)

    text: str = Field("text", description="The column of the text.")
    paraphrase: str = Field("paraphrase", description="The column of its paraphrase.")
    max_length: PositiveInt = Field(64, description="Longer texts are cut to this many tokens.")
    temperature: PositiveFloat = Field(0.05, description="Cosines are divided by it.")

    def text_columns(self):
        return (self.text, self.paraphrase)

    def input_columns(self):
        return (self.text,)

    def check(self, facts):
        check_family(facts)
        check_length(self.max_length, facts)

    def encode(self, split, tokenizer, labels):
        sides = [tokens_of(tokenizer, split.columns[column], self.max_length) for column in self.text_columns()]
        return EncodedSplit(split.name, split.index, [_example(*texts) for texts in zip(*sides, strict=True)])

    def encode_inputs(self, split, tokenizer, labels):
        texts = tokens_of(tokenizer, split.columns[self.text], self.max_length)
        return EncodedSplit(split.name, split.index, [_example(text) for text in texts])

    def placeholder(self, length, labels):
        return {"input_ids": [0] * length, "lengths": [length - length // 2, length // 2]}

    def longest(self):
        return 2 * self.max_length

    def collate(self, examples, pad_token_id):
        import torch

        rows = [row for side in range(len(examples[0]["lengths"])) for row in _side(examples, side)]
        return {**pad(rows, pad_token_id), "sides": torch.tensor([len(rows) // len(examples)] * len(examples))}

    def logits(self, model, batch):
        return self.embeddings(text_vectors(model, batch))

    def loss(self, logits, batch):
        import torch

        anchors, others = logits.chunk(2)
        cosines = anchors @ others.T / self.temperature
        own = torch.arange(len(cosines), device=cosines.device)
        return torch.nn.functional.cross_entropy(cosines, own, reduction="sum")

    def loss_terms(self, batch):
        return len(batch["sides"])

    def predict(self, logits, batch, labels):
        sides = logits.chunk(int(batch["sides"][0]))
        return [Prediction(1.0, vectors[0].tolist(), vectors) for vectors in zip(*sides, strict=True)]

    def rank(self, predictions):
        import torch

        texts, others = (torch.stack(side) for side in zip(*(found.scores for found in predictions), strict=True))
        cosines = texts @ others.T
        ranks = (cosines >= cosines.diagonal()[:, None]).sum(dim=1)
        return [Prediction(1.0, float(rank), [float(own)]) for rank, own in zip(ranks, cosines.diagonal(), strict=True)]

    def decisions(self, prediction):
        return []

    def answer(self, prediction, inputs, labels):
        return {"prediction": prediction.prediction}

    def embedding_examples(self, texts, tokenizer):
        return [_example(text) for text in tokens_of(tokenizer, texts, self.max_length)]

    def embeddings(self, logits):
        return logits / logits.norm(dim=1, keepdim=True)


def _example(*texts):
    ids = [token for text in texts for token in text["input_ids"]]
    cut = any(text["truncated"] for text in texts)
    return {"input_ids": ids, "lengths": [len(text["input_ids"]) for text in texts], "truncated": cut}


def _side(examples, side):
    starts = [(example, sum(example["lengths"][:side])) for example in examples]
    return [{"input_ids": e["input_ids"][start : start + e["lengths"][side]]} for e, start in starts]
