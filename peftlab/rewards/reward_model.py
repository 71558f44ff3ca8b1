"""What a run says of a response whose task judges some, such as ``reward_model``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, PositiveInt, PrivateAttr

from peftlab.core.capabilities import JudgesResponses
from peftlab.core.errors import UnsupportedError
from peftlab.core.reward import REWARDS, Answer, Reward

if TYPE_CHECKING:
    import torch

    from peftlab.artifact.saved_run import SavedRun


@REWARDS.register("reward_model")
class RewardModelRun(Reward):
    """What a run of the task reward_model says of the response."""

    run: str = Field(description="The folder of the run.")
    batch_size: PositiveInt = Field(32, description="Responses that are judged at once.")

    _judge: Any = PrivateAttr(None)
    _device: Any = PrivateAttr(None)

    def use_device(self, device: torch.device) -> None:
        """It judges where the answers are written."""
        self._device = device

    def begin(self, tokenizer: Any) -> None:
        """Load it; it must read the very tokens that are written.

        Raises:
            UserError: There is no such run, it is of another task, or has another tokenizer.
        """
        import torch

        from peftlab.artifact.saved_run import SavedRun
        from peftlab.core.devices import choose_device

        saved = SavedRun.open(self.run)
        if not isinstance(saved.recipe.task, JudgesResponses):
            raise UnsupportedError(
                f"this is a run of {saved.recipe.task.registered_name}, which judges no responses",
                where=self.run,
                hint="A run of the task reward_model is needed.",
            )
        if saved.tokenizer.get_vocab() != tokenizer.get_vocab():
            raise UnsupportedError(
                "the reward model has another tokenizer than the model that is tuned",
                where=self.run,
                hint="Tune the reward model from a base with the same tokenizer.",
            )
        device = self._device or choose_device()
        self._judge = saved, saved.load_model(offline=True, device=device).eval(), device, torch.get_num_threads()

    def reward(self, answer: Answer) -> float:
        """The reward of one."""
        return self.rewards([answer])[0]

    def count_cut(self, answers: Sequence[Answer]) -> int:
        """Those whose prompt and response have more tokens than the run's model was to read."""
        texts = [[*answer.prompt_ids, *answer.response_ids] for answer in answers]
        task: Any = self._judge[0].recipe.task
        lengths = map(task.length, task.response_examples(texts))
        return sum(length < len(text) for length, text in zip(lengths, texts, strict=True))

    def rewards(self, answers: Sequence[Answer]) -> list[float]:
        """Those of all, in batches of like length."""
        import torch

        from peftlab.training.evaluation import compute_logits

        saved: SavedRun
        saved, model, device, threads = self._judge
        torch.set_num_threads(threads)  # rewards are asked in a thread of their own, which knows nothing of it
        task: Any = saved.recipe.task
        examples = task.response_examples([[*answer.prompt_ids, *answer.response_ids] for answer in answers])
        found = [0.0] * len(examples)
        order = sorted(range(len(examples)), key=lambda place: task.length(examples[place]))
        for start in range(0, len(order), self.batch_size):
            places = order[start : start + self.batch_size]
            batch = task.collate([examples[place] for place in places], saved.tokenizer.pad_token_id)
            with torch.inference_mode():
                logits = compute_logits(model, task, batch, device=device, autocast_dtype=saved.autocast_dtype(device))
            for place, value in zip(places, task.response_rewards(logits).tolist(), strict=True):
                found[place] = value
        return found
