"""The models that augmentations need: checked before anything runs, and loaded for as long as they are asked."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from peftlab.artifact.saved_folder import is_run
from peftlab.artifact.saved_run import SavedRun, checkpoint_of
from peftlab.core.augmentation import LoadedModel, ModelAugmentation, NeededModel
from peftlab.core.config import replace_config
from peftlab.core.errors import UnsupportedError
from peftlab.core.files import cache_folder, write_text
from peftlab.core.model_facts import ModelFacts
from peftlab.core.reporter import ProgressCallback
from peftlab.core.task import Head
from peftlab.data.locations import parse_location, resolve_location
from peftlab.models.facts import read_model_facts
from peftlab.models.model_config import ModelConfig

if TYPE_CHECKING:
    import torch

FOLDER = "augmented"
"""In the cache: texts that models have changed."""
FORMAT = 3
"""Raised when an augmentation makes other texts of the same draws. 2: keys hold the tokenizer and the settings. 3:
translations that do not end are not taken."""
MASKED = ("ForMaskedLM", "ForPreTraining")
"""How the names of the architectures end that fill masks."""


def check_needed(
    needed: NeededModel,
    name: str,
    base: ModelFacts,
    *,
    offline: bool,
    report: ProgressCallback,
    folder: Path | None,
) -> None:
    """See that a model is there, and can do what is asked of it; no weights are loaded.

    Args:
        needed: By an augmentation.
        name: The augmentation's.
        base: What is known of the recipe's base.
        offline: Allow no network.
        report: Is told of downloads.
        folder: Relative paths start here.

    Raises:
        SourceError: It is not there.
        UnsupportedError: It is of another kind.
    """
    facts = base
    if needed.path is not None:
        facts = _facts_of(needed.path, folder=folder, offline=offline, report=report)
    if needed.auto_class == "AutoModelForSeq2SeqLM":
        if facts.family != "encoder_decoder":
            raise UnsupportedError(
                f"{name} translates by encoder-decoders, and {facts.path} ({facts.model_type}) is none",
                hint="Name a translator as `there` and another one as `back`, such as two Marian models.",
            )
        return
    written = facts.config.get("architectures") or ()
    if facts.family != "encoder" or not any(str(each).endswith(MASKED) for each in written):
        raise UnsupportedError(
            f"{name} needs the head of a masked language model, and {facts.path} ({facts.model_type}) has none",
            hint="Name a model that fills masks, as `model: …`; a run of the task masked_lm is one too. Or let "
            "the base learn it first: `model: {pretrain: {epochs: 10}}`.",
        )


def load_models(
    augmentation: ModelAugmentation,
    *,
    base: Path | str | None,
    config: ModelConfig,
    device: torch.device,
    offline: bool,
) -> dict[str, LoadedModel]:
    """Load the models, in eval mode.

    Args:
        augmentation: Of the recipe.
        base: Where the recipe's base is.
        config: The recipe's section ``model``.
        device: Where they go.
        offline: Allow no network.

    Raises:
        SourceError: A model cannot be read.
        UnsupportedError: Its tokenizer has no mask token.
    """
    return {
        key: _load(needed, base=base, config=config, device=device, offline=offline)
        for key, needed in augmentation.needed_models().items()
    }


class CachedChanges:
    """Lets an augmentation change texts by its models; what they have said once is in the cache.

    Args:
        augmentation: Of the recipe.
        models: From :func:`load_models`.
    """

    def __init__(self, augmentation: ModelAugmentation, models: Mapping[str, LoadedModel]) -> None:
        from peftlab.training.fingerprints import fingerprints

        self._augmentation, self._models = augmentation, models
        settings = augmentation.model_dump(mode="json", exclude={"copies", "rows", "keep_if"})
        weights = {key: fingerprints(dict(each.model.named_parameters())) for key, each in models.items()}
        readers = {key: _identity_of_reading(each) for key, each in models.items()}
        self._identity = [FORMAT, settings, weights, readers]

    def change(self, texts: Sequence[str], randoms: Sequence[Random]) -> list[str]:
        """The changed texts, in their order."""
        draws = [random.getrandbits(64) for random in randoms]
        content = json.dumps([*self._identity, draws, list(texts)], sort_keys=True, default=str)
        path = cache_folder() / FOLDER / f"{hashlib.sha256(content.encode()).hexdigest()}.json"
        if path.is_file():
            found: list[str] = json.loads(path.read_text(encoding="utf-8"))
            return found
        changed = self._augmentation.change_all(texts, [Random(draw) for draw in draws], self._models)  # noqa: S311
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(changed, ensure_ascii=False))
        return changed


def _identity_of_reading(loaded: LoadedModel) -> list[Any]:
    """All that a model's answers depend on beside its weights: its settings, and what its tokenizer does."""
    config: Any = loaded.model.config
    settings = {key: value for key, value in config.to_dict().items() if key != "_name_or_path"}
    with tempfile.TemporaryDirectory(prefix="peftlab-") as name:
        loaded.tokenizer.save_pretrained(name)
        files = {path.name: path.read_bytes() for path in sorted(Path(name).iterdir())}
    hashes = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
    return [settings, hashes, loaded.max_length]


def _facts_of(path: str, *, folder: Path | None, offline: bool, report: ProgressCallback) -> ModelFacts:
    place = resolve_location(parse_location(path, folder=folder), offline=offline, report=report)
    if isinstance(place, Path) and is_run(place):
        return SavedRun.open(place).facts(path)
    return read_model_facts(place, path=path, offline=offline)


def _load(
    needed: NeededModel, *, base: Path | str | None, config: ModelConfig, device: torch.device, offline: bool
) -> LoadedModel:
    import torch

    from peftlab.models.base_model import load_base_model, load_tokenizer

    place, config = base, replace_config(config, add_tokens=[])
    if needed.path is not None:
        config = ModelConfig(path=needed.path)
        place = resolve_location(parse_location(needed.path), offline=offline)
    if place is None:
        raise UnsupportedError("a model that starts from nothing knows no words yet", where="data.augmentation")
    source = checkpoint_of(place, offline=offline)
    tokenizer = load_tokenizer(source, config, offline=offline)
    if needed.auto_class == "AutoModelForMaskedLM" and tokenizer.mask_token_id is None:
        raise UnsupportedError(f"the tokenizer of {config.path} has no mask token", where="data.augmentation")
    loaded = load_base_model(
        source,
        config,
        Head(needed.auto_class, kind="own"),
        dtype=torch.float32,
        dropout=0.0,
        pad_token_id=tokenizer.pad_token_id,
        offline=offline,
    )
    facts = read_model_facts(Path(source) if Path(source).is_dir() else source, path=config.path, offline=offline)
    model: Any = loaded.model
    return LoadedModel(model.to(device), tokenizer, facts.max_length, device)
