"""Judge an answer of any kind: a number, a tensor or a function. Nothing that a student writes raises an error here."""

import ctypes
import math
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from threading import Thread
from typing import Any

import torch
from torch import Tensor

UNANSWERED = "Not answered yet."
SECONDS = 20.0  # that a student's function may take; one that trains a model may take as long as it likes


class Failed(str):
    """The words for a function that gave no result: its error, or that it did not end."""


class _TimeUp(BaseException):
    """Raised inside a function that does not end; no `except Exception` of its own stops it."""


def checker(check: Callable[..., str]) -> Callable[..., None]:
    """Let a check print its sentence instead of returning it, and never raise an error."""

    @wraps(check)
    def told(*answers: Any, **settings: Any) -> None:
        try:
            words = check(*answers, **settings)
        except Exception as error:
            words = f"Wrong: this answer cannot be judged ({type(error).__name__}: {shown(str(error), 120)})."
        print(words)

    return told


def unanswered(*answers: Any) -> bool:
    """Whether nothing was filled in: every answer is None or `...`."""
    return all(answer is None or answer is ... for answer in answers)


def as_number(answer: Any) -> float:
    """The answer as a float; nan where it is not one number (a word, a list, or `3,457`, which is two numbers)."""
    try:
        return float(answer)
    except Exception:
        return math.nan


def shown(answer: Any, length: int = 40) -> str:
    """An answer in few words, whatever it is."""
    try:
        words = str(answer)
    except Exception:
        words = f"a {type(answer).__name__}"
    words = " ".join(words.split())
    return words if len(words) <= length else words[: length - 3] + "..."


def attempt(function: Any, *arguments: Any, seconds: float | None = SECONDS) -> Any:
    """What a student's function returns, or `Failed` with the error that it raises; also if it does not end.

    Tensors are handed over as copies. `seconds` None waits as long as it takes.
    """
    if not callable(function):
        return Failed(f"write a function, not {shown(function)}")
    handed = [each.clone() if isinstance(each, Tensor) else each for each in arguments]
    if seconds is None:  # here, so that the kernel's interrupt reaches it
        try:
            return function(*handed)
        except Exception as error:
            return Failed(f"{type(error).__name__}: {shown(error, 160)}")
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append(function(*handed))
        except _TimeUp:
            pass
        except BaseException as error:  # sys.exit() too
            outcome.append(Failed(f"{type(error).__name__}: {shown(error, 160)}"))

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        thread.join(seconds)
    finally:  # also when the kernel is interrupted
        if thread.is_alive():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(_TimeUp))
    return outcome[0] if outcome else Failed(f"it had not ended after {seconds:g} seconds; does a loop go on for ever?")


def tensor_trouble(given: Any, shape: Sequence[int]) -> str:
    """Say what keeps a result from being a tensor of this shape, or "" where nothing does."""
    shape = tuple(shape)
    if isinstance(given, Failed):
        return f"your function gives no result: {given}"
    if given is None or given is ...:
        return "your function returns nothing: does it end in `return`?"
    tensor = as_tensor(given)
    if tensor is None:
        return f"return a tensor of shape {shape}, not {shown(given)} ({type(given).__name__})"
    if tuple(tensor.shape) != shape:
        swapped = " It is transposed." if tuple(tensor.shape) == shape[::-1] != shape else ""
        return f"return a tensor of shape {shape}; yours is {tuple(tensor.shape)}.{swapped}".removesuffix(".")
    if not tensor.isfinite().all():
        return "your result holds NaN or infinity: look for a division by zero, or a logarithm of zero"
    return ""


def as_tensor(given: Any) -> Tensor | None:
    """A tensor, array or list of numbers as a float tensor; None for anything else."""
    try:
        return torch.as_tensor(given).detach().cpu().double()
    except Exception:
        return None


def close(given: Any, expected: Tensor) -> bool:
    """Whether a result equals the expected one but for rounding."""
    tensor = as_tensor(given)
    due = expected.detach().double()
    if tensor is None or tensor.shape != due.shape:
        return False
    return torch.allclose(tensor, due, rtol=1e-3, atol=1e-4 * max(1.0, float(due.abs().max())))


def recognised(given: Any, mistakes: Mapping[str, Tensor]) -> str:
    """The name of the mistake that gives this very result, or ""."""
    return next((name for name, result in mistakes.items() if close(given, result)), "")
