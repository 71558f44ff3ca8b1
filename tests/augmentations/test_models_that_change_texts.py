"""Synonyms and back-translation by tiny models, the teacher's filter, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

import peftlab
from peftlab.augmentations.back_translation import BackTranslation
from peftlab.augmentations.synonyms import Synonyms
from peftlab.core.augmentation import LoadedModel
from peftlab.core.errors import PeftlabError
from peftlab.core.record import RunRecord
from peftlab.core.task import Prediction
from peftlab.preparation.augmentation_models import CachedChanges
from peftlab.run import augmentation
from tests.conftest import MadeOnce, sentences

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
ENDS = (4, 2.0)
"""Of models with random weights, which would seldom end what they write."""


@pytest.fixture(scope="module")
def masked(made_once: MadeOnce, tiny_bert: Path) -> Path:
    """The tiny BERT with a head that fills masks."""

    def write(folder: Path) -> None:
        from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

        torch.manual_seed(0)
        BertForMaskedLM(BertConfig.from_pretrained(tiny_bert)).save_pretrained(folder)
        AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(folder)

    return made_once("tiny-masked-bert", write)


@pytest.fixture(scope="module")
def translators(made_once: MadeOnce, tiny_bert: Path) -> tuple[Path, Path]:
    """Two tiny T5 with random weights."""

    def write(folder: Path) -> None:
        from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

        tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
        for seed, name in enumerate(("there", "back")):
            torch.manual_seed(seed)
            config = T5Config(
                vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2,
                decoder_start_token_id=0, pad_token_id=0, eos_token_id=tokenizer.sep_token_id,
            )  # fmt: skip
            model = T5ForConditionalGeneration(config)
            model.generation_config.exponential_decay_length_penalty = ENDS
            model.save_pretrained(folder / name)
            tokenizer.save_pretrained(folder / name)

    folder = made_once("tiny-translators", write)
    return folder / "there", folder / "back"


def loaded(folder: Path, kind: str) -> LoadedModel:
    import transformers

    model = getattr(transformers, kind).from_pretrained(folder).eval()
    return LoadedModel(model, transformers.AutoTokenizer.from_pretrained(folder), 64, CPU)


def randoms(count: int, seed: int = 0) -> list[Random]:
    return [Random(f"{seed} {at}") for at in range(count)]


def test_synonyms_are_what_the_model_finds_likely_behind_the_masks(masked: Path) -> None:
    model = loaded(masked, "AutoModelForMaskedLM")
    text = "The good film, [MASK] and Good GOOD day!"
    (found,) = Synonyms(probability=0.999, candidates=1).change_all([text], [Random(0)], {"model": model})
    tokenizer, mask = model.tokenizer, model.tokenizer.mask_token_id
    # Naively: every word a mask; what somebody has typed as [MASK] is letters between brackets, and a word like others.
    ids = [tokenizer.cls_token_id, mask, mask, mask, *tokenizer(",")["input_ids"][1:-1]]
    ids += [*tokenizer("[")["input_ids"][1:-1], mask, *tokenizer("]")["input_ids"][1:-1], *[mask] * 4]
    ids += [*tokenizer("!")["input_ids"][1:-1], tokenizer.sep_token_id]
    logits = model.model(input_ids=torch.tensor([ids])).logits[0]
    places = [at for at, token in enumerate(ids) if token == mask]
    vocabulary = {at: word for word, at in tokenizer.get_vocab().items() if word.isalpha()}
    written = ["The", "good", "film", "MASK", "and", "Good", "GOOD", "day"]
    wanted = []
    for place, old in zip(places, written, strict=True):
        best = max((at for at in vocabulary if vocabulary[at] != old.lower()), key=logits[place].tolist().__getitem__)
        new = vocabulary[best]
        wanted.append(new.upper() if old.isupper() else new.capitalize() if old[0].isupper() else new)
    shown = "{} {} {}, [{}] {} {} {} {}!".format(*wanted)
    assert found == shown


def test_a_text_gets_the_same_words_whatever_its_neighbours_are(masked: Path) -> None:
    model = {"model": loaded(masked, "AutoModelForMaskedLM")}
    texts = [text for text, _ in sentences(40)] + ["", "12 + 3", "good " * 200]
    change = Synonyms(probability=0.4).change_all
    found = change(texts, randoms(len(texts)), model)
    assert found == change(texts, randoms(len(texts)), model) != change(texts, randoms(len(texts), 1), model)
    assert [change([text], [own], model)[0] for text, own in zip(texts[:8], randoms(8), strict=True)] == found[:8]
    assert sum(new != old for new, old in zip(found, texts, strict=True)) > 35
    assert found[-3:-1] == ["", "12 + 3"]
    assert found[-1].split()[70:] == ["good"] * 130, "what is beyond the model's length stays"
    assert [len(new.split()) for new in found] == [len(old.split()) for old in texts]


@pytest.mark.parametrize("worded", ["there", "back"])
def test_a_text_whose_translation_does_not_end_or_shows_nothing_stays(
    translators: tuple[Path, Path], worded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that repeats itself writes until it is stopped; of an empty translation the other one makes anything."""
    models = {
        key: loaded(path, "AutoModelForSeq2SeqLM") for key, path in zip(("there", "back"), translators, strict=True)
    }
    tokenizer = models["there"].tokenizer
    start, end, word = 0, tokenizer.sep_token_id, tokenizer.convert_tokens_to_ids("good")

    def written(input_ids: torch.Tensor, max_new_tokens: int, **_: object) -> torch.Tensor:
        rows = []
        for row in input_ids.tolist():
            length = sum(token != tokenizer.pad_token_id for token in row)
            told = {"ends": [word, end], "nothing": [end], "late": [*[word] * (2 * length + 16), end]}
            rows.append([start, *told[kinds[length]]])
        longest = max(map(len, rows))
        return torch.tensor([[*row, *[tokenizer.pad_token_id] * (longest - len(row))] for row in rows])

    texts = ["film", "a film", "a film then"]
    lengths = [len(tokenizer(text)["input_ids"]) for text in texts]
    kinds = dict(zip(lengths, ("ends", "nothing", "late"), strict=True))
    monkeypatch.setattr(models[worded].model, "generate", written)
    if worded == "back":  # what comes back from there is as long as its text
        monkeypatch.setattr(models["there"].model, "generate", lambda input_ids, **_: torch.nn.functional.pad(
            input_ids, (1, 0), value=start
        ))  # fmt: skip
    else:
        monkeypatch.setattr(models["back"].model, "generate", lambda input_ids, **_: torch.tensor([[start, word, end]]))
    made = BackTranslation(there="a", back="b", temperature=0).change_all(texts, randoms(3), models)
    assert made == ["good", "a film", "a film then"]


