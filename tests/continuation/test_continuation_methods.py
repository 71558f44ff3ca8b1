"""A run that goes on begins with what the earlier run left, whatever its method, or says why it cannot."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from peftlab.artifact.save import save_artifact
from peftlab.artifact.take_up import take_up
from peftlab.core.errors import UnsupportedError
from peftlab.core.method import METHODS, MethodContext
from peftlab.methods.lora import Lora
from peftlab.methods.o_lora import OrthogonalLora
from tests.small_methods import DISTINCT, small_method

CANNOT = {"p_tuning"}
"""What it saves is not what trains, but what its encoder has computed."""
CONTEXT = MethodContext("SEQ_CLS", 30, head_modules=("classifier",), family="encoder")
BATCH = {"input_ids": torch.arange(3, 23).view(2, 10), "attention_mask": torch.ones(2, 10, dtype=torch.long)}


def base() -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    return BertForSequenceClassification(BertConfig(vocab_size=60, num_labels=3, **sizes)).eval()


class Tokenizer:
    """Files that a whole artifact has."""

    def save_pretrained(self, folder: Path) -> None:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (Path(folder) / name).write_text("{}")


def moved(method: Any, seed: int = 1) -> Any:
    """A model of the method whose trained weights are somewhere else than at their start."""
    model = method.apply(base(), CONTEXT)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def saved(model: Any, method: Any, folder: Path) -> Path:
    save_artifact(model, method, folder=folder, tokenizer=Tokenizer(), context=CONTEXT, base_path="none")
    return folder


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**BATCH).logits


@pytest.mark.parametrize("name", DISTINCT)
def test_it_begins_where_the_earlier_run_ended(name: str, tmp_path: Path) -> None:
    method = small_method(name)
    earlier = moved(method)
    folder = saved(earlier, method, tmp_path)
    torch.manual_seed(7)
    method = method.after(method)
    model = method.apply(base(), CONTEXT)
    if name in CANNOT:
        with pytest.raises(UnsupportedError, match="training cannot go on from"):
            take_up(model, method, folder)
        return
    before = logits(model)
    take_up(model, method, folder)
    torch.testing.assert_close(logits(model), logits(earlier), rtol=0, atol=1e-6)
    assert not torch.equal(before, logits(model))
    assert any(parameter.requires_grad for parameter in model.parameters())


def test_other_settings_do_not_fit(tmp_path: Path) -> None:
    folder = saved(moved(Lora(rank=2)), Lora(rank=2), tmp_path)
    with pytest.raises(UnsupportedError, match=r"cannot go on .*size mismatch|cannot go on"):
        take_up(Lora(rank=4).apply(base(), CONTEXT), Lora(rank=4), folder)
    with pytest.raises(UnsupportedError, match=r"do not fit: method.rank was 2, is 4"):
        take_up(Lora(rank=4).apply(base(), CONTEXT), Lora(rank=4), folder, before=Lora(rank=2))
    shutil.rmtree(folder / "adapter")
    with pytest.raises(UnsupportedError, match=r"tuned with lora, and its weights are none of bitfit"):
        METHODS["bitfit"]().after(Lora())


def test_pissa_goes_on_as_the_lora_that_it_has_saved(tmp_path: Path) -> None:
    method = Lora(rank=2, alpha=4, initialization="pissa")
    earlier = moved(method)
    folder = saved(earlier, method, tmp_path)
    following = method.after(method)
    assert (following.rank, following.alpha, following.initialization) == (4, 8, "default")
    model = following.apply(base(), CONTEXT)
    take_up(model, following, folder)
    torch.testing.assert_close(logits(model), logits(earlier), rtol=0, atol=1e-5)
    with pytest.raises(UnsupportedError, match="no whole alpha"):
        Lora(rslora=True, initialization="pissa").after(Lora(rslora=True, initialization="pissa"))


def test_o_lora_freezes_the_earlier_ranks_and_keeps_the_new_ones_apart(tmp_path: Path) -> None:
    """Against a naive computation: A of the earlier run times the transposed A of this one, entry by entry."""
    first = Lora(rank=2, alpha=4)
    earlier = moved(first)
    folder = saved(earlier, first, tmp_path)
    method = OrthogonalLora(rank=3, alpha=6, orthogonality=0.7).after(first)
    assert method.earlier_rank == 2
    torch.manual_seed(3)
    model = method.apply(base(), CONTEXT)
    take_up(model, method, folder)
    torch.testing.assert_close(logits(model), logits(earlier), rtol=0, atol=1e-6)  # new B are zero
    method.begin(model, CONTEXT)

    factors = {name: value for name, value in model.named_parameters() if "lora_A" in name}
    expected = 0.0
    for value in factors.values():
        for old in value[:2].tolist():
            for new in value[2:].tolist():
                expected += sum(a * b for a, b in zip(old, new, strict=True)) ** 2
    penalty = method.penalty(model)
    assert float(penalty) == pytest.approx(0.7 * expected, rel=1e-4)

    start = {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}
    trained = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.05, weight_decay=0.5)
    for step in range(1, 4):
        optimizer.zero_grad()
        (model(**BATCH, labels=torch.tensor([0, 2])).loss + method.penalty(model)).backward()
        optimizer.step()
        method.after_step(model, step)
    for name, value in model.named_parameters():
        if "lora_A" in name:
            assert torch.equal(value[:2], start[name][:2])
            assert not torch.equal(value[2:], start[name][2:])
        elif "lora_B" in name:
            assert torch.equal(value[:, :2], start[name][:, :2])
            assert not torch.equal(value[:, 2:], start[name][:, 2:])
    assert float(method.penalty(model).detach()) < float(penalty)
    assert method.after(method).earlier_rank == 5
    with pytest.raises(UnsupportedError, match="scales its update by 4, and this one by 2"):
        OrthogonalLora(rank=4, alpha=8).after(Lora(rank=4, alpha=16))
    with pytest.raises(UnsupportedError, match="no plain LoRA"):
        OrthogonalLora().after(METHODS["bitfit"]())
