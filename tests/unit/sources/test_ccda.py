# ruff: noqa: E501 - records of the formats stay on one line
"""C-CDA documents: the narrative of sections, identity and versions, and what is refused."""

import base64
import gzip
from pathlib import Path

import pytest
from clinical_modernbert.recipe.sources import CcdaSource
from clinical_modernbert.sources import list_units, read_unit
from clinical_modernbert.sources.document import Deleted, Document, Dropped, Quarantined, Record

HEAD = """<id root="1.2.3" extension="d1"/>
<recordTarget><patientRole><id root="2.16.840.1.113883.4.1" extension="219099999"/><id root="9.9" extension="0012"/></patientRole>
</recordTarget>"""
SECTIONS = """<component><structuredBody>
<component><section><code code="10164-2" codeSystem="2.16.840.1.113883.6.1"/><text>Seen <content styleCode="Bold">today</content>.<br/>
 Well, WBC 10<sup>9</sup>/L.<!-- hidden --></text></section></component>
<component><section><code code="30954-2" codeSystem="2.16.840.1.113883.6.1" displayName="Relevant tests"/><title>LABS</title>
 <text><table><thead><tr><th>Test</th><th>Value</th></tr></thead><tbody><tr><td>Na</td><td>140</td></tr></tbody></table>
 <list><item>One</item><item>Two <content revised="delete">2 mg</content>5 mg</item></list></text>
 <entry><observation><value value="secret"/></observation></entry>
 <component><section><code code="8716-3" codeSystem="2.16.840.1.113883.6.1"/><text><paragraph>BP 120/80</paragraph></text></section>
 </component></section></component>
<component><section nullFlavor="NI"><title>Allergies</title><text>No information</text></section></component>
<component><section><title>Plan</title><text nullFlavor="NA"/></section></component>
</structuredBody></component>"""


def document(*, head: str = HEAD, body: str = SECTIONS) -> bytes:
    return f'<?xml version="1.0"?><ClinicalDocument xmlns="urn:hl7-org:v3">{head}{body}</ClinicalDocument>'.encode()


def read(folder: Path, content: bytes, *, name: str = "a.xml", **settings: object) -> list[Record]:
    (folder / name).write_bytes(content)
    source = CcdaSource.model_validate({"type": "ccda", "name": "c", "path": str(folder / name), **settings})
    (unit,) = list_units(source)
    return list(read_unit(source, unit))


def test_sections_have_titles_lines_and_cells(tmp_path: Path) -> None:
    (found,) = read(tmp_path, gzip.compress(document()), name="a.xml.gz")
    assert found == Document(
        "1.2.3/d1",
        "c",
        "patient:12",
        "History of present illness\nSeen today.\nWell, WBC 10^9/L.\n\nLABS\nTest\tValue\nNa\t140\nOne\nTwo 5 mg\n\n"
        "Vital signs\nBP 120/80",
        version=1,
        record="1.2.3/d1",
    )


def test_sections_are_chosen_by_their_codes_with_those_below(tmp_path: Path) -> None:
    (found,) = read(tmp_path, document(), sections=["30954-2"])
    assert isinstance(found, Document) and found.text.startswith("LABS\n") and found.text.endswith("BP 120/80")
    (found,) = read(tmp_path, document(), sections=["8716-3"])
    assert isinstance(found, Document) and found.text == "Vital signs\nBP 120/80"
    assert read(tmp_path, document(), sections=["99999-9"]) == [Dropped("empty", "1.2.3/d1", 1)]


def test_versions_and_replaced_documents(tmp_path: Path) -> None:
    related = '<relatedDocument typeCode="{}"><parentDocument><id root="1.2.3" extension="d0"/>{}</parentDocument></relatedDocument>'
    version = '<setId root="1.2.3" extension="s"/><versionNumber value="3"/>'
    found, deleted = read(tmp_path, document(head=HEAD + related.format("RPLC", "")))
    assert isinstance(found, Document) and deleted == Deleted("1.2.3/d0")
    # A version of the same set replaces by its number, and an addendum nothing.
    same = related.format("RPLC", '<setId root="1.2.3" extension="s"/>')
    (found,) = read(tmp_path, document(head=HEAD + version + same + related.format("APND", "")))
    assert isinstance(found, Document) and (found.id, found.record, found.version) == ("1.2.3/s", "1.2.3/s", 3)


def test_the_patient_has_the_id_that_the_recipe_names(tmp_path: Path) -> None:
    (found,) = read(tmp_path, document(), patient_root="2.16.840.1.113883.4.1")
    assert isinstance(found, Document) and found.group == "patient:219099999"
    (found,) = read(tmp_path, document(), patient_root="7.7")
    assert isinstance(found, Quarantined) and found.reason == "no id of the patient"
    anonymous = HEAD.replace('<id root="9.9" extension="0012"/>', '<id nullFlavor="UNK"/>').replace("219099999", "")
    (found,) = read(tmp_path, document(head=anonymous.replace('root="2.16.840.1.113883.4.1" extension=""', "")))
    assert isinstance(found, Quarantined)


@pytest.mark.parametrize(
    ("kind", "content", "text"),
    [("text/plain", b"Note.", "Note."), ("text/html", b"<p>Note.</p>", "Note."), ("application/pdf", b"%PDF", None)],
)
def test_bodies_that_are_files(tmp_path: Path, kind: str, content: bytes, text: str | None) -> None:
    data = base64.encodebytes(content).decode()
    body = (
        f'<component><nonXMLBody><text mediaType="{kind}" representation="B64">{data}</text></nonXMLBody></component>'
    )
    (found,) = read(tmp_path, document(body=body))
    assert (found.text if isinstance(found, Document) else None) == text


BOMB = b"<!DOCTYPE a [<!ENTITY a 'Jane Roe'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'>]>"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (BOMB + document().partition(b"?>")[2].replace(b"Seen", b"&b;"), "a document type declaration, which CDA does not have"),
        (b"<!DOCTYPE a SYSTEM 'file:///etc/passwd'>" + document().partition(b"?>")[2], "a document type declaration"),
        (document()[:-300], "broken XML"),
        (b"<html>Jane Roe</html>", "the root element is not ClinicalDocument"),
        (document(head="<id nullFlavor='NI'/>"), "no id"),
        (b"<a>" * 2000, "broken XML"),
    ],
)  # fmt: skip
def test_what_is_no_c_cda_is_quarantined_without_its_text(tmp_path: Path, content: bytes, reason: str) -> None:
    (found,) = read(tmp_path, content)
    assert isinstance(found, Quarantined) and found.reason.startswith(reason) and "Jane" not in repr(found)
