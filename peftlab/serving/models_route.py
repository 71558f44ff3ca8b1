"""The routes under ``/v1/models``, in OpenAI's shape: the names that ``model`` may have.

https://platform.openai.com/docs/api-reference/models/list; ``/v1/adapters`` says more of each.
"""

from __future__ import annotations

from typing import Literal

import fastapi
from pydantic import BaseModel

from peftlab.serving.host import Hosted
from peftlab.serving.served import PROBLEMS, Served

router = fastapi.APIRouter()


class Model(BaseModel):
    """One adapter."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["peftlab"] = "peftlab"


class ModelsResponse(BaseModel):
    """All adapters."""

    object: Literal["list"] = "list"
    data: list[Model]


@router.get("/v1/models", responses=PROBLEMS)
async def models(service: Served) -> ModelsResponse:
    """List the adapters as models."""
    return ModelsResponse(data=[_as_model(hosted) for hosted in service.adapters()])


@router.get("/v1/models/{name}", responses=PROBLEMS)
async def model(name: str, service: Served) -> Model:
    """One adapter as a model."""
    return _as_model(service.find(name))


def _as_model(hosted: Hosted) -> Model:
    return Model(id=hosted.name, created=hosted.loaded_at)
