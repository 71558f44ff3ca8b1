"""Verbs that are called otherwise elsewhere get the right name as a suggestion."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

OTHER_NAMES = {
    **dict.fromkeys(("train", "finetune", "fine-tune", "ft", "fit", "start", "resume"), "run"),
    **dict.fromkeys(("infer", "inference", "classify", "generate"), "predict"),
    **dict.fromkeys(("test", "eval", "score"), "evaluate"),
    **dict.fromkeys(("list", "methods", "models", "tasks"), "ls"),
    **dict.fromkeys(("check", "lint"), "validate"),
    **dict.fromkeys(("benchmark", "compare", "sweep"), "bench"),
    **dict.fromkeys(("merge", "convert", "save"), "export"),
    **dict.fromkeys(("upload", "publish"), "push"),
    **dict.fromkeys(("memory", "fits"), "estimate"),
    **dict.fromkeys(("server", "api"), "serve"),
    **dict.fromkeys(("talk",), "chat"),
}


class Verbs(TyperGroup):
    """The group of all verbs."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Name the verb that is meant by a word that other tools use."""
        verb = OTHER_NAMES.get(args[0].lower()) if args else None
        if verb is not None and self.get_command(ctx, args[0]) is None:
            ctx.fail(f"No such command '{args[0]}'. Did you mean '{verb}'?")
        return super().resolve_command(ctx, args)
