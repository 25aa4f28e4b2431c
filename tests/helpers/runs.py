"""Tiny evaluation sets in the real layouts, and plans of runs on them."""

from pathlib import Path
from typing import Any

import pytest
from clinical_modernbert.artifacts import Plan, open_store
from clinical_modernbert.evaluation.runs import run_plan
from clinical_modernbert.recipe import RunRecipe

from tests.helpers.tiny import DRUGS, tiny_texts

DRUG_TASK = {"name": "drugs", "type": "entities", "format": "conll", "train": "drugs.tsv"}
ROLE_TASK = {"name": "roles", "type": "sentence_roles", "train": "roles.txt"}
TUNING = {"learning_rate": 5e-3, "num_epochs": 4, "batch_size": 8}


@pytest.fixture(scope="module")
def task_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of DRUG_TASK (drugs as entities) and ROLE_TASK (sentences whose role depends on their drug)."""
    folder = tmp_path_factory.mktemp("data")
    conll, rct = [], []
    for number, text in enumerate(tiny_texts(60)):
        sentences = [f"{sentence}." for sentence in text.split(".")[:3] if sentence.strip()]
        rct.append(f"###{number}")
        for sentence in sentences:
            words = sentence.replace(".", " .").split()
            conll += [f"{word}\t{'B-Drug' if word in DRUGS else 'O'}" for word in words] + [""]
            rct.append(f"{'METHODS' if DRUGS[0] in words or DRUGS[1] in words else 'RESULTS'}\t{sentence.strip()}")
        rct.append("")
    (folder / "drugs.tsv").write_text("\n".join(conll))
    (folder / "roles.txt").write_text("\n".join(rct))
    return folder


def tiny_run_plan(
    recipe_class: type[RunRecipe], task: dict[str, Any], encoder: Path, data: Path, store: str, **changes: Any
) -> Plan[RunRecipe]:
    """Plan a run of the encoder in a folder; ``changes`` are fields of its recipe."""
    values = {
        "name": "tiny",
        "encoder": {"name": "tiny", "source": str(encoder), "pooling": "mean"},
        "task": task,
        "data": str(data),
        "tuning": TUNING,
        "scaling": {"num_cpus": 1},
        **changes,
    }
    return run_plan(recipe_class.model_validate(values), open_store(store))
