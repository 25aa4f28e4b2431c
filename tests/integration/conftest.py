"""What every integration test shares."""

from collections.abc import Iterator

import pytest
import ray


@pytest.fixture(scope="module", autouse=True)
def _no_ray_left_behind() -> Iterator[None]:
    """Each module starts the Ray it needs: one that an earlier module left running has other resources and settings."""
    ray.shutdown()
    yield
    ray.shutdown()
