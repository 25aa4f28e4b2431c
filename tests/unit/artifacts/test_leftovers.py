"""What a killed run leaves; ``test_job.py`` shows that the same command deletes it."""

import pytest
from clinical_modernbert.artifacts import Store
from clinical_modernbert.artifacts.leftovers import sweep_leftovers

from tests.helpers.artifacts import Publish
from tests.helpers.tiny import tiny_pretrain_plan


@pytest.mark.parametrize("keep", [True, False])
def test_kept_states_are_no_leftovers(keep: bool, store: Store, publish: Publish) -> None:
    publish("corpus", "tiny-1", shard="x")
    plan = tiny_pretrain_plan(store, f"checkpoint.keep_after_export={str(keep).lower()}")
    artifact = plan.publish([], summary={})
    store.write_bytes(f"checkpoint/{plan.id}/000000005-a/manifest.json", b"{}")
    sweep_leftovers(plan, artifact)
    assert bool(store.names(f"checkpoint/{plan.id}")) is keep
