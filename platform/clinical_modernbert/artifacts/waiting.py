"""Wait until the store has an artifact that another job still has to finish.

Only an absent artifact, and a store that does not answer, are waited for. An ambiguous name, a damaged artifact or a store that
refuses the keys is an error at once, because time does not change it.
"""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from clinical_modernbert.errors import AbsentArtifactError, StoreOutage

_REMIND_S = 600.0

T = TypeVar("T")
_logger = logging.getLogger(__name__)


def wait_until_there(
    look: Callable[[], T],
    *,
    patience_s: float = float("inf"),
    pause_s: float = 30,
    on_wait: Callable[[str], None] = lambda reason: None,
) -> T:
    """Return ``look()``, repeated every ``pause_s`` while what it needs is away; raise its error after ``patience_s``.

    The reason is logged at once and every ten minutes, and given to ``on_wait`` before each pause.
    """
    started = reminded = time.monotonic()
    waits = False
    while True:
        try:
            return look()
        except (AbsentArtifactError, StoreOutage) as error:
            now = time.monotonic()
            if now - started + pause_s > patience_s:
                raise
            if not waits or now - reminded >= _REMIND_S:
                _logger.warning("waiting, next look in %.0f s: %s", pause_s, error)
                reminded = now
            waits = True
            on_wait(str(error))
        time.sleep(pause_s)
