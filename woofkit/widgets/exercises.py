"""What the exercises' check cells need: an answer of any kind is judged, and none raises an error."""

import math
from collections.abc import Callable
from typing import Any


def as_number(answer: Any) -> float:
    """The answer as a float; nan where it is not one number (a word, a list, or `3,457`, which is two numbers)."""
    try:
        return float(answer)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return math.nan


def attempt(function: Callable, *arguments: Any) -> Any:
    """What a student's function returns or, as text, the error that it raises."""
    try:
        return function(*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
