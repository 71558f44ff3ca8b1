"""Two towers: the loss and the vectors of CLIP's own code, work in parts, every way to use a run, rows that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors import safe_open

import peftlab
from peftlab.core.config import Document
from peftlab.core.errors import ConfigError, DataError, UnsupportedError
from peftlab.core.model_facts import ModelFacts
from peftlab.core.reporter import Silent
from peftlab.core.task import TASKS
from peftlab.inference.export.export import export_run
from peftlab.preparation.check import check_recipe
from peftlab.recipe.schema import Recipe

pytestmark = pytest.mark.slow

SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
TEXT = {**SIZES, "vocab_size": 100, "max_position_embeddings": 32, "eos_token_id": 99}
VISION = {**SIZES, "image_size": 8, "patch_size": 4}


def recipe(model: Any, source: Path, **changes: Any) -> Recipe:
    training = {"max_steps": 3, "batch_size": 6, "learning_rate": 1e-2, "log_every_steps": 1}
    values: dict[str, Any] = {
        "name": "pictures",
        "model": model if isinstance(model, dict) else {"path": str(model)},
        "task": {"type": "image_text_embedding", "max_length": 24},
        "data": {"source": str(source), "validation_fraction": 0, "test_fraction": 0.3},
        "method": {"type": "lora"},
        "measure": False,
        **changes,
    }
    values["training"] = training | changes.get("training", {})
    return Recipe.from_dict(values)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures, each with a text of its own; two rows show the same picture."""
    folder, rows = tmp_path_factory.mktemp("pictures"), []
    for at in range(20):
        pixels = np.random.default_rng(min(at, 18)).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{at}.png")
        rows.append({"image": f"{at}.png", "text": "a good film " + "abcdefghijklmnopqrst"[at]})
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("kind", ["clip", "metaclip_2", "chinese_clip", "altclip", "vision-text-dual-encoder"])
def test_loss_and_vectors_are_those_of_the_model_itself(kind: str) -> None:
    of_kind = {"model_type": "bert"}, {"model_type": "vit"}
    text, vision = of_kind if kind == "vision-text-dual-encoder" else ({}, {})
    torch.manual_seed(0)
    values = {"text_config": {**TEXT, **text}, "vision_config": {**VISION, **vision}, "projection_dim": 16}
    model = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(kind, **values)).eval()
    task = TASKS["image_text_embedding"]()
    ids = torch.randint(3, 98, (5, 7))
    ids[:, -1] = 99
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": torch.randn(5, 3, 8, 8)}
    keyed = batch | {"keys": torch.arange(10).view(5, 2)}
    with torch.no_grad():
        own = model(**batch, return_loss=True)
        logits = task.logits(model, keyed)
        loss = task.loss(logits, keyed) / task.loss_terms(keyed)
        images = task.logits(model, {"pixel_values": batch["pixel_values"]})
        texts = task.logits(model, {key: batch[key] for key in ("input_ids", "attention_mask")})
    assert float(loss) == pytest.approx(float(own.loss), rel=1e-6)
    torch.testing.assert_close(images, own.image_embeds)
    torch.testing.assert_close(texts, own.text_embeds)
    # A text that stands twice is no wrong answer: without its twin the loss of each of both is the same.
    twins = keyed | {"keys": torch.tensor([[0, 1], [2, 3], [4, 5], [6, 7], [8, 7]])}
    similar = own.logits_per_image.clone()
    similar[3, 4] = similar[4, 3] = -torch.inf
    targets = torch.arange(5)
    expected = (
        sum(torch.nn.functional.cross_entropy(side, targets, reduction="sum") for side in (similar, similar.T)) / 2
    )
    assert float(task.loss(logits, twins)) == pytest.approx(float(expected), rel=1e-6)


