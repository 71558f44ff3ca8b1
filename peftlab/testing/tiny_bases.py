"""Tiny base models in folders, with a tokenizer of a few words, and texts that they can learn: made from nothing."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

GOOD = ["good", "great", "lovely", "happy", "bright", "kind"]
BAD = ["bad", "awful", "ugly", "sad", "dark", "cruel"]
END = "<|endoftext|>"
NEUTRAL = ["the", "film", "was", "a", "day", "in", "town", "and", "we", "saw", "it", "then"]


def sentences(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Distinct texts of different lengths, with the label that their words give away."""
    generator = random.Random(seed)  # noqa: S311 - texts, no secrets
    rows: dict[str, str] = {}
    while len(rows) < count:
        label = generator.choice(["good", "bad"])
        words = generator.choices(NEUTRAL, k=generator.randint(3, 14))
        words.insert(generator.randrange(len(words)), generator.choice(GOOD if label == "good" else BAD))
        rows.setdefault(" ".join(words), label)
    return list(rows.items())


def write_bert(folder: Path) -> None:
    """A BERT with random weights of 2 layers, and a WordPiece tokenizer of the words above."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *NEUTRAL, *"abcdefghijklmnopqrstuvwxyz"]
    words += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    (folder / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        initializer_range=0.3,  # far enough from zero for a random model to tell words apart
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder)


def write_gpt2(folder: Path) -> None:
    """A GPT-2 with random weights of 2 layers, and a byte-level tokenizer without a padding token."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        [text for text, _ in sentences(200)], vocab_size=400, special_tokens=[END], show_progress=False
    )
    tokenizer_class: Any = PreTrainedTokenizerFast
    wrapped = tokenizer_class(tokenizer_object=tokenizer._tokenizer, **dict.fromkeys(("eos_token", "bos_token"), END))
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(wrapped),
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=64,
        initializer_range=0.3,
        bos_token_id=wrapped.bos_token_id,
        eos_token_id=wrapped.eos_token_id,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    wrapped.save_pretrained(folder)


def write_vit(folder: Path) -> None:
    """A ViT with random weights of 2 layers, for images of 8 × 8 pixels in patches of 4."""
    import torch
    from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

    torch.manual_seed(0)
    config = ViTConfig(
        image_size=8,
        patch_size=4,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        initializer_range=0.2,
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    processor: Any = ViTImageProcessorPil
    processor(size={"height": 8, "width": 8}).save_pretrained(folder)


def write_clip(folder: Path) -> None:
    """A CLIP with random weights of 2 layers a tower: images of 8 × 8 pixels, and texts as the BERT reads them."""
    import torch
    from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessorPil, CLIPModel

    write_bert(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    ends = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    config = CLIPConfig(
        text_config={
            **sizes,
            **ends,
            "vocab_size": max(tokenizer.get_vocab().values()) + 1,
            "max_position_embeddings": 64,
        },
        vision_config={**sizes, "image_size": 8, "patch_size": 4},
        projection_dim=16,
    )
    CLIPModel(config).save_pretrained(folder)
    processor: Any = CLIPImageProcessorPil
    processor(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8}).save_pretrained(folder)


WRITERS = {"tiny_bert": write_bert, "tiny_gpt2": write_gpt2, "tiny_vit": write_vit, "tiny_clip": write_clip}


def tiny_base(name: str, within: Path) -> Path:
    """The folder of a tiny base, which is written at the first call.

    Args:
        name: ``tiny_bert``, ``tiny_gpt2``, ``tiny_vit`` or ``tiny_clip``.
        within: The folder that it lies in.
    """
    folder = within / name
    if not folder.exists():
        folder.mkdir(parents=True)
        WRITERS[name](folder)
    return folder
