"""The corpus sources a recipe can name; ``type`` selects the reader.

A code table without ``path`` is read from an installed package, so that a new machine has real codes.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from clinical_modernbert.recipe.section import Section

SourceName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]{0,39}$")]


Language = Annotated[str, Field(pattern=r"^[a-z]{3}$")]


class SourceSection(Section):
    """What every source has; a source type adds ``type`` and its own fields."""

    is_synthetic: ClassVar[bool] = False
    """Whether the text is generated; manifests and pages say so."""
    is_prose: ClassVar[bool] = True
    """Whether the text has a language; lists of codes and numbers have none, and ``filters.languages`` does not judge them."""
    reads_ahead: ClassVar[bool] = False
    """Whether the reader fetches or sorts whole tables before its first document, which therefore has no time-out."""

    name: SourceName
    """Name of the source in counts of documents, drops and tokens."""
    epochs: float = Field(default=1.0, gt=0, le=100)
    """Number of times that a training document appears in the packed rows (paper, 3.2: coherent narrative is upsampled).

    2.5 packs every document twice, and half of them, drawn by their keys, once more; held-out documents appear once.
    """
    max_quarantined_fraction: float | None = Field(default=None, ge=0, le=1)
    """The recipe's limit for this source alone, as for a file that is known to end in a row; None takes the recipe's."""


class PubMedSource(SourceSection):
    """PubMed citations in XML, plain or gzip, with either the current or the 2016 root element (NLM's DTDs)."""

    type: Literal["pubmed"]
    path: str
    """File or folder (read recursively for ``*.xml`` and ``*.xml.gz``); NLM's file names give the order of updates."""
    languages: tuple[Language, ...] | None = None
    """Article languages to keep (NLM's three letters); None keeps all, because the main abstract is always English."""
    other_languages: tuple[Language, ...] = ()
    """Languages whose ``OtherAbstract`` becomes a further document in the citation's group, under its vernacular title; ``eng``
    takes summaries in plain language, under the English title."""
    title_only: Literal["drop", "keep"] = "drop"
    """Drop a citation without abstract as ``no_abstract``, or keep its title as the text."""
    checksum_mismatch: Literal["fail", "quarantine"] = "fail"
    """A file that differs from its ``.md5`` companion ends the build, or is quarantined as a whole."""


class MimicNoteSource(SourceSection):
    """MIMIC-IV-Note's ``discharge.csv.gz`` and ``radiology.csv.gz``, or MIMIC-III's ``NOTEEVENTS.csv.gz``; grouped by patient.

    From PhysioNet, credentialed.
    """

    type: Literal["mimic_note"]
    path: str
    """File or folder with the CSV files, plain or gzip."""


class PmcSource(SourceSection):
    """PMC full text in JATS: title, abstract and sections; no references, footnotes and supplements."""

    type: Literal["pmc"]
    path: str
    """File or folder (read recursively for ``*.nxml`` and ``*.xml``, plain or gzip), of one article or of several up to 64 MB."""
    tables: Literal["drop", "keep"] = "drop"
    """Drop tables, or keep each row as a line with tabs between its cells."""
    captions: Literal["drop", "keep"] = "drop"
    """Drop or keep the captions of figures."""


class MedsSource(SourceSection):
    """MEDS events in Parquet, one text a subject in time order; grouped by subject_id."""

    is_prose = False
    reads_ahead = True

    type: Literal["meds"]
    path: str
    """File or folder (read recursively for ``*.parquet``); each file holds whole subjects."""
    leave_out: tuple[str, ...] = ()
    """Prefixes of codes to leave out, for example ``HOSPITAL_DISCHARGE``, because they carry a label."""


class OmopNoteSource(SourceSection):
    """The NOTE table of OMOP's CDM 5.x, CSV, Parquet or in a DuckDB file; grouped by person_id."""

    reads_ahead = True

    type: Literal["omop_note"]
    path: str
    """File, or folder with ``NOTE.csv`` or ``note.parquet`` (any usual ending, plain or gzip) or a folder ``note`` of shards."""
    quoted: bool = True
    """Whether quotes enclose fields of a CSV file; OHDSI's tab-separated tables have none."""


class OmopEventsSource(SourceSection):
    """The events of OMOP's CDM 5.x with the names of their concepts, one text a person in time order; grouped by person_id."""

    is_prose = False
    reads_ahead = True

    type: Literal["omop_events"]
    path: str
    """Folder with the tables as CSV or Parquet (files or folders of shards, of any case), or a DuckDB file. CONCEPT is needed."""
    quoted: bool = True
    """Whether quotes enclose fields of a CSV file; CONCEPT with tabs, as Athena exports it, never has them."""
    leave_out: tuple[str, ...] = ()
    """Prefixes of events to leave out, for example ``VISIT_END``, because they carry a label."""


class FhirSource(SourceSection):
    """Notes of a FHIR R4 bulk export, from DocumentReference and DiagnosticReport; grouped by Patient."""

    reads_ahead = True

    type: Literal["fhir"]
    path: str
    """File or folder (read recursively for ``*DocumentReference*.ndjson`` and ``*DiagnosticReport*.ndjson``, plain or gzip). A
    note in a Binary resource is found in ``*Binary*.ndjson`` below the folder, plain or gzip."""
    patient_identifier: str | None = None
    """System (a URI), or code of the type (``MR``), of the identifier in ``*Patient*.ndjson`` that is a patient's number in the
    other sources; None takes the id of the Patient resource."""


class FhirEventsSource(SourceSection):
    """Events of a FHIR R4 bulk export, one text a patient in time order; grouped by Patient."""

    is_prose = False
    reads_ahead = True

    type: Literal["fhir_events"]
    path: str
    """Folder (read recursively for ``*Condition*.ndjson``, plain or gzip, and so on: MedicationRequest and Medication, Procedure,
    Observation, Encounter, Patient)."""
    patient_identifier: str | None = None
    """As of ``fhir``."""
    leave_out: tuple[str, ...] = ()
    """Prefixes of events to leave out, for example ``ENCOUNTER_END``, because they carry a label."""


class CcdaSource(SourceSection):
    """C-CDA documents (HL7 CDA R2) in XML: the narrative of their sections; grouped by patient."""

    type: Literal["ccda"]
    path: str
    """File or folder (read recursively for ``*.xml`` and ``*.ccda``, plain or gzip), one document a file."""
    sections: tuple[Annotated[str, Field(pattern=r"^\d{1,7}-\d$")], ...] | None = None
    """LOINC codes of the sections to keep; None keeps all."""
    patient_root: str | None = None
    """OID of the patient's id whose extension is the number in the other sources; None takes the first id."""


class EicuNoteSource(SourceSection):
    """eICU's ``note.csv.gz`` and ``patient.csv.gz``: one document a note; grouped by patient. From PhysioNet, credentialed."""

    reads_ahead = True

    type: Literal["eicu_note"]
    path: str
    """Folder with both files, plain or gzip."""


class TableSource(SourceSection):
    """Notes in rows with named columns."""

    type: Literal["table"]
    path: str
    """CSV (``,``, tab, ``|`` or ``;``), Parquet, or JSON lines or array (``.json``, ``.jsonl``, ``.ndjson``), by the file's name;
    CSV and JSON plain or gzip."""
    text_column: str
    """Column with the text."""
    id_column: str | None = None
    """Column with the document's id; None takes the row number."""
    group_column: str | None = None
    """Column whose value is held out as a whole (a patient or an encounter); None holds out single documents."""
    group_name: str | None = None
    """What the groups are: sources that share the name share their groups. None takes ``patient``, as all sources of patients
    have it, for the usual names of a patient's column (``subject_id``, ``person_id``, ``patient_id`` and others), else the
    column's name."""
    version_column: str | None = None
    """Column with the number or time (ISO 8601) of a revision: of the rows with one id the highest stays, the others are
    ``superseded``. Needs ``id_column``."""
    quoted: bool = True
    """Whether quotes enclose fields of a CSV file; OHDSI's tab-separated tables have none."""

    @model_validator(mode="after")
    def _versions_have_ids(self) -> "TableSource":
        if self.version_column is not None and self.id_column is None:
            raise ValueError("version_column needs id_column: without ids no row is a revision of another")
        return self


class DatasetSource(SourceSection):
    """A Hugging Face data set: a hub id, or a folder that ``datasets`` can read."""

    reads_ahead = True

    type: Literal["dataset"]
    path: str
    """``owner/name``, or a folder (also in S3) written by ``save_to_disk`` or holding CSV, JSON or Parquet files."""
    configuration: str | None = None
    """Configuration of the data set; None takes its default."""
    split: str = "train"
    """Split to read."""
    revision: str | None = None
    """Commit, required for a hub id: with a branch, two different corpora could have one fingerprint."""
    text_column: str
    """Column with the text."""
    id_column: str | None = None
    """Column with the document's id; None takes the row number."""
    group_column: str | None = None
    """Column whose value is held out as a whole; None holds out single documents."""
    group_name: str | None = None
    """What the groups are; as in a table."""


CodeTable = Literal[
    "icd9cm",
    "icd9_procedures",
    "icd9_descriptions",
    "icd10cm",
    "icd10cm_order",
    "icd10pcs",
    "icd10pcs_order",
    "mimic_diagnoses",
    "mimic_procedures",
    "mimic_hcpcs",
    "hcpcs",
    "cpt",
    "icd11",
    "rxnorm",
    "ndc",
]
CodeTemplate = Literal["readme", "figure1", "hierarchy", "crosswalk"]

# The tables of an installed package.
_INSTALLED_TABLES = ("icd9cm", "icd10cm")


def _real_table(value: object) -> object:
    if str(value).lower().replace("-", "").replace("_", "") == "icd12":
        raise ValueError(
            "ICD-12 does not exist: ICD-11 is the newest revision of WHO's classification, and the paper's example of an ICD-12 "
            "code is one of ICD-10-CM; use icd10cm or icd11"
        )
    return value


class CodeSource(SourceSection):
    """A code table as sentences, by templates: the paper's Figure 1, the README of its code, and two more."""

    type: Literal["codes"]
    table: Annotated[CodeTable, BeforeValidator(_real_table)]
    """Code table: CMS's ICD-9-CM diagnoses (``icd9cm``) or procedures, CAML's ``ICD9_descriptions``, ICD-10-CM and ICD-10-PCS
    as code lists or order files, MIMIC's ``d_icd_diagnoses``, ``d_icd_procedures`` and ``d_hcpcs``, HCPCS level II, a licensed
    CPT CSV, WHO's ICD-11 tabulation, RxNorm's ``RXNCONSO.RRF``, FDA's NDC ``product.txt``."""
    path: str | None = None
    """The table's file, plain or gzip; None takes the installed package's (icd9cm and icd10cm only)."""
    templates: Annotated[tuple[CodeTemplate, ...], Field(min_length=1)] = ("readme",)
    """Sentence forms, one document for each code and form: ``ICD 9 code for 250.00: ...``, ``The ICD-9 code 250.00
    represents ...``, ``... is a kind of ...`` (ICD-10-CM), and the code's counterparts in the other revision (ICD-9-CM
    and ICD-10-CM)."""
    hierarchy_path: str | None = None
    """ICD-10-CM tabular XML for the hierarchy form; None takes the installed package's."""
    crosswalk_path: str | None = None
    """GEM file from ICD-9-CM to ICD-10-CM, as CMS's text or as CSV. Where given, an ICD-9-CM category is held out
    together with the ICD-10-CM category that most of its one-to-one codes map to."""

    @model_validator(mode="after")
    def _possible(self) -> "CodeSource":
        if self.path is None and self.table not in _INSTALLED_TABLES:
            raise ValueError(
                f"table {self.table!r} needs path; only {' and '.join(_INSTALLED_TABLES)} come with a package"
            )
        if len(set(self.templates)) != len(self.templates):
            raise ValueError(f"templates must be distinct, got {list(self.templates)}")
        if "hierarchy" in self.templates and self.table not in ("icd10cm", "icd10cm_order", "mimic_diagnoses"):
            raise ValueError(f"the hierarchy form is known for ICD-10-CM only, not for table {self.table!r}")
        if "crosswalk" in self.templates and self.crosswalk_path is None:
            raise ValueError("the crosswalk form needs crosswalk_path, a GEM file")
        if self.crosswalk_path is not None and self.table not in (
            "icd9cm",
            "icd10cm",
            "icd10cm_order",
            "mimic_diagnoses",
        ):
            raise ValueError(f"a crosswalk joins ICD-9-CM and ICD-10-CM diagnoses, not table {self.table!r}")
        return self


class SyntheticNoteSource(SourceSection):
    """Generated notes in MIMIC-IV-Note's format, marked as synthetic in every count."""

    is_synthetic = True

    type: Literal["synthetic_notes"]
    num_documents: int = Field(gt=0)
    """Number of notes to generate."""
    seed: int = 0
    """Seed of the generator."""


class SyntheticPubMedSource(SourceSection):
    """Generated abstracts in PubMed's XML format, marked as synthetic in every count."""

    is_synthetic = True

    type: Literal["synthetic_pubmed"]
    num_documents: int = Field(gt=0)
    """Number of citations to generate."""
    seed: int = 0
    """Seed of the generator."""


Source = Annotated[
    PubMedSource
    | PmcSource
    | MimicNoteSource
    | MedsSource
    | EicuNoteSource
    | OmopNoteSource
    | OmopEventsSource
    | FhirSource
    | FhirEventsSource
    | CcdaSource
    | TableSource
    | DatasetSource
    | CodeSource
    | SyntheticNoteSource
    | SyntheticPubMedSource,
    Field(discriminator="type"),
]
