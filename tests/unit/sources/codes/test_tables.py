# ruff: noqa: E501 - records of the formats stay on one line
"""Every other code table, on the real files where they exist and on made-up rows in the formats' layouts; forms and groups."""

from pathlib import Path

import pytest
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.sources import CodeSource
from clinical_modernbert.sources import list_units
from clinical_modernbert.sources.codes.relations import (
    Mapping,
    joined_concepts,
    read_gem,
    read_hierarchy,
    tabular_location,
)
from clinical_modernbert.sources.document import Document, Dropped, Quarantined
from pydantic import ValidationError

from tests.helpers.code_tables import made, texts


def test_order_file(tmp_path: Path) -> None:
    lines = (
        "00001 A00     0 Cholera                                                      Cholera\n"
        "00002 A000    1 Cholera due to Vibrio cholerae 01, biovar cholerae           Cholera due to Vibrio cholerae 01, "
        "biovar cholerae\nnot a line\n"
    )
    header, bad, document = made(tmp_path, lines, "icd10cm_order")
    assert header == Dropped("header")
    assert document == Document(
        "icd10cm:A00.0",
        "c",
        "icd10cm:A00",
        "ICD 10 code for A00.0: Cholera due to Vibrio cholerae 01, biovar cholerae.",
    )
    assert isinstance(bad, Quarantined) and bad.position == "line 3"


def test_tables_of_code_tab_description(tmp_path: Path) -> None:
    lines = (
        "@\tICD9 Hierarchy Root\n001-009.99\tINTESTINAL INFECTIOUS DISEASES\n008.45\tIntestinal infection due to C. difficile\n"
        "38.93\tVenous  catheterization\nE812.0\tMotor vehicle collision\nv30.00\tSingle liveborn\n38\tOperations on vessels\n"
        "008.45 no tab\n25000.1\tNo code\n401.9\t \n"
    )
    records = made(tmp_path, lines, "icd9_descriptions")
    assert texts(records) == {
        "icd9cm:008.45": "ICD 9 code for 008.45: Intestinal infection due to C. difficile.",
        "icd9pcs:38.93": "ICD 9 procedure code for 38.93: Venous catheterization.",
        "icd9cm:E812.0": "ICD 9 code for E812.0: Motor vehicle collision.",
        "icd9cm:V30.00": "ICD 9 code for V30.00: Single liveborn.",
        "icd9pcs:38": "ICD 9 procedure code for 38: Operations on vessels.",
    }
    assert {r.group for r in records if isinstance(r, Document)} >= {
        "icd9cm:008",
        "icd9cm:E812",
        "icd9cm:V30",
        "icd9pcs:38",
    }
    assert [r.reason for r in records if isinstance(r, Dropped)] == ["header", "header", "no_description"]
    assert [r.position for r in records if isinstance(r, Quarantined)] == ["line 8", "line 9"]
    with pytest.raises(SourceError, match="line 1: a code of 1 digit; leading zeros seem to be lost"):
        made(tmp_path, "1\tCholera\n", "icd9_descriptions")


def test_rxnorm(tmp_path: Path) -> None:
    def row(rxcui: str, name: str, language: str = "ENG", source: str = "RXNORM", suppress: str = "N") -> str:
        return f"{rxcui}|{language}||||||1|||{rxcui}|{source}|IN|{rxcui}|{name}||{suppress}|4096|\n"

    content = row("161", "acetaminophen") + row("161", "APAP") + row("161", "x", "SPA") + row("2", "old", suppress="O")
    records = made(tmp_path, content + row("3", "y", source="MTHSPL") + "161|ENG|\n" + row("x1", "z"), "rxnorm")
    assert texts(records) == {
        "rxnorm:161": "RxNorm code for 161: acetaminophen.",
        "rxnorm:161:2": "RxNorm code for 161: APAP.",
    }
    assert [r.reason for r in records if isinstance(r, Dropped)] == [
        "other_vocabulary",
        "suppressed",
        "other_vocabulary",
    ]
    assert [r.position for r in records if isinstance(r, Quarantined)] == ["line 6", "line 7"]


def test_ndc(tmp_path: Path) -> None:
    header = "PRODUCTID\tPRODUCTNDC\tPRODUCTTYPENAME\tPROPRIETARYNAME\tPROPRIETARYNAMESUFFIX\tNONPROPRIETARYNAME\tDOSAGEFORMNAME\tROUTENAME\n"
    rows = (
        "1\t0002-0800\tHUMAN OTC DRUG\tTylenol\t\tAcetaminophen\tTABLET\tORAL\n"
        "2\t0002-0801\tHUMAN\tInsulin\t\tINSULIN\tINJECTION\t\n3\t\tHUMAN\t\t\t\t\t\n4\n"
    )
    records = made(tmp_path, header + rows, "ndc")
    assert texts(records) == {
        "ndc:0002-0800": "NDC code for 0002-0800: Tylenol (Acetaminophen), tablet, oral route.",
        "ndc:0002-0801": "NDC code for 0002-0801: Insulin, injection.",
    }
    assert [r.position for r in records if isinstance(r, Quarantined)] == ["line 4", "line 5"]


