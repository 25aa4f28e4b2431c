"""Short forms of the drills ``disk-full``, ``credentials``, ``clock`` and ``store-faults`` with pairs, which need no Ray."""

from pathlib import Path

import pytest
from clinical_modernbert.artifacts import open_store
from clinical_modernbert.errors import StoreError

from benchmarks.drills import clock, credentials, disk_full, store_faults
from benchmarks.kits.store_server import running_store_server


def test_a_job_on_a_full_disk_says_so_publishes_nothing_and_finishes_later(tmp_path: Path) -> None:
    try:
        outcome = disk_full.drill(tmp_path, names=["pairs"], shares=[0.4], scratch_shares=[0.5])
    except PermissionError as error:
        pytest.skip(f"no right to mount: {error}")
    assert outcome.passed, outcome


@pytest.mark.s3
def test_a_job_with_wrong_keys_ends_with_2_and_publishes_nothing(tmp_path: Path) -> None:
    outcome = credentials.run(tmp_path, 0, names=("pairs",))
    assert outcome.passed, outcome
    assert outcome.injected == 5


@pytest.mark.s3
def test_a_store_under_a_changed_key_refuses_the_old_one(tmp_path: Path) -> None:
    with running_store_server(tmp_path / "s3") as server:
        store = open_store(f"s3://{server.bucket}/keys")
        store.names("corpus")
        server.die_for(0, secret_key="changed")
        with pytest.raises(StoreError, match="SignatureDoesNotMatch"):
            store.names("corpus")


@pytest.mark.s3
def test_a_clock_that_jumps_changes_no_artifact(tmp_path: Path) -> None:
    outcome = clock.run(tmp_path, 0, num_each=1, names=("pairs",))
    assert outcome.passed, outcome


@pytest.mark.s3
def test_a_job_under_a_broken_store_ends_as_without(tmp_path: Path) -> None:
    outcome = store_faults.drill(tmp_path, 0, num_each=0, num_kills=0, names=("pairs",))
    assert outcome.passed, outcome
