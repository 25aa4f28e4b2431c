"""A researcher looks at a job that waits, is refused what is wrong, and leaves a job that he follows.

The job builds the corpus while the presets are installed; test_4_researcher follows it again.
"""

import signal

import pytest

from benchmarks.kits.cluster import NAMESPACE, Cluster, sets, wait_for
from benchmarks.kits.cluster_release import OWN_CLUSTER, PRETRAINING, SMALL_CORPUS

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_job_that_waits_for_its_corpus_says_so(researcher: Cluster) -> None:
    def named() -> bool:
        status = researcher.submit("status", PRETRAINING).stdout
        return "waiting, next look in 30 s: no corpus 'demo' in s3://platform/test" in status

    wait_for(named, timeout_s=180, pause_s=5)


def test_what_is_wrong_is_refused_before_a_cluster_starts(researcher: Cluster) -> None:
    for arguments, named in (
        (("pretrain/doesnotexist",), "doesnotexist"),
        (("pretrain/smoke", "--set", "optimizer.lerning_rate=1"), "lerning_rate"),
        (("corpus/demo",), "corpus/demo"),
    ):
        done = researcher.submit("pretrain", *arguments, *OWN_CLUSTER, check=False)
        assert done.returncode == 2
        assert named in done.stderr
    assert [job["metadata"]["name"] for job in researcher.list("rayjobs")] == [PRETRAINING]


def test_a_job_is_left_and_looked_at(researcher: Cluster) -> None:
    """Ctrl-C leaves the corpus job alone, and status returns to it."""
    run = ("build_corpus", "corpus/demo", *sets(*SMALL_CORPUS))
    following = researcher.start_submit(*run, *OWN_CLUSTER, "--name", "corpus", "--poll-s", "1")
    assert following.stdout is not None
    for line in following.stdout:
        if "RayJob corpus · Initializing" in line:
            break
    following.send_signal(signal.SIGINT)
    rest = following.communicate(timeout=60)[0]
    assert following.returncode == 130, rest
    assert f"follow it by: python jobs/submit.py follow corpus --namespace {NAMESPACE}" in rest
    assert researcher.submit("status", "corpus").stdout.startswith("RayJob corpus · ")
