"""The route ``/v1/rerank``: documents in the order in which they answer a query, in the shape that rerankers share.

https://docs.cohere.com/reference/rerank; ``model`` is the adapter's name.
"""

from __future__ import annotations

import fastapi
from fastapi import Request
from pydantic import BaseModel, Field

from peftlab.core.capabilities import ScoresPairs
from peftlab.core.errors import UnsupportedError
from peftlab.serving.disconnect import unless_disconnected
from peftlab.serving.host import WorkItem
from peftlab.serving.schemas import Body
from peftlab.serving.served import PROBLEMS, Served

router = fastapi.APIRouter()


class RerankRequest(Body):
    """A query and documents for one adapter."""

    query: str
    documents: list[str] = Field(min_length=1)
    model: str | None = Field(None, description="The adapter's name; may be left out where there is one only.")
    top_n: int | None = Field(None, ge=1, description="Give only the best; null: all.")
    return_documents: bool = Field(False, description="Give the text of each document back.")


class Text(BaseModel):
    """A document."""

    text: str


class Ranked(BaseModel):
    """A document and how well it answers."""

    index: int = Field(description="Its place in the request.")
    relevance_score: float
    document: Text | None = None


class RerankResponse(BaseModel):
    """The documents, the best first."""

    model: str
    results: list[Ranked]


@router.post("/v1/rerank", responses=PROBLEMS, response_model_exclude_none=True)
async def rerank(body: RerankRequest, request: Request, service: Served) -> RerankResponse:
    """Rank documents by one of the adapters."""
    hosted = service.find(body.model)
    task = hosted.tuned.task
    if not isinstance(task, ScoresPairs):
        raise UnsupportedError(
            f"the adapter `{hosted.name}` ({task.registered_name}) scores no pairs",
            hint="Ask one that was tuned on reranking.",
        )
    service.check_texts([body.query], "query")
    service.check_texts(body.documents, "documents")
    request.state.facts.update(adapter=hosted.name, texts=len(body.documents))
    examples = task.pair_examples([(body.query, text) for text in body.documents], hosted.tuned.tokenizer)
    items = [WorkItem(hosted, example, reading=task.pair_scores) for example in examples]
    scores = [float(score) for score in await unless_disconnected(request, service.answers(items))]
    order = sorted(range(len(scores)), key=lambda at: (-scores[at], at))
    return RerankResponse(
        model=hosted.name,
        results=[
            Ranked(
                index=at,
                relevance_score=scores[at],
                document=Text(text=body.documents[at]) if body.return_documents else None,
            )
            for at in order[: body.top_n]
        ],
    )
