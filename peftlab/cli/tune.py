"""``peftlab tune``: search a recipe's best settings."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from peftlab.bench.studies import Pruner, Sampler
from peftlab.cli.computing import start_computing
from peftlab.cli.json_object import print_result
from peftlab.cli.options import Device, Json, Offline, Overrides, ThreadCount
from peftlab.cli.output import reporting
from peftlab.cli.stopping import resumable, stoppable
from peftlab.cli.verbs import verb
from peftlab.core.amounts import duration
from peftlab.training.launch import refuse_several_processes

if TYPE_CHECKING:
    from peftlab.bench.search_result import SearchResult

DEFAULT_TRIALS = 20


@verb()
def tune(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe: a YAML file.", show_default=False)],
    trials: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of settings to try. Trials of earlier calls count.", show_default=str(DEFAULT_TRIALS)
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(metavar="M", min=0, help="Start no trial after this time. Earlier calls count.")
    ] = None,
    space: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What to try, in YAML: `method.rank: [4, 8]`, `training.learning_rate: {low: 1e-5, high: 1e-2, "
            "log: true}`. Default: the method's own choices, and learning rates around the recipe's.",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of fresh seeds that the winner runs with.")] = 3,
    sampler: Annotated[Sampler, typer.Option(help="How settings are drawn. tpe learns from the trials so far.")] = (
        "tpe"
    ),
    pruner: Annotated[
        Pruner, typer.Option(help="Which trials stop early. median: those below the median of the others.")
    ] = "median",
    workers: Annotated[int, typer.Option(min=1, help="Number of trials at once.")] = 1,
    overrides: Overrides = None,
    output_dir: Annotated[
        Path | None, typer.Option(help="The search's folder. Default: runs/<name>-tune.", show_default=False)
    ] = None,
    device: Device = "auto",
    threads: ThreadCount = None,
    offline: Offline = False,
    as_json: Json = False,
) -> None:
    """Search a recipe's best settings by the validation split, and write them as a recipe. Always resumable."""
    with resumable(), reporting() as reporter:
        import torch

        from peftlab.bench.recipe_search import Budget, RecipeSearch, SearchSettings, cell_of_recipe, refuse_foreign
        from peftlab.bench.search_space import default_space, load_space
        from peftlab.bench.suite_folder import locked
        from peftlab.bench.worker import Worker, cards_for
        from peftlab.core.destination import inputs_of_recipe
        from peftlab.recipe.schema import load_recipe

        refuse_several_processes()
        loaded, document = load_recipe(recipe, overrides or [])
        folder = output_dir or Path("runs") / f"{loaded.name}-tune"
        refuse_foreign(folder, inputs=inputs_of_recipe(loaded.model_dump(mode="json")))
        cell, data = cell_of_recipe(loaded, document, offline=offline, reporter=reporter)
        tried = load_space(space, cell) if space else default_space(cell.recipe({}, seed=loaded.seed))
        start_computing(device, threads, reporter.say)
        share = max(1, torch.get_num_threads() // workers)
        cards = cards_for(workers, device, reporter.say)
        worker = Worker(folder / "logs", threads=share, device=device, offline=offline, cards=cards)
        search = RecipeSearch(
            cell, data, SearchSettings(tried, sampler, pruner), folder, worker, workers=workers, reporter=reporter
        )
        if trials is None and minutes is None:
            trials = DEFAULT_TRIALS
        with locked(folder), stoppable():
            result = search.execute(Budget(trials, minutes, seeds))
    print_result(json.dumps(as_json_object(result), indent=2) if as_json else as_text(result))
    raise typer.Exit(0 if result.fresh_scores else 1)


def as_json_object(result: SearchResult) -> dict[str, Any]:
    """A search's outcome."""
    return {
        "recipe": str(result.recipe),
        "metric": result.metric,
        "settings": result.settings,
        "best_score": result.best_score,
        "fresh_scores": result.fresh_scores,
        "fresh_mean": result.fresh_mean,
        "own_score": result.own_score,
        "tied": result.tied,
        "trials": result.trials,
        "seconds": round(result.seconds, 1),
    }


def as_text(result: SearchResult) -> str:
    """A search's outcome for a person."""
    counts = ", ".join(f"{count} {word}" for word, count in result.trials.items() if count)
    lines = [f"{sum(result.trials.values())} trials in {duration(result.seconds)}: {counts}"]
    lines += [f"  {key:<28} {value}" for key, value in result.settings.items()]
    lines.append(f"  validation {result.metric}")
    if result.own_score is not None:
        lines.append(f"    the recipe as it was      {result.own_score:.4f}")
    lines.append(f"    the best trial            {result.best_score:.4f}   (chance helped to choose it)")
    if result.tie is not None:
        lines.append(f"    warning: {result.tie}")
    if result.fresh_mean is not None:
        scores = ", ".join(f"{score:.4f}" for score in result.fresh_scores.values())
        lines.append(f"    the same, fresh seeds     {result.fresh_mean:.4f}   (the mean of {scores})")
    else:
        lines.append("    the same, fresh seeds     no run came through")
    lines.append(f"  recipe      {result.recipe}")
    lines.append(f"  next        peftlab run {shlex.quote(str(result.recipe))}")
    return "\n".join(lines)
