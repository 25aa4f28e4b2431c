"""The corpus sources a recipe can name; ``type`` selects the reader.

A source whose ``path`` is absent reads tables that come with an installed package, so that a fresh machine has real codes.
"""

from typing import Annotated, Literal

from pydantic import Field

from clinical_modernbert.recipe.section import Section

SourceName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]{0,39}$")]


Language = Annotated[str, Field(pattern=r"^[a-z]{3}$")]


class _Source(Section):
    name: SourceName
    """Name under which documents, drops and tokens are counted."""
    epochs: float = Field(default=1.0, gt=0, le=100)
    """Times that a training document appears in the packed rows (paper, 3.2: coherent narrative is upsampled).

    2.5 gives every document twice and half of them, drawn by their keys, once more; held-out documents appear once.
    """


class PubMedSource(_Source):
    """PubMed citations in XML, plain or gzip, with either the current or the 2016 root element (NLM's DTDs)."""

    type: Literal["pubmed"]
    path: str
    """File or folder (read recursively for ``*.xml`` and ``*.xml.gz``); NLM's names give the order of updates."""
    languages: tuple[Language, ...] | None = None
    """Article languages that are kept (NLM's three letters); None keeps all, since the main abstract is English in any case."""
    other_languages: tuple[Language, ...] = ()
    """Languages of which an ``OtherAbstract`` is taken as a document of its own, in the citation's group, under its vernacular
    title; ``eng`` takes summaries in plain language."""
    title_only: Literal["drop", "keep"] = "drop"
    """What happens to a citation without abstract: dropped as ``no_abstract``, or kept as its title."""
    checksum_mismatch: Literal["fail", "quarantine"] = "fail"
    """A file that differs from its ``.md5`` companion ends the build, or is quarantined whole."""


class MimicNoteSource(_Source):
    """MIMIC-IV-Note ``discharge.csv.gz`` and ``radiology.csv.gz`` (PhysioNet, credentialed); grouped by subject_id."""

    type: Literal["mimic_note"]
    path: str
    """File or folder with the CSV files, plain or gzip."""


class TableSource(_Source):
    """Notes in a CSV file with named columns."""

    type: Literal["table"]
    path: str
    """CSV file, plain or gzip, with a header."""
    text_column: str
    """Column that holds the text."""
    id_column: str | None = None
    """Column that identifies the document; the row number where None."""
    group_column: str | None = None
    """Column by which documents are held out together (a patient or an encounter); the document itself where None."""


class CodeSource(_Source):
    """A code table turned into sentences by the paper's template (Figure 1 and the README of its code)."""

    type: Literal["codes"]
    table: Literal["icd9cm", "icd10cm"]
    """Code system: ICD-9-CM diagnoses (CMS v32) or ICD-10-CM (2024)."""
    path: str | None = None
    """CMS file with code and long description; the table of the installed package where None."""
    template: Literal["readme", "figure1"] = "readme"
    """Sentence form: ``ICD 9 code for 250.00: ...`` or ``The ICD-9 code 250.00 represents ...``."""


class SyntheticNoteSource(_Source):
    """Generated notes in MIMIC-IV-Note's format, marked synthetic wherever they are counted."""

    type: Literal["synthetic_notes"]
    num_documents: int = Field(gt=0)
    """Notes to generate."""
    seed: int = 0
    """Seed of the generator."""


class SyntheticPubMedSource(_Source):
    """Generated abstracts in PubMed's XML format, marked synthetic wherever they are counted."""

    type: Literal["synthetic_pubmed"]
    num_documents: int = Field(gt=0)
    """Citations to generate."""
    seed: int = 0
    """Seed of the generator."""


Source = Annotated[
    PubMedSource | MimicNoteSource | TableSource | CodeSource | SyntheticNoteSource | SyntheticPubMedSource,
    Field(discriminator="type"),
]
