"""Losses of preferences on one batch: peftlab's against trl's own functions, on the same tokens and the same model.

    pip install trl --no-deps --target FOLDER
    PYTHONPATH=FOLDER python benchmarks/peers/preference_losses.py [--model PATH] [--output FILE.json]

Most losses of pairs, and KTO, go through ``DPOTrainer._compute_loss`` and ``KTOTrainer._compute_loss``, with their own
collators, from the same tokens. Of ORPO trl's ``odds_ratio_loss`` is compared, and of SimPO and CPO
``CPOTrainer.cpo_loss``, each on log-probabilities that the model gives: trl's ORPO adds the loss of the prompts' tokens
too, the paper and peftlab that of the responses. trl has no conservative DPO any more.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import transformers
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference, DPOTrainer
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference, KTOTrainer
from trl.trainer.utils import add_fused_lm_head

from peftlab.core.splits import Split
from peftlab.tasks.preference.log_probabilities import response_log_probabilities
from peftlab.tasks.preference.losses import DISCOPOP_TAU
from peftlab.tasks.preference_tuning import PreferenceTuning

TRL_NAMES = {
    "dpo": "sigmoid",
    "ipo": "ipo",
    "robust": "robust",
    "length_normalised": "sigmoid_norm",
    "hinge": "hinge",
    "apo_zero": "apo_zero",
    "apo_down": "apo_down",
    "nca": "nca_pair",
    "sppo": "sppo_hard",
    "discopop": "discopop",
}
BETA, NOISE, GAMMA = 0.2, 0.15, 0.6
ROWS = [
    ("How is the weather?", "It rains, so take a coat with you.", "No."),
    ("Name a colour.", "Blue", "I would rather not, since there are so many of them to choose from."),
    ("What is two and two?", "Four.", "Five, as far as I know."),
    ("Say hello to my friend Ann.", "Hello Ann, nice to meet you!", "Who?"),
]


class Accelerator:
    """As much of accelerate's as a loss asks for."""

    device = torch.device("cpu")

    def gather_for_metrics(self, value: Any) -> Any:
        """One process: nothing is gathered."""
        return value

    gather = gather_for_metrics


def trainer(model: Any, **own: Any) -> Any:
    """What a trainer's loss reads of itself."""
    return SimpleNamespace(
        accelerator=Accelerator(),
        model=model,
        beta=BETA,
        label_smoothing=NOISE,
        aux_loss_enabled=False,
        precompute_ref_logps=True,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        _tp_size=1,
        **own,
    )


def prompt_and_responses(example: dict[str, Any]) -> tuple[list[int], list[int], list[int]]:
    """The tokens of an example of peftlab's."""
    first, prompt, ids = example["lengths"][0], example["prompt_length"], example["input_ids"]
    return ids[:prompt], ids[prompt:first], ids[first + prompt :]


def examples_of(task: PreferenceTuning, model: Any, tokenizer: Any, pad: int) -> list[dict[str, Any]]:
    """The rows as tokens, with references a few nats beside the model."""
    prompts, chosen, rejected = map(list, zip(*ROWS, strict=True))
    columns: dict[str, list[Any]] = {"prompt": prompts, "chosen": chosen, "rejected": rejected, "response": chosen}
    columns["label"] = [True, False, True, True]
    split = task.arrange(Split("test", range(len(ROWS)), columns))
    generator = torch.Generator().manual_seed(0)
    examples = task.encode(split, tokenizer, ()).examples
    own = response_log_probabilities(model, task.collate(examples, pad)).view(2, -1).T
    references = (own + 3 * torch.randn(len(ROWS), 2, generator=generator)).tolist()
    return [{**example, "reference": each} for example, each in zip(examples, references, strict=True)]


