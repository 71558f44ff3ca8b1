"""What can be known of a base model without loading its weights, and without torch.

Everything is read from ``config.json`` and from the header of the safetensors file, which is JSON; for a GGUF file,
from its metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peftlab.core.errors import SourceError, UnsupportedError
from peftlab.core.hub import prepare_hub
from peftlab.core.model_facts import Family, ModelFacts
from peftlab.models.checkpoint_files import read_header
from peftlab.models.gguf import converted_folder
from peftlab.models.gguf_header import read_gguf_config
from peftlab.models.hub_errors import of_the_hub
from peftlab.models.odd_files import told_by_the_checkpoint
from peftlab.models.tokenizer_facts import read_tokenizer_facts

ENCODERS = frozenset(
    [
        "albert",
        "bert",
        "big_bird",
        "camembert",
        "deberta",
        "deberta-v2",
        "distilbert",
        "electra",
        "ernie",
        "esm",
        "eurobert",
        "flaubert",
        "funnel",
        "ibert",
        "layoutlm",
        "luke",
        "megatron-bert",
        "mobilebert",
        "modernbert",
        "mpnet",
        "mra",
        "nezha",
        "nomic_bert",
        "nystromformer",
        "qdqbert",
        "rembert",
        "roberta",
        "roberta-prelayernorm",
        "roc_bert",
        "roformer",
        "squeezebert",
        "xlm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
        "yoso",
    ]
)
ENCODER_DECODERS = frozenset(
    [
        "bart",
        "blenderbot",
        "blenderbot-small",
        "longt5",
        "m2m_100",
        "marian",
        "mbart",
        "mt5",
        "pegasus",
        "t5",
        "umt5",
    ]
)
"""Types whose config says by itself that they are encoder–decoders: their configs need not."""
IMAGE_MODELS = frozenset(
    [
        "beit",
        "convnext",
        "convnextv2",
        "cvt",
        "data2vec-vision",
        "deit",
        "dinov2",
        "dinov2_with_registers",
        "efficientnet",
        "focalnet",
        "hiera",
        "ijepa",
        "levit",
        "mobilenet_v1",
        "mobilenet_v2",
        "mobilevit",
        "mobilevitv2",
        "poolformer",
        "pvt",
        "pvt_v2",
        "regnet",
        "resnet",
        "swiftformer",
        "swin",
        "swinv2",
        "vit",
        "vit_msn",
    ]
)
"""Types that look at images and read no text."""
IMAGE_TEXT_MODELS = frozenset(["altclip", "chinese_clip", "clip", "metaclip_2", "vision-text-dual-encoder"])
"""Types with a tower for images and one for texts, whose vectors are compared (CLIP, https://arxiv.org/abs/2103.00020)."""
DECODER_SUFFIXES = ("ForCausalLM", "LMHeadModel")


def read_model_facts(
    location: Path | str, *, path: str, revision: str | None = None, offline: bool = False, need_weights: bool = True
) -> ModelFacts:
    """Read what a model's files tell about it.

    Args:
        location: A folder, a ``.gguf`` file, or a Hub id (whose config and weight headers are fetched, no weights).
        path: The address as the recipe writes it, for messages.
        revision: Of a Hub id.
        offline: Read a Hub id from the local cache alone.
        need_weights: Whether a folder must hold weights; a config alone is enough for an estimate.

    Raises:
        SourceError: There is no model there.
        UnsupportedError: The weights are only there as pickle files, or are quantised in a way peftlab cannot train.
    """
    files: Path | str | None = location
    if isinstance(location, str):
        config, weights = _read_hub(location, revision, offline)
    elif location.suffix == ".gguf":
        files = folder = converted_folder(location)
        if folder is None:
            # GGUF holds language models that read from left to right.
            config, weights = {"architectures": ["GGUFForCausalLM"], **read_gguf_config(location)}, None
        else:
            config, weights = _read_folder(folder, path, need_weights)
    else:
        config, weights = _read_folder(location, path, need_weights)
    _refuse_prequantized(config, path)
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        raise SourceError("config.json names no `model_type`", where=path, hint="Is this a transformers model?")
    with told_by_the_checkpoint("config.json is damaged", path):
        family = family_of(config)
    with told_by_the_checkpoint("the tokenizer's files are damaged", path):
        tokenizer = None if files is None else read_tokenizer_facts(files, revision=revision, offline=offline)
    return ModelFacts(
        path=path, model_type=model_type, family=family, config=config, weights=weights, tokenizer=tokenizer
    )


def family_of(config: Mapping[str, Any]) -> Family:
    """Whether a model reads both ways, from left to right, or does each in a part of its own; or looks at images."""
    if config.get("is_encoder_decoder", config.get("model_type") in ENCODER_DECODERS):
        return "encoder_decoder"
    if config.get("model_type") in IMAGE_MODELS:
        return "image"
    if config.get("model_type") in IMAGE_TEXT_MODELS:
        return "image_text"
    if config.get("model_type") in ENCODERS:
        return "decoder" if config.get("is_decoder") else "encoder"
    architectures = config.get("architectures") or []
    if any(str(name).endswith(DECODER_SUFFIXES) for name in architectures):
        return "decoder"
    if any("ForMaskedLM" in str(name) for name in architectures):
        return "encoder"
    return "unknown"


def _read_folder(
    folder: Path, path: str, need_weights: bool
) -> tuple[dict[str, Any], dict[str, tuple[int, ...]] | None]:
    if not folder.is_dir():
        raise SourceError("a model is a folder or a .gguf file; this is another file", where=path)
    if not (folder / "config.json").is_file():
        raise SourceError(
            "the folder has no config.json, so it is not a transformers model",
            where=path,
            hint=f"It holds: {', '.join(sorted(item.name for item in folder.iterdir())[:8]) or 'nothing'}.",
        )
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"), object_hook=_number)
    except ValueError as error:
        raise SourceError(f"config.json is damaged: {error}", where=path) from None
    if not isinstance(config, dict):
        raise SourceError("config.json is damaged: it holds no object", where=path)
    files = sorted(folder.glob("*.safetensors"))
    if not files and not need_weights:
        return config, None
    if not files:
        pickled = [item.name for item in folder.glob("*.bin")]
        raise UnsupportedError(
            "the folder has no safetensors weights" + (f", only {', '.join(pickled)}" if pickled else ""),
            where=path,
            hint="peftlab never loads pickle files. Save the model with transformers' save_pretrained first.",
        )
    weights: dict[str, tuple[int, ...]] = {}
    for file in files:
        weights |= {name: tuple(entry["shape"]) for name, entry in read_header(file)[1].items()}
    return config, weights


def _read_hub(
    hub_id: str, revision: str | None, offline: bool
) -> tuple[dict[str, Any], dict[str, tuple[int, ...]] | None]:
    from huggingface_hub import get_safetensors_metadata, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, NotASafetensorsRepoError

    if not offline:
        prepare_hub()
    try:
        file = hf_hub_download(hub_id, "config.json", revision=revision, local_files_only=offline)
        config = json.loads(Path(file).read_text(encoding="utf-8"), object_hook=_number)
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise of_the_hub(error, hub_id, revision) from None
    if offline:
        return config, None
    try:
        metadata = get_safetensors_metadata(hub_id, revision=revision)
    except NotASafetensorsRepoError:
        raise UnsupportedError(
            "the model has no safetensors weights", where=hub_id, hint="peftlab never loads pickle files."
        ) from None
    except (HfHubHTTPError, OSError, ValueError):
        return config, None  # the weights themselves will tell
    shapes = {
        name: tuple(tensor.shape) for file in metadata.files_metadata.values() for name, tensor in file.tensors.items()
    }
    return config, shapes


def _number(values: dict[str, Any]) -> Any:
    """JSON has no infinite numbers, such as Mamba's `time_step_limit`: transformers writes each as an object."""
    return float(str(values["__float__"])) if values.keys() == {"__float__"} else values


def _refuse_prequantized(config: Mapping[str, Any], path: str) -> None:
    quantization = config.get("quantization_config")
    if quantization:
        method = quantization.get("quant_method", "unknown") if isinstance(quantization, Mapping) else "unknown"
        raise UnsupportedError(
            f"the checkpoint is already quantised ({method})",
            where=path,
            hint="Choose the checkpoint in full precision, or a .gguf file, and let peftlab quantise it: "
            "model.quantization nf4, fp4 or int8.",
        )
