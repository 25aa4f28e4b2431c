# ruff: noqa: E501 - records of the formats stay on one line
"""Every other code table, on the real files where they exist and on made-up rows in the formats' layouts; forms and groups."""

import gzip
from collections import Counter
from pathlib import Path

import pytest
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.sources import CodeSource
from clinical_modernbert.sources import list_units, read_unit
from clinical_modernbert.sources.code_relations import (
    Mapping,
    joined_concepts,
    read_gem,
    read_hierarchy,
    tabular_location,
)
from clinical_modernbert.sources.document import Document, Dropped, Quarantined
from lxml import etree
from pydantic import ValidationError

GEM = "codes/gem/icd9toicd10cmgem.csv.gz"
DEMO = "ehr/mimic-iv-demo-2.2/hosp"


def read(path: Path | None, table: str, **settings: object) -> list[Document | Dropped | Quarantined]:
    source = CodeSource.model_validate(
        {"type": "codes", "name": "c", "table": table, "path": path and str(path), **settings}
    )
    (unit,) = list_units(source)
    return list(read_unit(source, unit))  # type: ignore[arg-type]


def made(
    tmp_path: Path, content: str | bytes, table: str, **settings: object
) -> list[Document | Dropped | Quarantined]:
    path = tmp_path / "table.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read(path, table, **settings)


def texts(records: list[Document | Dropped | Quarantined]) -> dict[str, str]:
    return {record.id: record.text for record in records if isinstance(record, Document)}


@pytest.mark.parametrize(
    ("path", "table", "counts", "example"),
    [
        (
            "codes/icd9cm/CMS32_DESC_LONG_SG.txt",
            "icd9_procedures",
            {"Document": 3882},
            ("icd9pcs:00.01", "ICD 9 procedure code for 00.01: Therapeutic ultrasound of vessels of head and neck."),
        ),
        (
            "codes/icd10pcs/icd10pcs-codes-2024.txt.gz",
            "icd10pcs",
            {"Document": 78_603},
            (
                "icd10pcs:0016070",
                "ICD 10 PCS code for 0016070: Bypass Cerebral Ventricle to Nasopharynx with Autologous Tissue Substitute, "
                "Open Approach.",
            ),
        ),
        (
            f"{DEMO}/d_icd_diagnoses.csv.gz",
            "mimic_diagnoses",
            {"Document": 109_775},
            ("icd9cm:009.0", "ICD 9 code for 009.0: Infectious colitis, enteritis, and gastroenteritis."),
        ),
        (
            f"{DEMO}/d_icd_procedures.csv.gz",
            "mimic_procedures",
            {"Document": 85_257},
            ("icd9pcs:00.39", "ICD 9 procedure code for 00.39: Other computer assisted surgery."),
        ),
        (f"{DEMO}/d_hcpcs.csv.gz", "mimic_hcpcs", {"Document": 89_200}, ("hcpcs:TD", "HCPCS code for TD: Rn.")),
    ],
)
def test_real_tables(
    shared_data: Path, path: str, table: str, counts: dict[str, int], example: tuple[str, str]
) -> None:
    records = read(shared_data / path, table)
    assert Counter(type(record).__name__ for record in records) == counts
    assert texts(records)[example[0]] == example[1]
    assert len({r.id for r in records if isinstance(r, Document)}) == len(records)


def test_cpt_of_mimic_has_section_names_only(shared_data: Path) -> None:
    records = read(shared_data / DEMO / "d_hcpcs.csv.gz", "mimic_hcpcs")
    systems = Counter(r.id.partition(":")[0] for r in records if isinstance(r, Document))
    assert systems["cpt"] > 80_000 and systems["hcpcs"] > 6000


def test_order_file(tmp_path: Path) -> None:
    lines = (
        "00001 A00     0 Cholera                                                      Cholera\n"
        "00002 A000    1 Cholera due to Vibrio cholerae 01, biovar cholerae           Cholera due to Vibrio cholerae 01, "
        "biovar cholerae\nnot a line\n"
    )
    header, document, bad = made(tmp_path, lines, "icd10cm_order")
    assert header == Dropped("header")
    assert document == Document(
        "icd10cm:A00.0",
        "c",
        "icd10cm:A00",
        "ICD 10 code for A00.0: Cholera due to Vibrio cholerae 01, biovar cholerae.",
    )
    assert isinstance(bad, Quarantined) and bad.position == "line 3"


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