def test_a_translation_is_drawn_by_each_text_for_itself(translators: tuple[Path, Path]) -> None:
    models = {
        key: loaded(path, "AutoModelForSeq2SeqLM") for key, path in zip(("there", "back"), translators, strict=True)
    }
    texts = [text for text, _ in sentences(6)]
    made = BackTranslation(there="a", back="b", temperature=1.0)
    found = made.change_all(texts, randoms(6), models)
    assert found == made.change_all(texts, randoms(6), models) != made.change_all(texts, randoms(6, 1), models)
    likeliest = BackTranslation(there="a", back="b", temperature=0).change_all(texts[:1], randoms(1), models)
    tokenizer = models["there"].tokenizer
    for name in ("there", "back"):  # transformers' own greedy search
        ids = tokenizer(likeliest if name == "back" else texts[:1], return_tensors="pt")["input_ids"]
        longest = min(2 * ids.shape[1] + 16, 63)
        written = models[name].model.generate(ids, do_sample=False, max_new_tokens=longest)
        likeliest_there = tokenizer.batch_decode(written, skip_special_tokens=True)
        if name == "there":
            likeliest, wanted = likeliest_there, likeliest
    assert wanted == [" ".join(likeliest_there[0].split())]


@pytest.fixture(scope="module")
def marian(made_once: MadeOnce) -> Path:
    """A tiny Marian with random weights, and the tokenizer of two SentencePiece files that all of its kind have."""

    def write(folder: Path) -> None:
        import io

        import sentencepiece
        from transformers import MarianConfig, MarianMTModel

        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([text for text, _ in sentences(60)]), model_writer=model, vocab_size=60,
            hard_vocab_limit=False, minloglevel=2,
        )  # fmt: skip
        for name in ("source.spm", "target.spm"):
            (folder / name).write_bytes(model.getvalue())
        pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
        names = [pieces.id_to_piece(at) for at in range(pieces.get_piece_size())]
        names = ["</s>", "<unk>", *(name for name in names if name not in ("</s>", "<unk>", "<s>")), "<pad>"]
        (folder / "vocab.json").write_text(json.dumps({name: at for at, name in enumerate(names)}))
        settings = {"tokenizer_class": "MarianTokenizer", "source_lang": "en", "target_lang": "de"}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        torch.manual_seed(0)
        config = MarianConfig(
            vocab_size=len(names), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=64,
            pad_token_id=len(names) - 1, eos_token_id=0, decoder_start_token_id=len(names) - 1, forced_eos_token_id=0,
        )  # fmt: skip
        model = MarianMTModel(config)
        model.generation_config.exponential_decay_length_penalty = ENDS
        model.save_pretrained(folder)

    return made_once("tiny-marian", write)


