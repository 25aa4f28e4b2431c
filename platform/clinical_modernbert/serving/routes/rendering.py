"""Large answers as JSON: bounded before they are computed, and rendered in short jobs, which do not delay others for long."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.serving import problems
from clinical_modernbert.serving.service import EmbeddingService

Items = Sequence[Any] | NDArray[np.float32]
NUMBERS_IN_JOB = 65_536
"""Numbers of one job; they take a few hundredths of a second."""

_Part = tuple[int, int, int]
"""Items of one list in one job: the list's position, the first item, one past the last."""


def check_items(num_texts: int, num_items: int, *, name: str, limit: int, setting: str) -> None:
    """Refuse an answer that may have more than ``limit`` items, ``num_items`` for each text; raises ``ProblemError``."""
    if num_texts * num_items <= limit:
        return
    ways = [f"send at most {limit // num_items} texts"] if limit >= num_items else []
    ways += [f"set top_k to at most {limit // num_texts}"] if limit >= num_texts else []
    fits = f"{setting}={limit}: {' or '.join(ways) or 'split the request'}"
    answer = f"up to {num_texts * num_items} {name}, {num_items} for each text"
    raise problems.answer_too_large("inputs", answer, fits)


def render_numbers(array: NDArray[np.float32]) -> str:
    """Return an array as JSON."""
    return json.dumps(array.tolist())


async def render_lists(
    service: EmbeddingService, lists: Sequence[Items], render: Callable[[Any], str], *, items_in_job: int
) -> list[str]:
    """Return each list as JSON; ``render`` returns some items of one list as a JSON list."""

    def run(parts: list[_Part]) -> list[str]:
        return [render(lists[i][first:stop])[1:-1] for i, first, stop in parts]

    jobs = list(_jobs([len(items) for items in lists], items_in_job))
    rendered = await service.aside(partial(run, parts) for parts in jobs)
    texts: list[list[str]] = [[] for _ in lists]
    for parts, answers in zip(jobs, rendered, strict=True):
        for (i, _, _), text in zip(parts, answers, strict=True):
            texts[i].append(text)
    return [f"[{','.join(text)}]" for text in texts]


def _jobs(lengths: Sequence[int], size: int) -> Iterator[list[_Part]]:
    """Divide lists among jobs of about ``size`` items.

    With 10 items in a job, lists of 4, 3 and 12 items give [0: 0-4, 1: 0-3, 2: 0-3], [2: 3-12].
    """
    parts: list[_Part] = []
    room = size
    for i, length in enumerate(lengths):
        first = 0
        while first < length:
            stop = min(first + room, length)
            parts.append((i, first, stop))
            room -= stop - first
            first = stop
            if room == 0:
                yield parts
                parts, room = [], size
    if parts:
        yield parts
