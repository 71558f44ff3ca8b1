"""LoRA: low-rank updates beside frozen matrices (Hu et al. 2021, https://arxiv.org/abs/2106.09685).

With its kin: rsLoRA's scaling (https://arxiv.org/abs/2312.03732), DoRA (https://arxiv.org/abs/2402.09353), and the
initialisations PiSSA (https://arxiv.org/abs/2404.02948) and OLoRA (https://arxiv.org/abs/2406.01775).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from peftlab.core.errors import UnsupportedError
from peftlab.core.method import METHODS, Method, MethodContext, TargetModules, mean_of_updates
from peftlab.core.model_facts import ModelFacts
from peftlab.core.record import Guard
from peftlab.methods._experts import (
    check_dora,
    check_parameters,
    layers_as_named,
    resolve_parameters,
    write_for_plain_peft,
)
from peftlab.methods._targets import TRANSPOSED, are_transposed, check_targets, guard_targets, resolve_targets

if TYPE_CHECKING:
    from torch import Tensor, nn


@METHODS.register("lora")
class Lora(Method):
    """LoRA: low-rank updates beside frozen matrices; also rsLoRA, DoRA, PiSSA and OLoRA."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2106.09685"
    other_names: ClassVar[Mapping[str, str]] = {
        "qlora": "QLoRA is LoRA on a quantised base: write `method: {type: lora}` and `model: {quantization: nf4}`.",
        "dora": "DoRA is a key of LoRA: write `method: {type: lora, dora: true}`.",
    }
    default_learning_rate: ClassVar[float] = 2e-3
    mergeable: ClassVar[bool] = True
    starts_as_base: ClassVar[bool] = True
    has_low_rank_updates: ClassVar[bool] = True

    rank: PositiveInt = Field(8, description="Rank of the update of every adapted matrix.")
    alpha: PositiveInt = Field(16, description="Numerator of the scaling: alpha / rank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the input of the update.")
    target_modules: TargetModules = "all-linear"
    target_parameters: Literal["all-experts"] | Annotated[list[str], Field(min_length=1)] | None = Field(
        None,
        description="Of a mixture's experts, which lie in one tensor for each layer: 'all-experts', or names of such "
        "tensors. Each expert has an update of its own, of the same rank.",
    )
    rslora: bool = Field(False, description="Scale by alpha / √rank instead of alpha / rank.")
    dora: bool = Field(False, description="Train the magnitude of each column apart from its direction.")
    initialization: Literal["default", "gaussian", "pissa", "olora"] = Field(
        "default",
        description="default: A by Kaiming, B zero; gaussian: A normal; pissa, olora: from the matrix, by SVD or QR.",
    )

    @model_validator(mode="after")
    def _check(self) -> Lora:
        if self.dora and self.moves_base:
            raise ValueError(f"`dora` does not work with the initialization {self.moves_base}")
        if self.target_parameters is not None and (self.dropout or self.dora or self.moves_base):
            key = "dropout" if self.dropout else "dora" if self.dora else "initialization"
            raise ValueError(f"`{key}` does not work with `target_parameters`: peft has it for layers alone")
        return self

    def check(self, facts: ModelFacts) -> None:
        """Refuse target modules that match nothing, and experts where there are none."""
        check_targets(facts, self.target_modules)
        check_parameters(facts, self.target_parameters)
        if facts.model_type in TRANSPOSED:
            self._check_transposed(facts.path)

    def check_quantization(self, quantization: str) -> None:
        """Refuse PiSSA and OLoRA: they subtract from the matrix what they put into A and B."""
        if self.moves_base:
            raise UnsupportedError(
                f"{self.moves_base} changes the base's matrices, and {quantization} matrices cannot be changed",
                where=self._key_of_start,
                hint="Choose lora with the default initialization, or set model.quantization to null.",
            )

    def _check_transposed(self, model: str) -> None:
        if self.initialization == "olora":
            raise UnsupportedError(
                f"peft's OLoRA does not know the transposed matrices of {model}",
                where="method.initialization",
                hint="Choose pissa.",
            )

    @property
    def works_sharded(self) -> bool:  # type: ignore[override]
        """DoRA reads the base's matrices, as updates of experts do, and the other initialisations change them."""
        return self.unsharded_key == "type"

    @property
    def unsharded_key(self) -> str:  # type: ignore[override]
        """What keeps it from that."""
        if self.dora or self.target_parameters is not None:
            return "dora" if self.dora else "target_parameters"
        return self._key_of_start.removeprefix("method.") if self.moves_base else "type"

    def check_offload(self) -> None:
        """Refuse DoRA: it reads the matrices beside the forward of their layers, when they are not there."""
        if self.dora:
            raise UnsupportedError(
                "DoRA needs the norms of the base's matrices in every step, beside the layers that fetch them",
                where="method.dora",
                hint="Set it to false, or set model.offload to null.",
            )

    def apply(self, model: Any, context: MethodContext) -> Any:
        """Put an update beside each target: h = W x + (alpha / rank) B A x.

        Raises:
            UnsupportedError: A target matches nothing, or the initialisation does not know this kind of layer.
        """
        import peft

        targets = resolve_targets(model, self.target_modules, context)
        transposed = are_transposed(model, targets)
        if transposed:
            self._check_transposed(type(model).__name__)
        if self.moves_base:
            self._check_rank(model, targets)
        if self.dora:
            check_dora(model, targets)
        config = peft.LoraConfig(
            task_type=context.peft_task_type,
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=targets,
            target_parameters=resolve_parameters(model, self.target_parameters, context) or None,
            fan_in_fan_out=transposed,
            modules_to_save=list(context.head_modules),
            use_rslora=self.rslora,
            use_dora=self.dora,
            init_lora_weights=True if self.initialization == "default" else self.initialization,
        )
        with layers_as_named():
            wrapped = peft.get_peft_model(model, config)
        if self.moves_base:
            self.note_start(wrapped)
        return wrapped

    def note_start(self, model: Any) -> None:
        """Remember what was moved from the base into the update, which ``saved_tensors`` takes off again.

        It lies in the CPU's memory: no step needs it.
        """
        import peft

        model.initial_adapter = {
            name: tensor.detach().clone() if tensor.is_meta else tensor.detach().to("cpu", copy=True)
            for name, tensor in peft.get_peft_model_state_dict(model, save_embedding_layers=False).items()
            if factor_axis(name) is not None
        }

    def after(self, earlier: Method) -> Method:
        """Where a part of the base was moved, training goes on with the plain LoRA of twice the rank that was saved."""
        super().after(earlier)
        if not isinstance(earlier, Lora) or not earlier.moves_base:
            return self
        if earlier.rslora:
            raise UnsupportedError(
                f"no whole alpha scales rsLoRA's update as {earlier.moves_base} has saved it",
                where="method.rslora",
                hint="Set `model.path` to the run, which begins a new adapter on its model.",
            )
        return self.plain(initialization="default", rank=2 * earlier.rank, alpha=2 * earlier.alpha)

    def plain(self, **changes: Any) -> Lora:
        """The plain LoRA with the same keys, but for some."""
        return Lora.model_validate({key: getattr(self, key) for key in Lora.model_fields} | changes)

    def guards(self, model: nn.Module, context: MethodContext) -> dict[str, Guard]:
        """Every target got an update."""
        return {"target_modules_matched": guard_targets(model, self.target_modules, self.target_parameters)}

    def saved_tensors(self, model: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Where a part of the base was moved into the adapter, keep the difference to it instead.

        With the initial A₀ and B₀, B A − B₀ A₀ = [B, −B₀] [A; A₀] is a plain LoRA of twice the rank, which fits the
        unchanged base. (peft's own conversion leaves the head out.)
        """
        if not self.moves_base:
            return tensors
        import torch

        saved = dict(tensors)
        for name, first in model.initial_adapter.items():
            if "lora_A" in name:
                saved[name] = torch.cat([tensors[name], first.to(tensors[name])], dim=0)
            elif "lora_B" in name:
                saved[name] = torch.cat([tensors[name], -first.to(tensors[name])], dim=1)
        return saved

    def after_save(self, model: Any, folder: Path) -> None:
        """Write what was learned as a plain LoRA that plain peft puts on the same layers."""
        if self.moves_base:
            self._write_as_plain(model, folder)
        write_for_plain_peft(model, folder)

    def _write_as_plain(self, model: Any, folder: Path) -> None:
        """See ``saved_tensors``."""
        from safetensors.torch import load_file, save_file

        weights = self.saved_tensors(model, load_file(folder / "adapter_model.safetensors"))
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        growth = 2**0.5 if self.rslora else 2  # keeps alpha / rank, or alpha / √rank, as it was
        config |= {"r": 2 * self.rank, "lora_alpha": growth * self.alpha, "init_lora_weights": True}
        save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    def soup(
        self, parts: Sequence[Mapping[str, Tensor]], config: Mapping[str, Any]
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The exact mean of the updates: a LoRA of all ranks together.

        Raises:
            UnsupportedError: With DoRA, whose magnitudes are not linear in the update.
        """
        if self.dora:
            raise UnsupportedError("the mean of updates with DoRA's magnitudes is no such update", where="method.dora")
        count, rank = len(parts), config["r"]
        growth = count**0.5 if self.rslora else count  # keeps alpha / rank, or alpha / √rank, as it was
        parts = [{name: _by_ranks(name, each, rank) for name, each in part.items()} for part in parts]
        mean = mean_of_updates(parts, factor_axis)
        return {name: _by_experts(name, each, count * rank) for name, each in mean.items()}, {
            "r": count * rank,
            "lora_alpha": growth * config["lora_alpha"],
        }

    def _check_rank(self, model: Any, targets: list[str]) -> None:
        """Peft gives a matrix fewer ranks than its config says, without a word, and nothing can load that."""
        smallest, name = min((min(model.get_submodule(target).weight.shape), target) for target in targets)
        if self.ranks_taken > smallest:
            raise UnsupportedError(
                f"{self.moves_base} cannot take rank {self.ranks_taken} from {name}, whose rank is at most {smallest}",
                where="method.rank",
                hint="Lower the rank, or choose lora with the default initialization.",
            )

    @property
    def moves_base(self) -> str | None:
        """What moves a part of the base's matrices into the update, by name; None: nothing does."""
        return self.initialization if self.initialization in {"pissa", "olora"} else None

    @property
    def ranks_taken(self) -> int:
        """How many ranks of a matrix the start needs, where it needs some."""
        return self.rank

    @property
    def _key_of_start(self) -> str:
        return "method.initialization" if self.moves_base == self.initialization else "method.type"


def factor_axis(name: str) -> int | None:
    """The dimension in which a factor has the ranks; None: this is none of the two factors of an update."""
    last = name.removesuffix(".weight").rpartition(".")[2]
    return {"lora_A": 0, "lora_embedding_A": 0, "lora_B": 1, "lora_embedding_B": 1}.get(last)


def _by_ranks(name: str, factor: Tensor, rank: int) -> Tensor:
    """A's rows rank by rank. Where it is of several experts, peft has them expert by expert, but B's columns so."""
    return _swapped(factor, len(factor) // rank, rank) if factor_axis(name) == 0 else factor


def _by_experts(name: str, factor: Tensor, rank: int) -> Tensor:
    """A's rows as peft has them."""
    return _swapped(factor, rank, len(factor) // rank) if factor_axis(name) == 0 else factor


def _swapped(rows: Tensor, first: int, second: int) -> Tensor:
    return rows.reshape(first, second, -1).transpose(0, 1).reshape(rows.shape).contiguous()
