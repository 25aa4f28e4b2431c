# ruff: noqa: E501 - passages stay as their writers put them
"""Passages with planted identifiers, in the styles of sixteen writers of clinical notes.

Written from HIPAA's list of kinds and from how these writers put them, each identifier as ``{kind|text}``. The author had read
the patterns of the guard before, so recall on notes of a hospital is lower. All persons and numbers are made up.
"""

import re
from dataclasses import dataclass

_PLANTED = re.compile(r"\{(\w+)\|([^}]+)\}")
_WORD = re.compile(r"\w+")

STYLES: dict[str, str] = {
    "discharge summary, USA": """Name: {name|Whitfield, Marguerite}   Unit No: {record_number|884-20-17}
Admission Date: {date|2019-03-14}   Discharge Date: {date|3/19/2019}   Sex: F
Attending: {name|Harold Pennington, M.D.}
Follow up with Dr. {name|Okonkwo} on {date|March 29, 2019}, call {telephone|617-555-0132} to confirm. Discharged home, 120/80, on
metoprolol 25 mg.""",
    "letter of a general practitioner, UK": """Re: Mrs {name|Eleanor Ashworth}, DOB {date|07.11.1938}, NHS No: {record_number|943 476 5919}
{address|14 Larkspur Close, Harrogate HG2 8QX}
Dear Dr {name|Venkataraman}, thank you for seeing this lady of 81 with AF. Tel {telephone|01423 496 0021}. Yours sincerely,
Dr {name|Fiona Macpherson}""",
    "nursing note": """pt {name|Delgado} a+o x3, dtr {name|Rosalinda} at bedside, updated by {name|T. Kowalczyk RN} at 0730. vss 118/64 88 20 97% ra.
dtr cell {telephone|415 555 0188}. mrn {record_number|5530921}. turned q2h, skin intact, 10/20/30 mg taper explained.""",
    "emergency triage": """{age_over_89|94} y/o F BIBA from {address|Sunrise Manor, 220 Elm Avenue}. Family: son {name|Gregory} {telephone|(312) 555-0147}.
CC: fall {date|12/25}. GCS 3/4/5. Acct#: {record_number|00418832}""",
    "dictation": """This is doctor {name|Sebastian Lindqvist} dictating on {name|Mister Abernathy}, medical record number {record_number|77 04 318},
date of service {date|the fourteenth of March}. He is {age_over_89|ninety-two} years old. Signed electronically {date|14 Mar 2019}
at 10:02.""",
    "operative report": """SURGEON: {name|PRZYBYLSKI, ANNA}   ASSISTANT: {name|Chen Wei}   DATE OF OPERATION: {date|14-MAR-19}
IMPLANT: serial {device|SN 4XK-99812}, lot {device|L20881}. EBL 150 ml. Sponge count 10/10.""",
    "laboratory report": """PATIENT ID {record_number|H0099812}  ACCESSION {record_number|20-112233}  COLLECTED {date|20190314 0812}
ORDERED BY {name|NGUYEN T}  SSN {ssn|219 09 9999}  Na 140 K 4.1 Cl 102 HCO3 24 (17-29)""",
    "cover of a fax": """TO: Medical Records, {address|P.O. Box 4412, Duluth, MN 55802}  FAX: {telephone|218.555.0170}
FROM: {name|Beatrice Oyelaran}, {email|b.oyelaran@lakeview-clinic.example}  RE: {name|Tobias Rasmussen}, DOB {date|2/3/46}
Policy no. {record_number|XJH-4471-88}""",
    "radiology report": """EXAM: CT CHEST {date|03/14/19} 14:22. HISTORY: {age_over_89|91}-year-old man. COMPARISON: {date|11/2018}.
Findings were discussed with {name|Dr. Castellanos-Vega} by telephone ({telephone|x4432}) at 3:10 p.m. Nodule 5 x 7 mm, series 3,
image 45.""",
    "scribe": """I, {name|Maribel Santos}, am scribing for and in the presence of {name|Jonathan Feldman, PA-C}. {date|Tuesday, March 12th}.
Wife ({name|Ingrid}) reports cough. Ipad session {url|portal.lakeview-clinic.example/v/99812}.""",
    "social work": """Client lives with her niece {name|Philippa Thorne} at {address|Apt 4B, 1187 West 42nd Street, Bronx}. Medicaid
{record_number|AB12345C}. Landlord, {name|Mr. Szymanski}, can be reached on {telephone|+1 (718) 555-0199}. Licence plate
{record_number|GKL 4471}.""",
    "message of a portal": """Hi Dr {name|Patel}, its {name|jenny} again, my new email is {email|jenny.w99@mail.example} and I moved to {address|8 Quarry Ln}.
Rash since {date|last 3/9}. Call me {telephone|5550132} thx""",
    "letter, continental": """Sehr geehrter Herr Kollege {name|Prof. Weißenfels}, über die Patientin {name|Jürgens, Käthe}, geb. {date|03.02.1931},
{address|Lindenstraße 5, 50667 Köln}. Telefon {telephone|+49 (0)221 4710815}. Therapie: Ramipril 5 mg 1-0-0.""",
    "note in Spanish names": """Paciente: {name|José Luis Ramírez Ñúñez}. Visto por la Dra. {name|Guadalupe Ibáñez} el {date|14 de marzo de 2019}. Expediente
{record_number|HC-0048812}. Glucosa 110 mg/dl.""",
    "physiotherapy": """{name|Mr O'Sullivan} seen {date|14/3}, next {date|21/3 at 2pm}. Walks 2 x 20 m with frame. Contact {name|Siobhán} (daughter),
{telephone|07700 900123}. 3/5 power, 10 reps x 3.""",
    "export of a system": """{"mrn": "{record_number|0048-8817-2}", "given": "{name|Aleksandr}", "family": "{name|Vasilenko}", "birth": "{date|1931-07-02T00:00:00Z}",
"ip": "{ip_address|192.168.14.7}", "url": "{url|https://ehr.example/p?id=884}", "mail": "{email|a_vasilenko@mail.example}"}""",
}  # fmt: skip
"""Writer -> passage."""


@dataclass(frozen=True, slots=True)
class Planted:
    """One planted identifier."""

    kind: str
    text: str


def passages() -> dict[str, tuple[str, list[Planted]]]:
    """Return the plain text of each passage, and its identifiers."""
    return {
        style: (_PLANTED.sub(r"\2", marked), [Planted(*match) for match in _PLANTED.findall(marked)])
        for style, marked in STYLES.items()
    }


def remains(planted: Planted, text: str, masked: str) -> bool:
    """Whether a word or number of an identifier is still in the masked text; words that are elsewhere too do not count."""
    outside = set(_WORD.findall(text.replace(planted.text, " ")))
    words = set(_WORD.findall(planted.text)) - outside
    return bool({word for word in words if len(word) > 1 or word.isdigit()} & set(_WORD.findall(masked)))
