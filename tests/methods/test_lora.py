"""LoRA's kin, and target modules."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
import torch

from peftlab.artifact.save import save_artifact
from peftlab.core.errors import UnsupportedError
from peftlab.core.method import METHODS
from peftlab.testing.method_training import logits_of, optimizer_of, step
from peftlab.testing.tiny_models import KINDS, Kind, NoTokenizer, toy_batch

BERT, TOKENS, GPT2 = (next(kind for kind in KINDS if kind.name == name) for name in ("bert", "bert-tokens", "gpt2"))
LORA = METHODS.get("lora")


@pytest.mark.parametrize("kind", [BERT, GPT2], ids=lambda kind: kind.name)
@pytest.mark.parametrize(
    "options",
    [{"initialization": "pissa"}, {"initialization": "olora"}, {"initialization": "gaussian"}, {"dora": True},
     {"rslora": True}, {"initialization": "pissa", "rslora": True}],
    ids=lambda options: "-".join(map(str, options.values())),
)  # fmt: skip
def test_plain_peft_loads_every_kind_onto_the_unchanged_base(options: dict, kind: Kind, tmp_path: Path) -> None:
    method = LORA(rank=4, alpha=8, **options)
    torch.manual_seed(0)
    if kind is GPT2 and options == {"initialization": "olora"}:
        with pytest.raises(UnsupportedError, match="transposed matrices"):
            method.apply(kind.build(), kind.context())
        return
    model = method.apply(kind.build(), kind.context())
    start = logits_of(model, kind)
    assert torch.allclose(start, logits_of(kind.build(), kind), atol=1e-5)  # every kind begins at the base
    optimizer = optimizer_of(method, model)
    for number in range(1, 13):
        step(method, model, kind, optimizer, toy_batch(kind), number)
    before = logits_of(model.eval(), kind)
    save_artifact(
        model, method, folder=tmp_path, tokenizer=NoTokenizer(), context=kind.context(), base_path="some/base"
    )
    torch.manual_seed(3)
    plain = peft.PeftModel.from_pretrained(kind.build(), tmp_path / "adapter").eval()
    assert not torch.allclose(before, start, atol=1e-2)
    assert torch.allclose(logits_of(plain, kind), before, atol=1e-5)
    # Saving leaves the trained model as it was.
    assert torch.equal(logits_of(model, kind), before)


def test_dora_cannot_be_moved_back_to_the_base() -> None:
    with pytest.raises(ValueError, match="does not work with"):
        LORA(dora=True, initialization="pissa")


def test_rslora_scales_by_the_root_of_the_rank() -> None:
    model = LORA(rank=4, alpha=8, rslora=True).apply(BERT.build(), BERT.context())
    layer = model.base_model.model.bert.encoder.layer[0].attention.self.query
    assert layer.scaling["default"] == pytest.approx(8 / 4**0.5)


def adapted(method, kind: Kind) -> set[str]:
    return set(method.apply(kind.build(), kind.context()).base_model.targeted_module_names)


def test_all_linear_leaves_the_head_out() -> None:
    for kind in (BERT, TOKENS):
        names = adapted(LORA(), kind)
        assert "classifier" not in names
        assert "bert.encoder.layer.1.output.dense" in names
        assert not any("embeddings" in name for name in names)


def test_names_match_by_their_end_and_by_whole_words() -> None:
    names = adapted(LORA(target_modules=["attention.output.dense", "query"]), BERT)
    assert names == {
        f"bert.encoder.layer.{n}.attention.{part}" for n in (0, 1) for part in ("output.dense", "self.query")
    }
    with pytest.raises(UnsupportedError, match="`uery` matches no linear layer"):
        LORA(target_modules=["uery"]).apply(BERT.build(), BERT.context())


@pytest.mark.parametrize("check", ["facts", "model"])
def test_one_name_that_matches_nothing_is_enough(check: str) -> None:
    method = LORA(target_modules=["query", "valeu"])
    calls = {
        "facts": lambda: method.check(BERT.facts(BERT.build())),
        "model": lambda: method.apply(BERT.build(), BERT.context()),
    }
    with pytest.raises(UnsupportedError) as caught:
        calls[check]()
    assert "`valeu` matches no linear layer" in str(caught.value)
    assert "Did you mean `value`?" in str(caught.value)


def test_what_matched_is_told() -> None:
    method = LORA(target_modules=["query", "value"])
    guard = method.guards(method.apply(BERT.build(), BERT.context()), BERT.context())["target_modules_matched"]
    assert guard.status == "passed"
    assert guard.detail == "4 modules: query × 2, value × 2"
