"""Which of transformers' many classes for the same part of a model compute the same."""

from __future__ import annotations


def is_same_code(function: object, other: object) -> bool:
    """Whether two functions were compiled to the same code, names and constants.

    Transformers copies the parts that models share word for word from one model's file to the next. Of a function that
    encloses values of another, such as a decorator's, the code does not say what it computes: it is like no other.
    """
    codes = [getattr(each, "__code__", None) for each in (function, other)]
    first, second = ((c.co_code, c.co_names, c.co_consts, c.co_varnames) if c else None for c in codes)
    encloses = any(getattr(each, "__closure__", None) for each in (function, other))
    return first is not None and first == second and not encloses
