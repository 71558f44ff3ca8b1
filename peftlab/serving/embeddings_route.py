"""The route ``/v1/embeddings``, in OpenAI's shape: a vector for each text.

https://platform.openai.com/docs/api-reference/embeddings/create; ``model`` is the adapter's name. OpenAI's own client
asks for base64, which is the vector's float32 numbers, the lowest byte first.
"""

from __future__ import annotations

import base64
from typing import Any, Literal

import fastapi
from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from torch import Tensor

from peftlab.core.capabilities import EmbedsText
from peftlab.core.errors import UnsupportedError, UserError
from peftlab.serving.disconnect import unless_disconnected
from peftlab.serving.host import WorkItem
from peftlab.serving.schemas import Body
from peftlab.serving.served import PROBLEMS, Served

router = fastapi.APIRouter()
NORMAL = 1e-3
"""How far from 1 the length of a vector may be that has the length 1."""


class EmbeddingsRequest(Body):
    """Texts for one adapter."""

    input: str | list[str] = Field(min_length=1, description="A text, or several.")
    model: str | None = Field(None, description="The adapter's name; may be left out where there is one only.")
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(
        None, ge=1, description="Give only so many of the first numbers, at the length 1 if vectors have it."
    )
    user: str | None = Field(None, description="Not used.")


class Usage(BaseModel):
    """Tokens that the model has read."""

    prompt_tokens: int
    total_tokens: int


class Embedding(BaseModel):
    """The vector of one text."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingsResponse(BaseModel):
    """A vector for each text, in their order."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage


@router.post("/v1/embeddings", responses=PROBLEMS, response_model=EmbeddingsResponse)
async def embeddings(body: EmbeddingsRequest, request: Request, service: Served) -> Any:
    """Embed texts by one of the adapters."""
    hosted = service.find(body.model)
    task = hosted.tuned.task
    if not isinstance(task, EmbedsText):
        raise UnsupportedError(
            f"the adapter `{hosted.name}` ({task.registered_name}) gives no vectors",
            hint="Ask one that was tuned on text_embedding.",
        )
    texts = [body.input] if isinstance(body.input, str) else body.input
    service.check_texts(texts, "input")
    request.state.facts.update(adapter=hosted.name, texts=len(texts))
    examples = task.embedding_examples(texts, hosted.tuned.tokenizer)
    items = [WorkItem(hosted, example, reading=task.embeddings) for example in examples]
    vectors = await unless_disconnected(request, service.answers(items))
    tokens = sum(task.length(example) for example in examples)
    # As a response of its own: these are plain values, and need no second validation.
    return JSONResponse(
        {
            "object": "list",
            "data": [
                {
                    "object": "embedding",
                    "index": at,
                    "embedding": _written(shortened(vector, body.dimensions), body.encoding_format),
                }
                for at, vector in enumerate(vectors)
            ],
            "model": hosted.name,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def shortened(vector: Tensor, dimensions: int | None) -> Tensor:
    """The first numbers of a vector; of the length 1 where the whole vector is.

    Raises:
        UserError: It has not so many.
    """
    if dimensions is None:
        return vector
    if dimensions > len(vector):
        raise UserError(f"a vector has {len(vector)} dimensions, not {dimensions}", where="dimensions")
    first = vector[:dimensions]
    return first / first.norm() if abs(float(vector.norm()) - 1) < NORMAL else first


def _written(vector: Tensor, encoding: str) -> list[float] | str:
    if encoding == "float":
        return vector.tolist()
    return base64.b64encode(vector.float().numpy().astype("<f4").tobytes()).decode()
