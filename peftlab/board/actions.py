"""What the board does beside showing: runs are started, stopped, taken up and asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from peftlab.artifact.saved_folder import read_run_recipe
from peftlab.board.form import CHOSEN, answers_of, choices_of, sections_of, settings_of
from peftlab.board.jobs import Job, Jobs
from peftlab.board.runs import Row, RunIndex
from peftlab.board.trial import Answer, Trial, questions_of, writes_text
from peftlab.board.visitors import Sent, Visitors
from peftlab.core.errors import PeftlabError, UserError
from peftlab.models.model_config import KNOWN
from peftlab.recipe.from_settings import recipe_of_settings
from peftlab.recipe.schema import Recipe
from peftlab.run.at_work import ask_to_stop

Show = Callable[..., HTMLResponse]


@dataclass(frozen=True)
class Actions:
    """What acting needs.

    Args:
        index: The runs that are shown.
        visitors: Who may act.
        jobs: What was started.
        trial: The model that is asked.
    """

    index: RunIndex
    visitors: Visitors
    jobs: Jobs
    trial: Trial

    def offers(self, row: Row, request: Request) -> dict[str, Any]:
        """What the page of a run needs to know to offer them."""
        job = self.jobs.last_of(row.key)
        recipe = self._recipe_of(row) if row.status == "success" else None
        return {
            "may_act": self.visitors.have_token(request),
            "job": job,
            "job_state": None if job is None else self.jobs.state(job),
            "questions": () if recipe is None else questions_of(recipe),
            "writes": recipe is not None and writes_text(recipe),
            "answer": None,
            "problem": "",
        }

    def _recipe_of(self, row: Row) -> Recipe | None:
        try:
            return read_run_recipe(self.index.root / row.key)
        except PeftlabError:  # it is damaged, or the package of its task is not installed here
            return None


def routes_of(actions: Actions, show: Show, show_run: Callable[..., HTMLResponse]) -> APIRouter:
    """The routes of acting.

    Args:
        actions: What they need.
        show: Makes a page of a template.
        show_run: Makes the page of a run, with other values put in.
    """
    router = APIRouter()

    _add_form(router, actions, show)
    _add_jobs(router, actions, show)

    def row_of(key: str) -> Row:
        if actions.index.folder(key) is None:
            raise HTTPException(404, f"there is no run {key}")
        return actions.index.row(key)

    @router.post("/run/{key:path}/stop")
    def stop(key: str, form: Sent) -> Response:
        ask_to_stop(actions.index.root / row_of(key).key)
        return _to_run(key)

    @router.post("/run/{key:path}/resume")
    def resume(key: str, form: Sent) -> Response:
        if not row_of(key).can_be_resumed:
            raise UserError("only a run that has ended before its time can be taken up", where=key)
        # Its recipe may be a stranger's: who clicks has not read it.
        has_code = read_run_recipe(actions.index.root / key).model.trust_remote_code
        return _to_job(actions.jobs.resume(key, [f"model.trust_remote_code={KNOWN}"] if has_code else []))

    @router.post("/run/{key:path}/try")
    def ask(key: str, request: Request, form: Sent) -> HTMLResponse:
        folder = actions.index.root / row_of(key).key
        texts = [form.get(f"text.{name}", "") for name in questions_of(read_run_recipe(folder))]
        try:
            answer = actions.trial.ask(folder, texts, explained=form.get("act") == "explain")
        except PeftlabError as error:
            return show_run(key, request, status=422, answer=Answer(texts), problem=str(error))
        return show_run(key, request, answer=answer)

    return router


def _add_form(router: APIRouter, actions: Actions, show: Show) -> None:
    def page(request: Request, answers: dict[str, str], *, problem: str = "", status: int = 200) -> HTMLResponse:
        task, method = (answers.get(part, "") for part in CHOSEN)
        sections = sections_of(task, method) if task and method else []
        return show(
            "new.html.j2", status, sections=sections, answers=answers, task=task, method=method, problem=problem,
            tasks=choices_of("task"), methods=choices_of("method"), may_act=actions.visitors.have_token(request),
        )  # fmt: skip

    @router.get("/new")
    def form(
        request: Request,
        task: str = "",
        method: str = "",
        like: Annotated[str | None, Query(max_length=1000)] = None,
        job: str | None = None,
    ) -> HTMLResponse:
        answers: dict[str, str] = {}
        if like is not None:
            folder = actions.index.folder(like)
            if folder is None:
                raise HTTPException(404, f"there is no run {like}")
            answers = answers_of(read_run_recipe(folder).model_dump(mode="json"))
        elif job is not None and (found := actions.jobs.find(job)) is not None:
            answers = dict(found.answers)
        # Another type than that of the run has other keys.
        given = {"task": task, "method": method}
        for part in CHOSEN:
            if given[part] and given[part] != answers.get(part):
                answers = {key: value for key, value in answers.items() if not key.startswith(f"{part}.")}
                answers[part] = given[part]
        return page(request, answers)

    @router.post("/new")
    def start(request: Request, answers: Sent) -> Response:
        task, method = (answers.get(part, "") for part in CHOSEN)
        typed = {key: value for key, value in answers.items() if value.strip()}
        try:
            settings = settings_of(answers, task, method)
            recipe, _ = recipe_of_settings(settings)
        except UserError as error:
            if task not in choices_of("task") or method not in choices_of("method"):
                raise
            place = (error.where or "").removeprefix("--set").strip(": ")
            text = f"{place}: {error.message}" if place else error.message
            return page(request, typed, problem=f"{text}. {error.hint or ''}", status=422)
        return _to_job(actions.jobs.start(recipe.name, settings, typed))


def _add_jobs(router: APIRouter, actions: Actions, show: Show) -> None:
    def found(name: str) -> Job:
        job = actions.jobs.find(name)
        if job is None:
            raise HTTPException(404, "nothing of this name was started here")
        return job

    def values(name: str) -> dict[str, Any]:
        job = found(name)
        row = actions.index.row(job.key) if actions.index.folder(job.key) is not None else None
        return {"job": job, "state": actions.jobs.state(job), "row": row}

    @router.get("/job/{name}")
    def job(name: str, request: Request) -> HTMLResponse:
        return show("job.html.j2", **values(name), may_act=actions.visitors.have_token(request))

    @router.get("/job/{name}/progress")
    def progress(name: str) -> HTMLResponse:
        now = values(name)
        answer = show("job_progress.html.j2", **now)
        row, state = now["row"], now["state"]
        if row is not None and row.status == "going":
            answer.headers["X-Begun"] = _address(row.key)
        elif state.is_running is not True:
            answer.headers["X-Ended"] = "1"
        return answer

    @router.post("/job/{name}/stop")
    def stop(name: str, form: Sent) -> Response:
        actions.jobs.stop(found(name))
        return RedirectResponse(f"/job/{name}", 303)


def _address(key: str) -> str:
    return f"/run/{quote(key)}"


def _to_run(key: str) -> Response:
    return RedirectResponse(_address(key), 303)


def _to_job(job: Job) -> Response:
    return RedirectResponse(f"/job/{job.name}", 303)
