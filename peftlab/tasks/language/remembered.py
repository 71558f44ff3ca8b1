"""Long work that is asked for again and again: its results are remembered, up to a size."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Remembered(Generic[Value]):
    """Results by the text that they were made from; those that were not asked for the longest go first.

    Args:
        most: Bytes of all results together; a larger one is made anew each time.
        size: Bytes of a result.
    """

    def __init__(self, most: int, size: Callable[[Value], int]) -> None:
        self._most, self._size, self._held = most, size, 0
        self._values: OrderedDict[bytes, Value] = OrderedDict()
        self._lock = threading.Lock()  # a served model is asked by several threads

    def get(self, text: str, make: Callable[[], Value]) -> Value:
        """The result that is remembered, or a new one.

        Args:
            text: Says all that the result depends on.
            make: Makes it; what it raises is not remembered.
        """
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        with self._lock:
            if key not in self._values:
                self._values[key] = value
                self._held += self._size(value)
            while self._held > self._most:
                self._held -= self._size(self._values.popitem(last=False)[1])
        return value
