"""A Ray for one test module, with its logs in a folder and its metrics at once."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def own_ray(*, num_cpus: int) -> Iterator[Path]:
    """Start a Ray without dashboard for the length of the block; yield its folder.

    Its Prometheus endpoint shows a metric after a second; by default it takes ten.
    """
    import ray

    with tempfile.TemporaryDirectory(prefix="cm-") as short:  # the paths of Ray's sockets must fit 107 characters
        ray.init(
            num_cpus=num_cpus,
            include_dashboard=False,
            _temp_dir=short,
            log_to_driver=False,
            configure_logging=False,
            _system_config={"metrics_report_interval_ms": 1000},
        )
        try:
            yield Path(short)
        finally:
            ray.shutdown()
