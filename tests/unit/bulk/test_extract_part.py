"""One range: spans as the endpoint labels them, in the columns of NOTE_NLP, and rows that have none accounted for."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clinical_modernbert.artifacts import make_plan, open_store
from clinical_modernbert.bulk import ranges
from clinical_modernbert.bulk.extract import extract_spans
from clinical_modernbert.bulk.extract_part import Extracted, extract_rows, note_nlp_schema
from clinical_modernbert.bulk.table import TextRow
from clinical_modernbert.encoder import Encoder, load_export
from clinical_modernbert.errors import ModelError
from clinical_modernbert.recipe import ExtractRecipe, ServeRecipe
from clinical_modernbert.serving.engine import load_engine
from clinical_modernbert.serving.routes.classify import TokenClassifyRequest, token_classify
from clinical_modernbert.serving.service import EmbeddingService
from clinical_modernbert.sources.document import Quarantined
from fastapi import Response

from tests.helpers.served_models import publish_folder
from tests.helpers.tiny import save_tiny_classifier

LABELS = ("O", "B-DRUG", "I-DRUG", "B-DOSE", "I-DOSE")
# OMOP CDM 5.4, in its order.
COLUMNS = [
    *("note_nlp_id", "note_id", "section_concept_id", "snippet", "offset", "lexical_variant", "note_nlp_concept_id"),
    *("note_nlp_source_concept_id", "nlp_system", "nlp_date", "nlp_datetime"),
    *("term_exists", "term_temporal", "term_modifiers"),
]
TEXTS = [
    "Took warfarin 5 mg.\n\nHeparin was stopped.",
    "Ödem — metformin 850 mg daily",
    "The patient took insulin. " * 30,
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a model whose head has random weights: it labels most words."""
    folder, root = tmp_path_factory.mktemp("head"), tmp_path_factory.mktemp("store")
    save_tiny_classifier(folder / "model", head="token", labels=LABELS)
    publish_folder(root, folder)
    return root


@pytest.fixture(scope="module")
def encoder(root: Path) -> Encoder:
    return load_export(root / "model/tiny-0123456789ab/model")


def recipe(**changes: Any) -> ExtractRecipe:
    values = {"name": "spans", "model": "tiny", "input_uri": "x", "id_column": "note_id", "text_column": "note_text"}
    return ExtractRecipe.model_validate({**values, "max_tokens": 64, **changes})


def rows(*texts: str) -> list[TextRow | Quarantined]:
    return [TextRow(f"row {i}", str(70 + i), text, ()) for i, text in enumerate(texts)]


def extract(encoder: Encoder, given: list[TextRow | Quarantined], chosen: ExtractRecipe) -> Extracted:
    return extract_rows(encoder, given, chosen, file="note.csv", first=1000, system="clinical-modernbert tiny")


@pytest.mark.parametrize("grouping", ["first", "none"])
def test_spans_are_those_of_the_endpoint_with_their_characters(root: Path, encoder: Encoder, grouping: Any) -> None:
    found = extract(encoder, rows(*TEXTS), recipe(grouping=grouping)).table.to_pylist()
    engine = load_engine(
        str(root), ServeRecipe.model_validate({"name": "t", "model": "tiny", "limits": {"max_tokens": 64}})
    )
    service = EmbeddingService(engine)
    request = TokenClassifyRequest.model_validate(
        {"inputs": TEXTS, "windows": True, "parameters": {"aggregation_strategy": grouping}}
    )
    served = asyncio.run(token_classify(service, request, Response()))
    service.close()
    expected = [
        (70 + i, str(span.start), span.word, span.end, span.entity_group or span.entity)
        for i, spans in enumerate(served)
        for span in spans
    ]
    modifiers = [dict(part.split("=") for part in row["term_modifiers"].split(";")) for row in found]
    assert [
        (row["note_id"], row["offset"], row["lexical_variant"], int(more["end"]), more["label"])
        for row, more in zip(found, modifiers, strict=True)
    ] == expected
    assert len(expected) > 20
    scores = [span.score for spans in served for span in spans]
    np.testing.assert_allclose([float(more["score"]) for more in modifiers], scores, atol=1e-3)


def test_columns_are_omops_and_ids_are_unique(encoder: Encoder) -> None:
    chosen = recipe(concepts={"DRUG": 21604254}, snippet_characters=20)
    table = extract(encoder, rows(*TEXTS), chosen).table
    assert table.column_names == COLUMNS and table.schema == note_nlp_schema(chosen)
    found = table.to_pylist()
    assert len({row["note_nlp_id"] for row in found}) == len(found)
    assert {row["note_nlp_id"] >> 20 for row in found} == {1000, 1001, 1002}
    for row in found:
        text = TEXTS[row["note_id"] - 70]
        assert text[int(row["offset"]) :].startswith(row["lexical_variant"])
        assert row["snippet"] in text and (row["lexical_variant"] in row["snippet"] or len(row["snippet"]) == 20)
        assert row["note_nlp_concept_id"] == (21604254 if "label=DRUG" in row["term_modifiers"] else 0)
        assert row["term_exists"] is row["term_temporal"] is None and row["section_concept_id"] == 0
    assert {row["snippet"] for row in extract(encoder, rows(*TEXTS), recipe()).table.to_pylist()} == {None}


def test_every_row_is_accounted_for_whatever_the_slices(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [*rows(*TEXTS), TextRow("row 3", "73", " ", ())]
    given.insert(1, Quarantined("note.csv", "row 9", "no note_id"))
    whole = extract(encoder, given, recipe(long_texts="quarantine"))
    assert (whole.done, whole.empty) == (2, 1)
    assert [bad.reason for bad in whole.quarantined] == ["no note_id", "longer than 64 tokens"]
    assert sum(whole.labels.values()) == len(whole.table)
    monkeypatch.setattr(ranges, "SLICE_CHARACTERS", 30)
    cut_up = extract(encoder, given, recipe(long_texts="quarantine"))
    same = [name for name in COLUMNS if name not in ("nlp_datetime", "nlp_date", "term_modifiers")]
    assert cut_up.table.select(same).equals(whole.table.select(same))
    given.append(TextRow("row 4", "a7", "x", ()))
    as_text = extract(encoder, given, recipe(id_type="string", long_texts="truncate"))
    assert (as_text.done, as_text.truncated) == (4, 1) and "a7" in as_text.table["note_id"].to_pylist()
    strict = extract(encoder, given[:-1], recipe(min_score=1.0))
    assert len(strict.table) == 0 and strict.done == 3


def test_a_model_without_such_a_head_or_label_is_refused(root: Path, tmp_path: Path) -> None:
    store = open_store(str(root))
    with pytest.raises(ModelError, match="concepts: tiny-0123456789ab has no label 'GENE'; it has DOSE, DRUG"):
        extract_spans(make_plan(recipe(concepts={"GENE": 1}), store))
    save_tiny_classifier(tmp_path / "model", head="sequence", labels=("a", "b"))
    publish_folder(root, tmp_path, name="texts")
    with pytest.raises(ModelError, match="texts-0123456789ab is a ModernBertForSequenceClassification"):
        extract_spans(make_plan(recipe(model="texts"), store))