def test_a_marian_translates(marian: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from peftlab.models import base_model
    from peftlab.models.model_config import ModelConfig
    from peftlab.preparation.augmentation_models import load_models

    made = BackTranslation(there=str(marian), back=str(marian))
    where = {"base": None, "config": ModelConfig(path=str(marian)), "device": CPU, "offline": True}
    models = load_models(made, **where)
    texts = [text for text, _ in sentences(3)]
    found = made.change_all(texts, randoms(3), models)
    assert all(found)
    assert found != texts
    assert "pad" not in " ".join(found)
    long = " ".join(text for text, _ in sentences(40))
    first, kept, last = made.change_all([texts[0], long, texts[2]], randoms(3), models)
    assert kept == long, "its end, which may decide on its label, would be lost without a word"
    assert texts[0] != first
    assert texts[2] != last

    def fails(*_: Any, **__: Any) -> None:
        raise ImportError("MarianTokenizer requires the SentencePiece library")

    monkeypatch.setattr(base_model.AutoTokenizer, "from_pretrained", fails)
    with pytest.raises(PeftlabError, match=r"requires the SentencePiece library[\s\S]*peftlab\[sentencepiece\]"):
        load_models(made, **where)


def test_noise_draws_at_the_temperature() -> None:
    from peftlab.augmentations.back_translation import _Noise

    logits = torch.tensor([[0.0, 1.0, -1.0, float("-inf")]])
    noise = _Noise([Random(0)], 0.5)
    drawn = torch.bincount(torch.cat([noise(None, logits).argmax(-1) for _ in range(4000)]), minlength=4) / 4000
    torch.testing.assert_close(drawn, (logits[0] / 0.5).softmax(-1), atol=0.025, rtol=0)


TRAIN, TEST, POOL = sentences(100)[:24], sentences(100)[24:44], sentences(100)[44:]


@pytest.fixture
def run(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))
    for name, rows in (("train", TRAIN), ("test", TEST), ("pool", POOL)):
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))

    def make(entries: list[Any], folder: str, *, task: str = "text_classification", **more: Any) -> RunRecord:
        source = {"train": str(tmp_path / "train.csv"), "test": str(tmp_path / "test.csv")}
        if "regularizers" in more.get("training", {}):
            source["unlabeled"] = str(tmp_path / "pool.csv")
        recipe = peftlab.Recipe.from_dict(
            {
                "name": "few",
                "measure": False,
                "model": {"path": str(tiny_bert)},
                "task": {"type": task, "max_length": 32},
                "method": {"type": "lora", "rank": 4},
                "waive_guards": ["answers_vary"],
                **more,
                "data": {"source": source, "validation_fraction": 0.0, "augmentation": entries},
                "training": {"max_steps": 3, "batch_size": 8, "learning_rate": 2e-2, **more.get("training", {})},
            }
        )
        record = peftlab.run_recipe(recipe, output_dir=tmp_path / folder, offline=True, device="cpu").record
        assert record.status == "success", record.error
        return record

    return make