@pytest.fixture(scope="module")
def full_run(tiny_clip: Path, table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full") / "run"
    done = peftlab.run_recipe(recipe(tiny_clip, table, method={"type": "full"}, measure=True), output_dir=folder)
    assert done.record.status == "success", done.record.error
    return folder


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [value for line in lines if "step" in line for value in (line["loss"], line["gradient_norm"])]


def test_a_batch_in_parts_has_the_loss_and_the_gradients_of_the_whole(
    tiny_clip: Path, table: Path, full_run: Path, tmp_path: Path
) -> None:
    in_parts = recipe(tiny_clip, table, method={"type": "full"}, training={"micro_batch_size": 2})
    peftlab.run_recipe(in_parts, output_dir=tmp_path / "run")
    assert losses(tmp_path / "run") == pytest.approx(losses(full_run), rel=1e-5)
    assert losses(full_run)


def test_a_run_answers_for_texts_images_and_pairs_and_transformers_gives_the_same_vectors(
    full_run: Path, table: Path, tmp_path: Path
) -> None:
    loaded = peftlab.load(full_run)
    file = table.parent / "3.png"
    text, image = "a good film d", str(file)
    of_text, of_image = loaded.predict([text])[0]["prediction"], loaded.predict([{"image": image}])[0]["prediction"]
    pair = loaded.predict([{"image": image, "text": text}])[0]["prediction"]
    assert pair == pytest.approx(float(np.dot(of_text, of_image)), abs=1e-5)
    assert loaded.predict([{"image": Image.open(file)}])[0]["prediction"] == of_image

    model = transformers.AutoModel.from_pretrained(full_run / "model")
    processor = transformers.AutoProcessor.from_pretrained(full_run / "model")
    with torch.no_grad():
        inputs = processor(text=[text], images=[Image.open(file)], return_tensors="pt")
        output = model(**{key: inputs[key] for key in ("input_ids", "attention_mask", "pixel_values")})
    np.testing.assert_allclose(output.text_embeds[0].numpy(), of_text, atol=1e-5)
    np.testing.assert_allclose(output.image_embeds[0].numpy(), of_image, atol=1e-5)


def test_an_adapter_merged_into_its_base_is_a_model_of_transformers_with_the_same_vectors(
    tiny_clip: Path, table: Path, tmp_path: Path
) -> None:
    done = peftlab.run_recipe(recipe(tiny_clip, table), output_dir=tmp_path / "run")
    assert done.record.status == "success", done.record.error
    with safe_open(tmp_path / "run/adapter/adapter_model.safetensors", framework="pt") as weights:
        adapted = {name.removeprefix("base_model.model.").partition(".")[0] for name in weights.keys()}  # noqa: SIM118
    assert adapted == {"text_model", "vision_model", "text_projection", "visual_projection"}
    export_run(tmp_path / "run", "merged", tmp_path / "merged", offline=True, reporter=Silent())
    texts = ["a good film d", "it"]
    own, merged = (peftlab.load(tmp_path / name).predict(texts) for name in ("run", "merged"))
    for ours, theirs in zip(own, merged, strict=True):
        assert ours["prediction"] == pytest.approx(theirs["prediction"], abs=1e-5)
    assert type(transformers.AutoModel.from_pretrained(tmp_path / "merged")).__name__ == "CLIPModel"
    with pytest.raises(UnsupportedError, match="two towers"):
        export_run(tmp_path / "run", "onnx", tmp_path / "onnx", offline=True, reporter=Silent())


def test_a_run_on_a_base_of_four_bits_that_broke_off_goes_on_to_the_same_weights(
    tiny_clip: Path, table: Path, tmp_path: Path
) -> None:
    """In parts of a batch, with a checkpoint between them and the end."""

    class Failing(peftlab.Callback):
        def on_step(self, step: int, loss: float) -> None:
            if step == 2:
                raise ValueError("no thanks")

    in_parts = {"micro_batch_size": 2, "checkpoint_every_steps": 1}
    quantized = recipe({"path": str(tiny_clip), "quantization": "nf4"}, table, training=in_parts)
    whole = peftlab.run_recipe(quantized, output_dir=tmp_path / "whole").record
    assert whole.status == "success", whole.error
    assert {name for name, guard in whole.guards.items() if guard.status == "failed"} == set()
    assert peftlab.run_recipe(quantized, output_dir=tmp_path / "part", callbacks=[Failing()]).record.status == "failed"
    again = peftlab.run_recipe(quantized, output_dir=tmp_path / "part", resume=True).record
    assert (again.resumed, again.scores) == (1, whole.scores)
    assert losses(tmp_path / "part") == losses(tmp_path / "whole")
    weights = [(tmp_path / name / "adapter/adapter_model.safetensors").read_bytes() for name in ("part", "whole")]
    assert weights[0] == weights[1]


def test_a_row_that_cannot_be_used_is_named(tiny_clip: Path, table: Path, tmp_path: Path) -> None:
    (table.parent / "bomb.png").write_bytes(b"not an image")
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    for change, says in (
        ({"image": "bomb.png"}, "no image of a known kind"),
        ({"image": "../secret.png"}, "outside of the table's folder"),
        ({"text": " "}, "missing"),
        ({"image": ""}, "missing"),
    ):
        path = table.parent / "bad.jsonl"
        path.write_text("".join(json.dumps(row | (change if at == 4 else {})) + "\n" for at, row in enumerate(rows)))
        with pytest.raises(DataError, match=says) as found:
            peftlab.run_recipe(recipe(tiny_clip, path), output_dir=tmp_path / "run")
        assert "row 5" in str(found.value)


def new_clip(**text: Any) -> dict[str, Any]:
    small = {
        "model_type": "clip",
        "text_config": {**SIZES, "max_position_embeddings": 24, **text},
        "vision_config": VISION,
    }
    return {"from_config": small}


def test_a_model_starts_from_nothing_where_all_of_its_settings_are_known(
    tiny_gpt2: Path, table: Path, tmp_path: Path
) -> None:
    full = {"method": {"type": "full"}, "training": {"max_steps": 1}}
    done = peftlab.run_recipe(recipe(new_clip(), table, **full), output_dir=tmp_path / "run")
    assert done.record.status == "success", done.record.error
    with pytest.raises(ConfigError, match=r"text_config.hiden_size: clip_text_model has no setting `hiden_size`"):
        peftlab.run_recipe(recipe(new_clip(hiden_size=3), table, **full), output_dir=tmp_path / "misspelt")
    without_end = {**new_clip(), "tokenizer": str(tiny_gpt2)}
    with pytest.raises(ConfigError, match="takes a text's vector from its end token"):
        peftlab.run_recipe(recipe(without_end, table, **full), output_dir=tmp_path / "without_end")
    chat = {"from_config": {"model_type": "siglip", "text_config": {}, "vision_config": {}}}
    with pytest.raises(UnsupportedError, match="no vision-language models but those with two towers"):
        check_recipe(recipe(chat, table, **full), Document(source="it", values={}), offline=True)
    one_tower = {"from_config": {"model_type": "clip", "text_config": {}}}
    with pytest.raises(ConfigError, match="the settings of one are missing"):
        check_recipe(recipe(one_tower, table, **full), Document(source="it", values={}), offline=True)


def test_models_and_tasks_that_do_not_go_together_are_refused(tiny_clip: Path, tiny_vit: Path, table: Path) -> None:
    document = Document(source="it", values={})
    with pytest.raises(UnsupportedError, match=r"is a task of images and texts, and .* reads images\n"):
        check_recipe(recipe(tiny_vit, table), document, offline=True)
    of_images = recipe(tiny_clip, table).model_copy(update={"task": TASKS["image_classification"]()})
    with pytest.raises(UnsupportedError, match=r"is a task of images, and .* reads images and texts"):
        check_recipe(of_images, document, offline=True)
    with pytest.raises(ConfigError, match="positions for 64 tokens"):
        TASKS["image_text_embedding"]().check(
            ModelFacts("it", "clip", "image_text", {"text_config": {"max_position_embeddings": 64}})
        )
