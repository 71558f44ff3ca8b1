"""Small byte-level tokenizers with chat templates, for the tests of what is trained on."""

from __future__ import annotations

from typing import Any

from tests.conftest import sentences

SPECIALS = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<eom>")
HEADER = "{{- '<|im_start|>' + m.role + '\\n' }}"
PROMPT = "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
PLAIN_CHAT = "{%- for m in messages %}" + HEADER + "{{- m.content + '<|im_end|>\\n' }}{%- endfor %}" + PROMPT
THINKING = (
    "{%- for m in messages %}" + HEADER + "{%- if m.role == 'assistant' and loop.last %}"
    "{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{{- m.content + '<|im_end|>\\n' }}{%- endfor %}" + PROMPT
)
"""As of models that reason: only the last response has a place for thoughts."""
FIELDS = (
    "{%- if tools %}{{- '<|im_start|>system\\n' + (tools | tojson) + '<|im_end|>\\n' }}{%- endif %}"
    "{%- for m in messages %}"
    + HEADER
    + "{%- if m.reasoning_content %}{{- '<think>' + m.reasoning_content + '</think>\\n' }}{%- endif %}"
    "{{- m.content }}{%- for call in m.tool_calls or [] %}{{- '\\n<call>' + (call.function | tojson) + '</call>' }}"
    "{%- endfor %}{{- '<|im_end|>\\n' }}{%- endfor %}" + PROMPT
)
WITH_BOS = "{{- bos_token }}" + PLAIN_CHAT
CLOCK = "{{- 'Now: ' + strftime_now('%d %b %Y %H:%M') + '\\n' }}" + PLAIN_CHAT


def chat_tokenizer(
    template: str | None, *, eos: str = "<|im_end|>", adds: str = "<s> $A", specials: tuple[str, ...] = SPECIALS
) -> Any:
    """A tokenizer of 400 tokens.

    Args:
        template: Of chats.
        eos: Its end token.
        adds: What it makes of a text by itself; ``$A``: nothing more.
        specials: Its special tokens, from id 0 on.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([text for text, _ in sentences(200)], trainer)
    ids = {token: at for at, token in enumerate(specials)}
    if adds != "$A":
        made.post_processor = processors.TemplateProcessing(
            single=adds,
            pair=f"{adds} $B",
            special_tokens=[(token, ids[token]) for token in adds.split() if token in ids],
        )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, bos_token=specials[0], eos_token=eos, pad_token=eos)
    tokenizer.chat_template = template
    return tokenizer
