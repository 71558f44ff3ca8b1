"""What the routes do: from a request's texts to answers, and adapters that come and go."""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peftlab.core.errors import UnsupportedError, UserError, did_you_mean
from peftlab.core.image_file import ImageFile
from peftlab.core.splits import Split
from peftlab.data.columns import check_columns
from peftlab.inference.predict import rounded
from peftlab.serving.batcher import Batcher
from peftlab.serving.card_trouble import in_parts
from peftlab.serving.host import Host, Hosted, WorkItem
from peftlab.serving.serving_config import ServingConfig
from peftlab.serving.telemetry import Telemetry


class UnknownAdapterError(UserError):
    """There is no adapter of this name, or it is on its way out."""


class ForbiddenFolderError(UserError):
    """Adapters may not be added from there."""


class Service:
    """Models, the queue before them, and what is told of both.

    Args:
        host: Holds the models.
        config: Limits.
        telemetry: Counts and logs.
    """

    def __init__(self, host: Host, config: ServingConfig, telemetry: Telemetry) -> None:
        self.host, self.config, self.telemetry = host, config, telemetry
        self._leaving: set[str] = set()
        self._adding = asyncio.Lock()
        self.batcher = Batcher(
            functools.partial(in_parts, host.answer),
            host.write,
            config.batching,
            max_queue=config.limits.max_queue,
            on_batch=telemetry.batch,
        )

    def adapters(self) -> list[Hosted]:
        """All that take requests, by name."""
        return [hosted for name, hosted in sorted(self.host.models.items()) if name not in self._leaving]

    def find(self, name: str | None) -> Hosted:
        """The adapter that a request means.

        Raises:
            UnknownAdapterError: There is none of this name, or no name was given and there are several.
        """
        known = {hosted.name: hosted for hosted in self.adapters()}
        if name is None and len(known) == 1:
            return next(iter(known.values()))
        if name is None:
            raise UnknownAdapterError("the request names no adapter", hint=f"There are: {', '.join(known) or 'none'}.")
        if name not in known:
            raise UnknownAdapterError(f"there is no adapter `{name}`", hint=did_you_mean(name, known))
        return known[name]

    async def predict(self, adapter: str | None, texts: list[str | list[str]]) -> list[dict[str, Any]]:
        """Answers for texts.

        Nothing is awaited between the look-up of the adapter and the queue, so that a text is either refused or
        accepted before the adapter is removed.

        Args:
            adapter: Its name; None where there is one only.
            texts: Each a string, or a list of two for pairs.

        Raises:
            UserError: There is no such adapter, or a text cannot be used.
            QueueFullError: There is no room in the queue.
            ClosingError: The service is shutting down.
            TimeoutError: The answer is not there in time.
        """
        hosted = self.find(adapter)
        if hosted.generates:
            raise UnsupportedError(
                f"the adapter `{hosted.name}` ({hosted.tuned.task.registered_name}) writes text and predicts nothing",
                hint="Ask /v1/generate.",
            )
        tuned = hosted.tuned
        split = self._split(hosted, texts)
        examples = tuned.encode(split).examples
        predictions = await self.answers([WorkItem(hosted, example) for example in examples])
        columns = tuned.task.input_columns()
        return [
            {
                **rounded(
                    tuned.task.answer(
                        prediction, {column: split.columns[column][row] for column in columns}, tuned.labels
                    )
                ),
                "truncated": bool(examples[row].get("truncated", False)),
            }
            for row, prediction in enumerate(predictions)
        ]

    async def answers(self, items: Sequence[WorkItem]) -> list[Any]:
        """What comes of items of one model, in their order; all are accepted, or none.

        Raises:
            UnknownAdapterError: The model has gone since its items were made.
            QueueFullError: There is no room in the queue.
            ClosingError: The service is shutting down.
            TimeoutError: The answer is not there in time.
        """
        hosted = items[0].hosted
        if self.find(hosted.name) is not hosted:
            raise UnknownAdapterError(f"the adapter `{hosted.name}` has been replaced", hint="Ask again.")
        answers = self.batcher.submit(items)
        try:
            async with asyncio.timeout(self.config.limits.request_timeout_seconds):
                found = await asyncio.gather(*answers)
        finally:
            for answer in answers:  # the client has gone, or its time is over: what waits is dropped
                answer.cancel()
        self.telemetry.texts.labels(hosted.name).inc(len(items))
        return found

    def check_texts(self, texts: Sequence[str], name: str = "texts") -> None:
        """Refuse too many texts, and a text that is too long or empty.

        Raises:
            UserError: Naming it by ``name``.
        """
        limits = self.config.limits
        if len(texts) > limits.max_texts:
            raise UserError(f"{len(texts)} texts in a request; {limits.max_texts} are allowed")
        for number, text in enumerate(texts):
            if len(text) > limits.max_text_characters:
                raise UserError(
                    f"{name}[{number}] has {len(text)} characters; {limits.max_text_characters} are allowed"
                )
            if not text.strip():
                raise UserError(f"{name}[{number}] is empty")
        check_columns(Split("request", range(len(texts)), {"text": texts}, name, form="list"), ["text"], ())

    def _split(self, hosted: Hosted, texts: list[str | list[str]]) -> Split:
        limits, columns = self.config.limits, hosted.tuned.task.input_columns()
        if len(texts) > limits.max_texts:
            raise UserError(f"{len(texts)} texts in a request; {limits.max_texts} are allowed")
        values: dict[str, list[Any]] = {column: [] for column in columns}
        for number, text in enumerate(texts):
            parts = text if isinstance(text, list) else [text]
            if len(parts) != len(columns):
                wanted = "a string" if len(columns) == 1 else f"a list of {len(columns)} strings ({', '.join(columns)})"
                raise UserError(f"texts[{number}] must be {wanted}")
            for column, part in zip(columns, parts, strict=True):
                is_image = column in hosted.tuned.task.image_columns()
                most = limits.max_body_bytes if is_image else limits.max_text_characters
                if len(part) > most:
                    raise UserError(f"texts[{number}] has {len(part)} characters; {most} are allowed")
                if not part.strip():
                    raise UserError(f"texts[{number}] is empty")
                values[column].append(part)
        of_images: dict[str, list[Any]] = {name: _images(values[name]) for name in hosted.tuned.task.image_columns()}
        given = Split("request", range(len(texts)), values | of_images, "texts", form="list")
        split = hosted.tuned.task.tidy_rows(given)
        check_columns(split, columns, ())
        return split

    async def add(self, name: str, folder: str) -> Hosted:
        """Load an adapter while the others go on.

        Raises:
            ForbiddenFolderError: The folder is not below one that the operator allows.
            UserError: There is nothing to load there, or the name is taken.
        """
        try:
            path: Path | None = Path(folder).resolve()
        except (OSError, RuntimeError, ValueError):  # a loop of links; a character that no path has
            path = None
        if path is None or not any(path.is_relative_to(allowed) for allowed in self.config.adapter_folders):
            raise ForbiddenFolderError(
                "adapters may not be added from this folder", hint="The operator allows folders by --adapters-from."
            )
        async with self._adding:
            if self.host.joins(path):
                hosted: Hosted = await self.batcher.call(self.host.add, name, path)
            else:
                hosted = await asyncio.to_thread(self.host.add, name, path)
        self._tell("adapter_added", name)
        return hosted

    async def remove(self, name: str) -> None:
        """Take no more requests for an adapter, finish those that were accepted, and forget it.

        Raises:
            UnknownAdapterError: There is none of this name.
        """
        self.find(name)
        self._leaving.add(name)
        try:
            await self.batcher.idle(name)
            async with self._adding:  # the host is not waited for while all workers are held
                await self.batcher.call(self.host.remove, name)
        finally:
            self._leaving.discard(name)
        self._tell("adapter_removed", name)

    def _tell(self, event: str, name: str) -> None:
        self.telemetry.adapters.set(len(self.host.models))
        self.telemetry.event(event, adapter=name)


def _images(texts: Sequence[str]) -> list[ImageFile]:
    """Images that came in base64, also as data URLs; a path would be one of the server's own files.

    Raises:
        UserError: It is no base64.
    """
    images = []
    for number, text in enumerate(texts):
        try:
            content = base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
        except (binascii.Error, ValueError):
            raise UserError(f"texts[{number}] must be the file of an image, in base64") from None
        images.append(ImageFile.of(content))
    return images
