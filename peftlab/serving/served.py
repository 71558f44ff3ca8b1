"""What every route is given, and what it may answer beside its own."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request

from peftlab.serving.schemas import Problem
from peftlab.serving.service import Service

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem} for status in (400, 401, 404, 408, 413, 422, 429, 503, 504)
}


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Served = Annotated[Service, Depends(_service)]
