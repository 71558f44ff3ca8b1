"""The routes of the HTTP interface; ``/docs`` shows them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

import fastapi
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from peftlab.core.errors import DataError, RunFailedError, UserError
from peftlab.core.wrong_request import say_no_route, say_what_is_wrong
from peftlab.serving import completions_route, embeddings_route, generate_route, models_route, rerank_route
from peftlab.serving.batcher import ClosingError, QueueFullError
from peftlab.serving.card_trouble import CardFailedError, NoMemoryError
from peftlab.serving.disconnect import unless_disconnected
from peftlab.serving.gate import Gate
from peftlab.serving.host import Hosted
from peftlab.serving.problems import problem
from peftlab.serving.schemas import (
    AdapterInfo,
    AdaptersResponse,
    AddAdapterRequest,
    Health,
    PredictRequest,
    PredictResponse,
    Problem,
)
from peftlab.serving.served import PROBLEMS, Served
from peftlab.serving.service import ForbiddenFolderError, Service, UnknownAdapterError

ALL_ROUTES = "/docs describes all routes."
router = fastapi.APIRouter()


@router.post("/v1/predict", responses=PROBLEMS, response_model=PredictResponse)
async def predict(body: PredictRequest, request: Request, service: Served) -> Any:
    """Predict on texts with one of the adapters."""
    hosted = service.find(body.adapter)
    request.state.facts.update(adapter=hosted.name, texts=len(body.texts))
    answers = await unless_disconnected(request, service.predict(hosted.name, body.texts))
    # As a response of its own: the answers are plain values, and need no second validation.
    return JSONResponse({"adapter": hosted.name, "predictions": answers})


@router.get("/v1/adapters", responses=PROBLEMS)
async def adapters(service: Served) -> AdaptersResponse:
    """List the adapters."""
    return AdaptersResponse(adapters=[_describe(hosted) for hosted in service.adapters()])


@router.post("/v1/adapters", responses={**PROBLEMS, 403: {"model": Problem}}, status_code=201)
async def add_adapter(body: AddAdapterRequest, service: Served) -> AdapterInfo:
    """Load another run or export from the server's disk."""
    return _describe(await service.add(body.name, body.folder))


@router.delete("/v1/adapters/{name}", responses=PROBLEMS, status_code=204)
async def remove_adapter(name: str, service: Served) -> None:
    """Remove an adapter once the requests that were accepted for it are answered."""
    await service.remove(name)


@router.get("/healthz", responses={503: {"model": Problem}})
async def health(service: Served) -> Health:
    """Tell whether requests are taken; 503 once the card has failed, and only a new start can help."""
    if (failure := service.batcher.failure) is not None:
        raise CardFailedError(failure.message, hint=failure.hint)
    status = "closing" if service.batcher.is_closing else "ok"
    return Health(status=status, adapters=len(service.adapters()), waiting=service.batcher.waiting)


@router.get("/metrics", response_class=Response)
async def metrics(service: Served) -> Response:
    """Metrics for Prometheus."""
    service.telemetry.waiting.set(service.batcher.waiting)
    return Response(service.telemetry.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


def build_app(service: Service) -> Gate:
    """The whole ASGI application around a service."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.batcher.start()
        service.telemetry.adapters.set(len(service.host.models))
        yield
        await service.batcher.close()
        service.telemetry.event("stopped")

    # Its pages bring their scripts along: a machine that serves models may have no network.
    app: FastAPI = FastAPIOffline(
        title="peftlab", summary="Predictions and texts of tuned models.", lifespan=lifespan, responses={}
    )
    app.state.service = service
    app.include_router(router)
    for part in (generate_route, completions_route, embeddings_route, rerank_route, models_route):
        app.include_router(part.router)
    app.add_exception_handler(UserError, _user_error)
    app.add_exception_handler(RunFailedError, _run_failed)
    app.add_exception_handler(QueueFullError, _queue_full)
    app.add_exception_handler(ClosingError, _closing)
    app.add_exception_handler(TimeoutError, _timeout)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _defect)
    return Gate(app, service.config, service.telemetry)


async def _user_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, UserError)  # noqa: S101 - registered for it alone
    status = 404 if isinstance(error, UnknownAdapterError) else 403 if isinstance(error, ForbiddenFolderError) else 422
    message = f"{error.where}: {error.message}" if error.where else error.message
    return problem(request.url.path, status, message, None if _is_for_tables(error) else error.hint)


def _is_for_tables(error: UserError) -> bool:
    """Whether its hint speaks of a table's rows or of a recipe, of which a request has neither."""
    return isinstance(error, DataError) and re.search(r"\b(data|task)\.\w|\brows?\b", error.hint or "") is not None


async def _run_failed(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RunFailedError)  # noqa: S101
    status = 503 if isinstance(error, NoMemoryError | CardFailedError) else 500
    return problem(request.url.path, status, error.message, error.hint)


async def _queue_full(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, QueueFullError)  # noqa: S101
    return problem(request.url.path, 429, "too many texts are waiting", **{"Retry-After": str(error.retry_after)})


async def _closing(request: Request, _error: Exception) -> JSONResponse:
    return problem(request.url.path, 503, "the service is shutting down", **{"Retry-After": "5"})


async def _timeout(request: Request, _error: Exception) -> JSONResponse:
    return problem(request.url.path, 504, "the answer did not come in time")


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    message, hint = say_what_is_wrong(request.headers.get("content-type", ""), error.errors())
    return problem(request.url.path, 422, message, hint or ALL_ROUTES)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101
    path, status, message, hint = request.url.path, error.status_code, str(error.detail), None
    if "route" not in request.scope or status == 405:
        message, hint = say_no_route(request.method, path, status), ALL_ROUTES
    return problem(path, status, message, hint, **dict(error.headers or {}))


async def _defect(request: Request, error: Exception) -> JSONResponse:
    # The message may hold a text; the class does not.
    request.app.state.service.telemetry.event("defect", error=type(error).__name__)
    return problem(request.url.path, 500, "this is a defect of peftlab")


def _describe(hosted: Hosted) -> AdapterInfo:
    tuned = hosted.tuned
    return AdapterInfo(
        name=hosted.name,
        run=tuned.name,
        task=tuned.task.registered_name,
        method=tuned.recipe.method.registered_name,
        labels=list(tuned.labels),
        max_length=tuned.max_length,
        temperature=tuned.temperature,
        generates=hosted.generates,
        rides_with_others=hosted.group.is_mixed and not hosted.generates,
    )