def test_icd11_tabulation_of_the_real_codes(shared_data: Path, tmp_path: Path) -> None:
    """WHO's file may not be shipped: its layout, with the codes and titles that an open package holds."""
    content = gzip.decompress((shared_data / "codes/icd11/gnuhealth_diseases.xml.gz").read_bytes())
    codes = {}
    for record in etree.fromstring(content).iter("record"):
        fields = {field.get("name"): field.text or "" for field in record.iter("field")}
        codes[fields["code"]] = " ".join(fields["name"].split())
    assert len(codes) > 33_000
    rows = "".join(f'f\tl\t{code}\t\t"- - {title}"\tcategory\n' for code, title in codes.items() if '"' not in title)
    header = "Foundation URI\tLinearization URI\tCode\tBlockId\tTitle\tClassKind\n"
    found = texts(made(tmp_path, header + rows, "icd11"))
    assert len(found) > 33_000 and set(found) <= {f"icd11:{code}" for code in codes}
    wrong = [(n, text) for n, text in found.items() if codes[n.removeprefix("icd11:")].rstrip(".") not in text]
    assert wrong == []


def test_cpt_and_hcpcs_files(tmp_path: Path) -> None:
    # Made-up texts: CPT's own belong to the AMA.
    records = made(tmp_path, "code,description\n99999,A made-up visit\n9999F,A made-up measure\nA9999,no\n", "cpt")
    assert texts(records)["cpt:99999"] == "CPT code for 99999: A made-up visit."
    assert isinstance(records[2], Quarantined) and "no CPT code" in records[2].reason
    records = made(
        tmp_path, "HCPC,LONG DESCRIPTION,SHORT DESCRIPTION\nA0001,Long text,Short\nA0002,,Short\nA0003,,\n", "hcpcs"
    )
    assert list(texts(records).values()) == ["HCPCS code for A0001: Long text.", "HCPCS code for A0002: Short."]
    assert records[2] == Dropped("no_description")


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


def test_all_forms_of_a_concept_are_held_out_together(shared_data: Path) -> None:
    records = read(
        None,
        "icd10cm",
        templates=("readme", "hierarchy", "crosswalk"),
        crosswalk_path=str(shared_data / GEM),
    )
    found = texts(records)
    assert found["icd10cm:A00.0#hierarchy"] == (
        "Cholera due to Vibrio cholerae 01, biovar cholerae (A00.0) is a kind of Cholera (A00). It belongs to the block "
        "Intestinal infectious diseases (A00-A09) of the chapter Certain infectious and parasitic diseases (A00-B99)."
    )
    assert found["icd10cm:S72.001A#hierarchy"].startswith(
        "Fracture of unspecified part of neck of right femur, initial encounter for closed fracture (S72.001A) is a kind of "
        "Fracture of unspecified part of neck of right femur (S72.001)."
    )
    assert found["icd10cm:A00.0#crosswalk"] == (
        "The ICD-10 code A00.0, Cholera due to Vibrio cholerae 01, biovar cholerae, corresponds to the ICD-9 code 001.0."
    )
    assert {r.group for r in records if isinstance(r, Document) and r.id.startswith("icd10cm:A00")} == {"icd10cm:A00"}
    drops = Counter(r.reason for r in records if isinstance(r, Dropped))
    assert len(records) == 3 * 74_044 and set(drops) == {"no_crosswalk"}


def test_a_crosswalk_joins_whole_categories(shared_data: Path) -> None:
    mappings = read_gem(shared_data / GEM)
    assert Mapping("001.0", "A00.0", False, False) in mappings and Mapping("002.0", "A01.00", True, False) in mappings
    records = read(
        shared_data / "codes/icd9cm/CMS32_DESC_LONG_DX.txt.gz",
        "icd9cm",
        templates=("readme", "crosswalk"),
        crosswalk_path=str(shared_data / GEM),
    )
    groups: dict[str, set[str]] = {}
    for record in records:
        if isinstance(record, Document):
            groups.setdefault(record.id.removeprefix("icd9cm:").partition(".")[0], set()).add(record.group)
    assert all(len(found) == 1 for found in groups.values())
    assert groups["001"] == {"icd10cm:A00"}
    joined = sum(next(iter(found)).startswith("icd10cm:") for found in groups.values())
    assert joined > len(groups) / 2


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
