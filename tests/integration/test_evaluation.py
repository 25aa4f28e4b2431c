"""Evaluation end to end: real sets where they may lie on the machine, tiny encoders, runs as artifacts, one report."""

from pathlib import Path

import pytest
from clinical_modernbert.evaluation.tasks import RetrievalSet, load_task
from clinical_modernbert.recipe.tasks import DispositionTask
from clinical_modernbert.sources.ed_events import read_meds_stays


def test_the_demo_splits_by_patient(shared_data: Path) -> None:
    task = DispositionTask(name="ehr", type="disposition", format="mimic_hosp", path="ehr/mimic-iv-demo-2.2/hosp")
    splits = load_task(task, str(shared_data))
    assert not isinstance(splits, RetrievalSet)
    parts = [splits.train, splits.development, splits.test]
    assert sum(map(len, parts)) == 236 and splits.facts["admitted"] == 182
    assert not {e.group for e in splits.train} & {e.group for e in splits.test}


@pytest.mark.slow
def test_meds_and_tables_tell_the_same_stays(shared_data: Path) -> None:
    stays = list(read_meds_stays(shared_data / "ehr/meds/mimic_iv_demo_meds_events.parquet", minutes=60))
    # The tables say 182: two admissions lie further than 48 hours or behind the next arrival in MEDS' events.
    assert len(stays) == 236 and sum(s.outcome.disposition == "ADMITTED" for s in stays) == 180
    seen = " ".join(stay.text for stay in stays)
    assert not any(word in seen for word in ("ED_REGISTRATION", "ADMISSION", "TRANSFER", "DIAGNOSIS", "DISCHARGE"))