def trl_pair_loss(fused: Any, examples: list[dict[str, Any]], kind: str, pad: int) -> float:
    """The mean loss of a batch of pairs, as ``DPOTrainer`` computes it."""
    rows = [
        dict(zip(("prompt_ids", "chosen_ids", "rejected_ids"), prompt_and_responses(example), strict=True))
        | dict(zip(("ref_chosen_logps", "ref_rejected_logps"), example["reference"], strict=True))
        for example in examples
    ]
    own = trainer(
        fused,
        ld_alpha=None,
        f_divergence_type="reverse_kl",
        loss_types=[TRL_NAMES[kind]],
        loss_weights=[1.0],
        use_weighting=False,
        args=SimpleNamespace(discopop_tau=DISCOPOP_TAU),
    )
    return float(DPOTrainer._compute_loss(own, fused, DataCollatorForPreference(pad)(rows), return_outputs=False))


def trl_kto_loss(fused: Any, examples: list[dict[str, Any]], pad: int) -> float:
    """The mean loss of a batch of responses, as ``KTOTrainer`` computes it."""
    rows = []
    for example in examples:
        prompt, response, other = prompt_and_responses(example)
        reference, of_other = example["reference"]
        rows.append(
            {
                "prompt_ids": prompt,
                "completion_ids": response,
                "KL_completion_ids": other,
                "label": example["label"],
                "ref_logps": reference,
                "ref_KL_logps": of_other,
            }
        )
    own = trainer(
        fused,
        loss_type="kto",
        calculate_KL=True,
        desirable_weight=1.3,
        undesirable_weight=0.7,
    )
    own._compute_kl_logps = lambda model, batch: KTOTrainer._compute_kl_logps(own, model, batch)
    return float(KTOTrainer._compute_loss(own, fused, DataCollatorForUnpairedPreference(pad)(rows), False))


def main() -> None:
    """Compare all losses, and write and print the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="Folder of a causal language model with its tokenizer.")
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    tokenizer = transformers.AutoTokenizer.from_pretrained(chosen.model)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    model, fused = (transformers.AutoModelForCausalLM.from_pretrained(chosen.model).float().eval() for _ in range(2))
    add_fused_lm_head(fused, outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
    found: dict[str, dict[str, float]] = {}
    with torch.no_grad():
        for kind in (*TRL_NAMES, "orpo", "simpo", "cpo", "kto"):
            own_keys = {
                "robust": {"label_noise": NOISE},
                "simpo": {"gamma": GAMMA},
                "cpo": {"sft_weight": 0.0},
                "kto": {"desirable_weight": 1.3, "undesirable_weight": 0.7},
            }.get(kind, {})
            task = PreferenceTuning.model_validate({"objective": kind, "beta": BETA, **own_keys})
            examples = examples_of(task, model, tokenizer, pad)
            batch = task.collate(examples, pad)
            ours = float(task.training_loss(model, batch)) / task.loss_terms(batch)
            if kind in TRL_NAMES:
                theirs = trl_pair_loss(fused, examples, kind, pad)
            elif kind == "kto":
                theirs = trl_kto_loss(fused, examples, pad)
            else:
                counts = torch.bincount(batch["label_rows"])
                sums = response_log_probabilities(model, batch)
                first, second = (sums if kind == "cpo" else sums / counts).view(2, -1)
                loss_type = "simpo" if kind == "simpo" else "sigmoid"
                own = trainer(model, loss_type=loss_type, simpo_gamma=GAMMA, alpha=0.0)
                if kind == "orpo":
                    theirs = float((-first - ORPOTrainer.odds_ratio_loss(own, first, second)[0]).mean())
                else:
                    own.label_smoothing = 0.0
                    theirs = float(CPOTrainer.cpo_loss(own, first, second)[0].mean())
            found[kind] = {"peftlab": ours, "trl": theirs, "difference": abs(ours - theirs)}
            print(f"{kind:18} {ours:.7f} {theirs:.7f} {abs(ours - theirs):.1e}")
    if chosen.output is not None:
        chosen.output.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
