"""Schedules are functions of the step: a resumed run reads the same value, because nothing is remembered."""


def linear(step: int, *, num_steps: int, start: float, end: float) -> float:
    """Return ``start`` at step 0, ``end`` at the last step ``num_steps - 1``, and the straight line between."""
    if num_steps == 1:
        return start
    share = min(max(step / (num_steps - 1), 0.0), 1.0)
    return start + (end - start) * share
