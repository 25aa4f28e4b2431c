"""Short forms of ``disk-full``, ``credentials``, ``clock``, ``store-faults`` and ``job-kill`` with pairs, which need no Ray."""

from dataclasses import replace
from pathlib import Path

import pytest
from clinical_modernbert.artifacts import Artifact, artifact_at, open_store
from clinical_modernbert.errors import StoreError

from benchmarks.drills import clock, credentials, disk_full, job_kill, store_faults
from benchmarks.kits.store_jobs import JOBS, same_figures
from benchmarks.kits.store_server import running_store_server
from tests.helpers.tiny import publish_tiny_corpus


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


def test_a_killed_job_leaves_nothing_and_its_command_finishes(tmp_path: Path) -> None:
    outcome = job_kill.drill(tmp_path, 0, names=["pairs"], num_each=1)
    assert outcome.passed, outcome


def test_a_job_is_started_at_a_store_that_does_not_exist(tmp_path: Path) -> None:
    for name, job in JOBS.items():
        process = job.start(tmp_path, "s3://absent/drill", {})
        process.kill()
        process.communicate()
        assert process.returncode, name


def test_a_result_with_a_damaged_file_is_not_the_same(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    corpus, job = publish_tiny_corpus(store), JOBS["corpus"]
    assert job.is_same(corpus, corpus)
    store.write_bytes(f"{corpus.prefix}/{corpus.manifest.files[0].path}", b"torn")
    torn = artifact_at(store, corpus.prefix)
    assert torn is not None and torn.manifest == corpus.manifest and not job.is_same(torn, corpus)


def test_reports_are_compared_but_for_their_seconds(tmp_path: Path) -> None:
    corpus = publish_tiny_corpus(open_store(str(tmp_path)))

    def report(seconds: float, score: float) -> Artifact:
        summary = {"runs": [{"seconds": seconds, "metrics": {"f1": score}}], "mean_seconds": seconds}
        return replace(corpus, manifest=corpus.manifest.model_copy(update={"summary": summary}))

    assert same_figures(report(1.0, 0.5), report(2.0, 0.5))
    assert not same_figures(report(1.0, 0.5), report(1.0, 0.6))