def test_icd11_tabulation(tmp_path: Path) -> None:
    content = (
        "\ufeffFoundation URI\tLinearization URI\tCode\tBlockId\tTitle\tClassKind\n"
        "f\tl\t\t\tCertain infectious or parasitic diseases\tchapter\n"
        'f\tl\t1A00\t\t"- - Cholera"\tcategory\nf\tl\t1A03.0\t\t- - - Enteropathogenic Escherichia coli infection\tcategory\n'
    )
    records = made(tmp_path, content, "icd11", templates=("figure1",))
    assert records[0] == Dropped("header")
    assert texts(records)["icd11:1A00"] == "The ICD-11 code 1A00 represents Cholera."
    (last,) = [r for r in records if isinstance(r, Document) and r.id == "icd11:1A03.0"]
    assert last.group == "icd11:1A03" and "- -" not in last.text


def test_cpt_and_hcpcs_files(tmp_path: Path) -> None:
    # Made-up texts: CPT's own belong to the AMA.
    records = made(tmp_path, "code,description\n99999,A made-up visit\n9999F,A made-up measure\nA9999,no\n", "cpt")
    assert texts(records)["cpt:99999"] == "CPT code for 99999: A made-up visit."
    assert isinstance(records[0], Quarantined) and "no CPT code" in records[0].reason
    records = made(
        tmp_path, "HCPC,LONG DESCRIPTION,SHORT DESCRIPTION\nA0001,Long text,Short\nA0002,,Short\nA0003,,\n", "hcpcs"
    )
    assert list(texts(records).values()) == ["HCPCS code for A0001: Long text.", "HCPCS code for A0002: Short."]
    assert records[0] == Dropped("no_description")


def test_icd12_is_refused_with_its_reason() -> None:
    for name in ("icd12", "ICD-12"):
        with pytest.raises(ValidationError, match="ICD-12 does not exist"):
            CodeSource.model_validate({"type": "codes", "name": "c", "table": name})


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"table": "rxnorm"}, "needs path"),
        ({"table": "icd9cm", "templates": ["hierarchy"]}, "known for ICD-10-CM only"),
        ({"table": "icd9cm", "templates": ["crosswalk"]}, "needs crosswalk_path"),
        ({"table": "icd10pcs", "path": "x", "crosswalk_path": "y"}, "a crosswalk joins"),
        ({"table": "icd9cm", "templates": []}, "at least 1 item"),
        ({"table": "icd9cm", "templates": ["readme", "readme"]}, "distinct"),
    ],
)
def test_impossible_sources_are_refused(settings: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        CodeSource.model_validate({"type": "codes", "name": "c", **settings})


def test_hierarchy_of_the_installed_tabular_list() -> None:
    places = read_hierarchy(tabular_location(None))
    assert len(places) == 46_881
    place = places["J18.9"]
    assert (place.parent, place.parent_description) == ("J18", "Pneumonia, unspecified organism")
    assert (place.block_id, place.block) == ("J09-J18", "Influenza and pneumonia")
    assert (place.chapter_id, place.chapter) == ("J00-J99", "Diseases of the respiratory system")


def test_most_one_to_one_codes_decide() -> None:
    def one(icd9: str, icd10: str, combination: bool = False) -> Mapping:
        return Mapping(icd9, icd10, approximate=False, combination=combination)

    votes = [
        one("100.0", "B10.0"),
        one("100.1", "A10.0"),
        one("100.2", "A10.1"),
        one("101.0", "C10.0", combination=True),
    ]
    several = [one("102.0", "D10.0"), one("102.0", "D11.0"), one("103.0", "E10.0"), one("103.1", "E10.0")]
    assert joined_concepts(votes + several) == {"100": "A10"}


def test_what_a_crosswalk_or_hierarchy_must_be(tmp_path: Path) -> None:
    path = tmp_path / "gem.txt"
    path.write_text("0010  A000    00000\n0019  NODX    11000\n25000 E119    10000\n")
    assert read_gem(path) == [Mapping("001.0", "A00.0", False, False), Mapping("250.00", "E11.9", True, False)]
    path.write_text("0010  A000    00000\nnothing\n")
    with pytest.raises(SourceError, match=r"gem\.txt, line 2: expected an ICD-9-CM code"):
        read_gem(path)
    path.write_text("<other/>")
    with pytest.raises(SourceError, match=r"root element 'other'"):
        read_hierarchy(path)


def test_the_digest_covers_crosswalk_and_hierarchy(tmp_path: Path, shared_data: Path) -> None:
    def digest(**settings: object) -> str:
        source = CodeSource.model_validate({"type": "codes", "name": "c", "table": "icd10cm", **settings})
        return list_units(source)[0].digest

    gem = tmp_path / "gem.txt"
    gem.write_text("0010  A000    00000\n")
    first = digest(crosswalk_path=str(gem))
    gem.write_text("0010  A001    00000\n")
    assert len({first, digest(crosswalk_path=str(gem)), digest(), digest(templates=("hierarchy",))}) == 4
    with pytest.raises(SourceError, match=r"crosswalk_path: .*nowhere"):
        digest(crosswalk_path=str(tmp_path / "nowhere"))
