"""The guard by Presidio: refused clearly where it or its model is missing; with them it masks as the patterns do."""

import importlib.util
import os
from pathlib import Path

import pytest
from clinical_modernbert.corpus import presidio
from clinical_modernbert.corpus.checks import check_recipe
from clinical_modernbert.errors import RecipeError
from clinical_modernbert.recipe import CorpusRecipe, build_recipe
from clinical_modernbert.recipe.corpus import IdentifierSection

MODEL = os.environ.get("GUARD_MODEL", "en_core_web_lg")


def section(model: str = MODEL) -> IdentifierSection:
    return IdentifierSection(engine="presidio", model=model)


def test_a_missing_package_is_named_before_the_first_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presidio, "find_spec", lambda name: None)
    values = {
        "kind": "corpus", "name": "t", "tokenizer": {"base": "train"}, "identifiers": {"engine": "presidio"},
        "sources": [{"type": "table", "name": "t", "path": str(tmp_path / "absent.csv"), "text_column": "text"}],
    }  # fmt: skip
    with pytest.raises(RecipeError, match=r"needs the package presidio-analyzer \(clinical-modernbert\[presidio\]\)"):
        check_recipe(build_recipe(CorpusRecipe, values, origin="test"))


def test_a_missing_model_is_refused_and_not_downloaded() -> None:
    pytest.importorskip("presidio_analyzer")
    with pytest.raises(RecipeError, match=r"the spaCy model 'en_none' is not installed.*a build downloads nothing"):
        presidio.check_presidio(section("en_none"))


@pytest.fixture
def model() -> str:
    if importlib.util.find_spec("presidio_analyzer") is None or importlib.util.find_spec(MODEL) is None:
        pytest.skip(f"presidio-analyzer or the spaCy model {MODEL} (GUARD_MODEL) is not installed")
    return MODEL


def test_identifiers_are_masked_and_counted_by_kind(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing may ask the network: presidio's recogniser of e-mails would.
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: pytest.fail("asked the network"))
    text = "Mary Johnson called from 617-555-0132 and wrote to jane@example.org. Metoprolol 25 mg was given."
    masked, counts = presidio.mask_identifiers(text, model=model)
    assert not any(word in masked for word in ("Johnson", "0132", "jane@"))
    assert masked.endswith("was given.") and "___" in masked
    assert counts["name"] == counts["telephone"] == counts["email"] == 1 and "url" not in counts
    assert "presidio-analyzer==" in presidio.versions(section(model))


def test_a_text_of_any_length_is_whole(model: str) -> None:
    line = "The lungs are clear and the heart is of normal size.\n"
    masked, counts = presidio.mask_identifiers(line * 3000, model=model)
    assert masked == line * 3000 and not counts
