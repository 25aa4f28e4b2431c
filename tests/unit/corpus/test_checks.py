"""What is known before the first file is parsed, and what a late error leaves."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from clinical_modernbert.artifacts import Plan, make_plan, open_store
from clinical_modernbert.artifacts.work_area import WorkArea
from clinical_modernbert.corpus.checks import checked_inputs
from clinical_modernbert.corpus.refusals import cleared_at_the_end
from clinical_modernbert.errors import CorpusError, RecipeError, SourceError, StoreError, UserError
from clinical_modernbert.recipe import CorpusRecipe, build_recipe


def recipe(**changes: Any) -> CorpusRecipe:
    sources = [{"type": "synthetic_notes", "name": "notes", "num_documents": 10}]
    values = {"kind": "corpus", "name": "t", "sources": sources, "tokenizer": {"base": "train"}, **changes}
    return build_recipe(CorpusRecipe, values, origin="test")


@pytest.mark.parametrize("base", ["answerdotai/ModernBERT-bse", "no such/folder/at all"])
def test_a_tokenizer_that_is_nowhere_is_refused_before_anything_is_read(
    base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(RecipeError, match=r"tokenizer\.base: "):
        checked_inputs(recipe(tokenizer={"base": base}))
    assert checked_inputs(recipe())


def test_an_evaluation_set_of_no_format_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "set.txt").write_text("no format that is known\n")
    for path, problem in ((tmp_path / "set.txt", "is not known"), (tmp_path / "absent", "does not exist")):
        with pytest.raises(SourceError, match=problem):
            checked_inputs(recipe(decontamination={"paths": [str(path)]}))


def plan_in(folder: Path) -> tuple[Plan[CorpusRecipe], WorkArea]:
    plan = make_plan(recipe(), open_store(str(folder)))
    return plan, WorkArea(plan.store.uri, "work/corpus/t")


@pytest.mark.parametrize("error", [StoreError("503"), RecipeError("hub"), SourceError("mount"), OSError("disk")])
def test_a_late_error_keeps_the_work_area_and_a_refusal_clears_it(error: Exception, tmp_path: Path) -> None:
    _, area = plan_in(tmp_path)
    area.put_bytes(b"{}", "parsed/000000.json")
    with pytest.raises(type(error)), cleared_at_the_end(area):
        raise error
    assert area.done("parsed/000000", dict) == {}
    with pytest.raises(UserError), cleared_at_the_end(area):
        raise CorpusError("too much")
    assert area.done("parsed/000000", dict) is None


def test_the_checks_of_a_dry_run_load_neither_torch_nor_ray() -> None:
    code = "import sys, clinical_modernbert.corpus.checks; print({'torch', 'ray', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
