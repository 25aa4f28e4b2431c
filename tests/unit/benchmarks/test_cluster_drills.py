"""What the drills on a cluster read from its objects, and how their clients count."""

import json
from typing import Any

import pytest

from benchmarks.drill import Outcome, closing_line
from benchmarks.drills.cluster_operator import leader
from benchmarks.drills.cluster_replica import replicas_are_healthy
from benchmarks.kits.cluster_load import Counts
from benchmarks.kits.cluster_release import is_ready, is_settled
from benchmarks.kits.load_pod import Load

READY = [{"type": "Ready", "status": "True"}]


def test_an_object_is_ready_by_its_condition_unless_it_is_deleted() -> None:
    pod: dict[str, Any] = {"metadata": {"name": "a"}, "status": {"conditions": READY}}
    assert is_ready(pod)
    assert not is_ready({**pod, "metadata": {"name": "a", "deletionTimestamp": "2026-11-29T00:00:00Z"}})
    assert not is_ready({**pod, "status": {"conditions": [{"type": "Ready", "status": "False"}]}})
    assert not is_ready({**pod, "status": {"conditions": [{"type": "Initialized", "status": "True"}]}})
    assert not is_ready({})  # an object that does not exist


def test_an_endpoint_is_settled_once_the_operator_has_seen_its_last_change_and_prepares_no_cluster() -> None:
    status = {"observedGeneration": 3, "pendingServiceStatus": {}}
    assert is_settled({"metadata": {"generation": 3}, "status": status})
    assert not is_settled({"metadata": {"generation": 4}, "status": status})
    pending = {**status, "pendingServiceStatus": {"rayClusterName": "encoder-2"}}
    assert not is_settled({"metadata": {"generation": 3}, "status": pending})


def test_replicas_are_healthy_if_serve_says_so_of_all_deployments() -> None:
    def service(*statuses: str) -> dict[str, Any]:
        deployments = {f"d{n}": {"status": status} for n, status in enumerate(statuses)}
        return {
            "status": {"activeServiceStatus": {"applicationStatuses": {"a": {"serveDeploymentStatuses": deployments}}}}
        }

    assert replicas_are_healthy(service("HEALTHY", "HEALTHY"))
    assert not replicas_are_healthy(service("HEALTHY", "UNHEALTHY"))
    assert not replicas_are_healthy(service())


@pytest.mark.parametrize(
    ("holder", "name"), [("kuberay-operator-7d-x2_5b0e-11", "kuberay-operator-7d-x2"), (None, ""), ("", "")]
)
def test_the_leader_is_the_pod_in_the_name_of_the_holder(holder: str | None, name: str) -> None:
    assert leader({"spec": {"holderIdentity": holder}}) == name


def test_the_longest_gap_is_between_answers_of_all_clients_and_one_that_lasts_counts() -> None:
    load = Load("http://unused", "smoke")
    started = load.last
    for second, wrong in ((50, False), (50.5, False), (53.5, True), (54, False)):
        load.answer(at=started + second, wrong=wrong)  # the 50 s before the first answer are the start
    seen = Counts(**json.loads(load.report(at=started + 55)))
    assert (seen.answered, seen.wrong, seen.lost, seen.longest_gap_s) == (4, 1, 0, 3.0)
    assert seen.longest_gap_ended
    later = Counts(**json.loads(load.report(at=started + 64)))
    assert (later.longest_gap_s, later.longest_stall_s) == (10.0, 54.0)


def test_reports_in_time_are_no_stall() -> None:
    load = Load("http://unused", "smoke")
    reports = [Counts(**json.loads(load.report(at=load.reported + 1.01))) for _ in range(3)]
    assert [report.longest_stall_s for report in reports] == [0.0] * 3


def test_a_drill_passes_if_every_fault_was_recovered_from_and_nothing_was_lost_or_wrong() -> None:
    assert (
        closing_line("cluster-head", Outcome(3, 3, 0, 0)) == "cluster-head injected=3 recovered=3 lost=0 wrong=0 pass"
    )
    for outcome in (Outcome(3, 2, 0, 0), Outcome(3, 3, 1, 0), Outcome(3, 3, 0, 1), Outcome(0, 0, 0, 0)):
        assert closing_line("x", outcome).endswith(" fail")