def test_a_run_learns_from_them_and_asks_the_models_once(
    run: Any, masked: Path, translators: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [
        {"type": "synonyms", "probability": 0.4, "model": str(masked)},
        {"type": "token_swap", "probability": 0.5},
        {"type": "back_translation", "there": str(translators[0]), "back": str(translators[1]), "keep_if": "agrees"},
    ]
    record = run(entries, "run")
    notes = record.data.notes
    made = {name.removeprefix("augmented_rows_"): count for name, count in notes.items() if "augmented" in name}
    assert sum(made.values()) == 3 * 24
    assert made["added"] > 24
    assert record.data.rows["train"] == 24
    # The teacher knows the rows as they are, and its own answers tell what was kept.
    teacher = peftlab.load(tmp_path / "run/teachers/augmentation")
    assert teacher.record.data.rows == record.data.rows
    assert not teacher.record.data.added_rows_fingerprint
    assert not any("augmented" in name for name in teacher.record.data.notes)
    # What is in the cache is not computed again, and gives the same run.
    assert len(list((tmp_path / "cache/augmented").glob("*.json"))) == 2
    monkeypatch.setattr(Synonyms, "change_all", None)
    monkeypatch.setattr(BackTranslation, "change_all", None)
    again = run(entries, "again")
    assert (again.scores, again.data) == (record.scores, record.data)


def test_what_a_model_said_counts_for_its_tokenizer_and_settings_alone(
    masked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only its weights were part of the cache's key: another tokenizer beside them got the texts of the first."""
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))
    asked: list[int] = []

    def change_all(self: Synonyms, texts: Any, randoms: Any, models: Any) -> list[str]:
        asked.append(len(texts))
        return list(texts)

    monkeypatch.setattr(Synonyms, "change_all", change_all)

    def change(model: LoadedModel) -> int:
        CachedChanges(Synonyms(), {"model": model}).change(["a good day"], randoms(1))
        return len(asked)

    assert [change(loaded(masked, "AutoModelForMaskedLM")) for _ in range(2)] == [1, 1]
    other = loaded(masked, "AutoModelForMaskedLM")
    other.tokenizer.backend_tokenizer.normalizer = None
    assert change(other) == 2
    other = loaded(masked, "AutoModelForMaskedLM")
    other.model.config.hidden_act = "relu"
    assert change(other) == 3
    assert change(replace(loaded(masked, "AutoModelForMaskedLM"), max_length=32)) == 4


def test_the_filter_keeps_copies_to_which_the_teacher_says_the_same(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A teacher that goes by the first letter alone: it need not be right of the row."""
    asked: list[list[str]] = []

    def ask(folder: Path, rows: Any, **_: Any) -> list[Prediction]:
        asked.append(list(rows.columns["text"]))
        return [Prediction(None, "good" if text[0] < "h" else "bad", [0.5, 0.5]) for text in rows.columns["text"]]

    monkeypatch.setattr(augmentation, "ask", ask)
    record = run([{"type": "token_swap", "probability": 0.5, "keep_if": "agrees"}], "run")
    (texts,) = asked
    half = len(texts) // 2
    agreed = sum((one[0] < "h") == (other[0] < "h") for one, other in zip(texts[:half], texts[half:], strict=True))
    assert 0 < agreed < half
    notes = record.data.notes
    assert (notes["augmented_rows_added"], notes["augmented_rows_disagreed"]) == (agreed, half - agreed)


@pytest.mark.parametrize(
    ("entry", "more", "message"),
    [
        ({"type": "synonyms"}, {}, "has none Name a model that fills masks"),
        ({"type": "synonyms", "model": "no/such/place"}, {}, "no/such/place"),
        ({"type": "back_translation", "there": "{bert}", "back": "{bert}"}, {}, "translates by encoder-decoders"),
        ({"type": "back_translation", "there": "{bert}"}, {}, "back"),
        ({"type": "typos", "rows": "unlabeled"}, {}, "there are no texts without labels to change"),
        ({"type": "typos", "keep_if": "agrees"}, {"task": "text_regression"}, "a teacher agrees by classes"),
        ({"type": "typos", "keep_if": "always"}, {}, "keep_if"),
    ],
)
def test_bad_input_gets_a_message(
    run: Any, entry: dict[str, Any], more: dict[str, Any], message: str, tiny_bert: Path, tmp_path: Path
) -> None:
    entry = json.loads(json.dumps(entry).replace("{bert}", str(tiny_bert)))
    with pytest.raises(PeftlabError) as caught:
        run([entry], "bad", **more)
    assert message.casefold() in " ".join(str(caught.value).split()).casefold()
    assert "data.augmentation" in str(caught.value)
    assert not (tmp_path / "bad").exists()
