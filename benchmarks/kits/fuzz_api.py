"""Requests that the endpoint's OpenAPI page allows, and requests that it does not, all from one seed (schemathesis).

Every fourth one has a synthetic patient in each of its texts.
"""

from collections import Counter
from collections.abc import Callable
from itertools import product
from typing import Any

import hypothesis
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from benchmarks.kits.canaries import has_patient, text_of

_PLANTED_EVERY = 4


def send_requests(
    url: str,
    page: dict[str, Any],
    *,
    seed: int,
    max_examples: int,
    key: str | None = None,
    is_wanted: Callable[[str], bool] = lambda path: True,
) -> Counter[int]:
    """Send ``max_examples`` of each kind to each operation; return the statuses.

    Raises ``AssertionError`` at the first 5xx, and at a refusal that quotes its request.
    """
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
            if seen.total() % _PLANTED_EVERY == 0:
                case.body = _with_patient(case.body)
            answer = case.call(base_url=url, session=session, timeout=30)
            seen[answer.status_code] += 1
            if answer.status_code >= 500:
                raise AssertionError(
                    f"{case.method} {case.path} was answered by {answer.status_code}: {str(case.body)[:500]}"
                )
            if answer.status_code >= 400 and has_patient(answer.text):
                raise AssertionError(f"{case.method} {case.path} quotes its request: {answer.text[:500]}")

        check()
    return seen


def _with_patient(value: Any) -> Any:
    """Return a JSON value with a patient in each of its texts."""
    if isinstance(value, str):
        return f"{value} {text_of(0)}"
    if isinstance(value, list):
        return [_with_patient(one) for one in value]
    return {key: _with_patient(one) for key, one in value.items()} if isinstance(value, dict) else value
