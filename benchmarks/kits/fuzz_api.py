"""Requests that the endpoint's OpenAPI page allows, and requests that it does not, all from one seed (schemathesis)."""

from collections import Counter
from collections.abc import Callable
from itertools import product
from typing import Any

import hypothesis
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings


def send_requests(
    url: str,
    page: dict[str, Any],
    *,
    seed: int,
    max_examples: int,
    key: str | None = None,
    is_wanted: Callable[[str], bool] = lambda path: True,
) -> Counter[int]:
    """Send ``max_examples`` of each kind to each operation; return the statuses, and raise at the first 5xx."""
    session, seen = requests.Session(), Counter[int]()
    if key:
        session.headers["Authorization"] = f"Bearer {key}"
    operations = [result.ok() for result in schemathesis.openapi.from_dict(page).get_all_operations()]
    for operation, mode in product(operations, schemathesis.GenerationMode):
        if not operation.body and mode == schemathesis.GenerationMode.NEGATIVE:
            continue  # nothing that could be wrong
        if not is_wanted(operation.path):
            continue

        @hypothesis.seed(seed)
        @settings(
            max_examples=max_examples,
            database=None,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case: schemathesis.Case) -> None:
            status = case.call(base_url=url, session=session, timeout=30).status_code
            seen[status] += 1
            if status >= 500:
                raise AssertionError(f"{case.method} {case.path} was answered by {status}: {str(case.body)[:500]}")

        check()
    return seen
