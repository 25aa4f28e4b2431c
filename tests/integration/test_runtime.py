"""Starting Ray: a job outside a cluster runs in a Ray of its own, whatever else runs on the machine."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray

CODE = """
import ray
from clinical_modernbert.runtime import OBJECT_STORE_BYTES, start_ray
start_ray(num_cpus=1)
start_ray(num_cpus=2)
resources = ray.cluster_resources()
assert resources["CPU"] == 1, resources
assert resources["object_store_memory"] <= OBJECT_STORE_BYTES, resources
"""


def test_another_cluster_of_the_machine_is_not_joined() -> None:
    # Short, because the paths of Ray's sockets must fit 107 characters.
    with tempfile.TemporaryDirectory(prefix="cm-", dir="/tmp") as folder:
        (Path(folder) / "ray").mkdir()
        # What `ray start --head` leaves in its folder, and what a bare ray.init() would connect to.
        (Path(folder) / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        done = subprocess.run(
            [sys.executable, "-c", CODE],
            env={**kept, "RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr[-3000:]
