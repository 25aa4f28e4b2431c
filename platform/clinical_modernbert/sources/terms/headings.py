"""Pairs of MeSH: an entry term and its heading, a heading and the ones above it in the trees.

A heading is held out by itself. Other vocabularies name it by its descriptor's id, and what they say holds it out with them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from clinical_modernbert.errors import SourceError
from clinical_modernbert.mesh import is_clinical, read_descriptors
from clinical_modernbert.recipe.terms import MeshTerms
from clinical_modernbert.sources.document import Dropped
from clinical_modernbert.sources.terms.rows import existing
from clinical_modernbert.sources.terms.term import Term, TermPair, TermRecord, one_line


@dataclass(slots=True)
class _Headings:
    """All descriptors of a file, those of other branches too: they may be above a clinical one."""

    names: dict[str, str] = field(default_factory=dict)
    trees: dict[str, list[str]] = field(default_factory=dict)
    entry_terms: dict[str, tuple[str, ...]] = field(default_factory=dict)
    at: dict[str, str] = field(default_factory=dict)
    """Tree number -> id."""

    def parents(self, heading: str) -> list[str]:
        """Return the ids above a heading, one for each of its places in the trees, without repeats."""
        above = (self.at.get(tree.rpartition(".")[0]) for tree in self.trees[heading])
        return list(dict.fromkeys(parent for parent in above if parent))

    def lineage(self, heading: str) -> tuple[str, ...]:
        """Return a heading and all above it, the nearest first."""
        found = [heading]
        for name in found:  # grows while it is read
            found += [parent for parent in self.parents(name) if parent not in found]
        return tuple(f"mesh:{name}" for name in found)

    def term(self, text: str, heading: str) -> Term:
        return Term(one_line(text), self.lineage(heading), is_held_out_alone=True)


def mesh_files(source: MeshTerms) -> list[Path]:
    """Return the file of descriptors."""
    return [existing(source.path, source, "path")]


def read_mesh(source: MeshTerms) -> Iterator[TermRecord]:
    """Yield the pairs of the source's relation; headings that are in no clinical branch are dropped as ``branch``."""
    headings = _read(source)
    if source.relation == "synonym" and not any(headings.entry_terms.values()):
        raise SourceError(
            f"sources[{source.name}].path: {Path(source.path).name} has no entry terms; give MeSH's desc<year>.xml, or set "
            "relation: parent"
        )
    for heading, name in headings.names.items():
        if not any(map(is_clinical, headings.trees[heading])):
            yield Dropped("branch")
        elif source.relation == "synonym":
            for text in headings.entry_terms[heading]:
                yield TermPair("synonym", headings.term(text, heading), headings.term(name, heading))
        else:
            for parent in headings.parents(heading):
                positive = headings.term(headings.names[parent], parent)
                yield TermPair("parent", headings.term(name, heading), positive)


def _read(source: MeshTerms) -> _Headings:
    headings = _Headings()
    for item in read_descriptors(existing(source.path, source, "path"), field=f"sources[{source.name}].path"):
        if not item.id:
            raise SourceError(
                f"sources[{source.name}].path: {Path(source.path).name} has a heading without a descriptor's id; give MeSH's "
                "desc<year>.xml, or a table with mesh_id"
            )
        headings.names[item.id] = item.name
        headings.trees.setdefault(item.id, []).extend(item.trees)
        headings.entry_terms[item.id] = item.entry_terms
        headings.at |= dict.fromkeys(item.trees, item.id)
    return headings
