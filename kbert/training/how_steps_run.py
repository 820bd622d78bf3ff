"""Checks the arguments of Keras's `compile` that say how steps are run, for every model that kbert trains."""

from __future__ import annotations

from typing import Any

from kbert.arguments import whole_numbers, yes_or_no

OF_STEPS = ("run_eagerly", "steps_per_execution", "auto_scale_loss")


def check_steps(
    jit_compile: Any, run_eagerly: Any = None, steps_per_execution: Any = None, auto_scale_loss: Any = None
) -> bool:
    """Returns whether XLA should compile the steps.

    >>> check_steps("auto"), check_steps(True, run_eagerly=False)
    (False, True)

    Args:
      jit_compile: True, False or `"auto"`. `"auto"` is False, because XLA cannot compile the shapes of real tokens.
      run_eagerly: True, False, or None if it was left out.
      steps_per_execution: a number, or None if it was left out.
      auto_scale_loss: True, False, or None if it was left out.

    Raises:
      ValueError: an argument is none of these.
    """
    if not (isinstance(jit_compile, bool) or (isinstance(jit_compile, str) and jit_compile == "auto")):
        raise ValueError(f'jit_compile should be True, False or "auto", got {jit_compile!r}')
    whole_numbers(steps_per_execution=steps_per_execution)
    for name, value in (("run_eagerly", run_eagerly), ("auto_scale_loss", auto_scale_loss)):
        if value is not None:
            yes_or_no(**{name: value})
    return jit_compile is True
