"""What a killed run leaves; ``test_job.py`` shows that the same command deletes it."""

import pytest
from clinical_modernbert.artifacts import Store
from clinical_modernbert.artifacts.leftovers import sweep_leftovers

from tests.helpers.artifacts import Publish
from tests.helpers.tiny import tiny_pretrain_plan


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("again", [True, False])
def test_states_that_either_run_keeps_are_no_leftovers(
    first: bool, again: bool, store: Store, publish: Publish
) -> None:
    publish("corpus", "tiny-1", shard="x")
    made, same = (
        tiny_pretrain_plan(store, f"checkpoint.keep_after_export={str(keep).lower()}") for keep in (first, again)
    )
    artifact = made.publish([], summary={})
    store.write_bytes(f"checkpoint/{made.id}/000000005-a/manifest.json", b"{}")
    sweep_leftovers(same, artifact)
    assert bool(store.names(f"checkpoint/{made.id}")) is (first or again)
