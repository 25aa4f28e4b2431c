"""Whole real tables, tens of thousands of rows each: every row is read, named once, and grouped with its concept."""

import gzip
from collections import Counter
from pathlib import Path

import pytest
from clinical_modernbert.recipe.sources import MedsSource
from clinical_modernbert.sources import list_units, read_unit
from clinical_modernbert.sources.codes.relations import Mapping, read_gem
from clinical_modernbert.sources.document import Document, Dropped
from lxml import etree

from tests.helpers.code_tables import made, read, texts

GEM = "codes/gem/icd9toicd10cmgem.csv.gz"
DEMO = "ehr/mimic-iv-demo-2.2/hosp"


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


def test_real_meds_file(shared_data: Path) -> None:
    source = MedsSource(type="meds", name="m", path=str(shared_data / "ehr" / "meds"))
    (unit,) = list_units(source)
    documents = [record for record in read_unit(source, unit) if isinstance(record, Document)]
    assert len(documents) == 100 and all(d.group == f"patient:{d.id}" for d in documents)
    stamps = [line[:16] for line in documents[0].text.split("\n") if line[4:5] == "-" and line[13:14] == ":"]
    assert len(stamps) > 50 and stamps == sorted(stamps)
    events = sum(line.count(";") + 1 for d in documents for line in d.text.split("\n"))
    assert events >= 916_166
