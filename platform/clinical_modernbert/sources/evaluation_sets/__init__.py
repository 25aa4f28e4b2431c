"""The texts of evaluation sets in any format that the platform reads: what a corpus is decontaminated against."""

import re
from collections.abc import Iterator
from pathlib import Path

from clinical_modernbert.errors import SourceError
from clinical_modernbert.sources.evaluation_sets import bioc, i2b2, ner, pmc_patients, rct
from clinical_modernbert.sources.evaluation_sets.labelled_rows import table_texts
from clinical_modernbert.sources.evaluation_sets.lines import numbered_lines
from clinical_modernbert.sources.files import read_chunks
from clinical_modernbert.sources.inflate import DamagedFileError

_FORMATS = (
    "PubMed-RCT (.txt), CoNLL (token<TAB>tag), PubTator, BioC (.xml), brat (.ann and .txt, or a tar of them), "
    "i2b2 2006/2012/2014 (.xml), i2b2 2010 (.con and .txt), ChemProt (_abstracts.tsv), PMC-Patients (.json), BEIR (.jsonl) "
    "or a table with a header (.csv, .parquet, .feather)"
)
_ROOT = re.compile(r"<(ROOT|ClinicalNarrativeTemporalAnnotation|deIdi2b2|collection)[\s>]")
# Files of these sets that hold no texts.
_NO_TEXT = (".md", ".license", ".ast", ".rel", ".conf", ".tsv.license", ".md5", ".sha256")
_CHEMPROT_NO_TEXT = ("_entities.tsv", "_relations.tsv", "_gold_standard.tsv")


def evaluation_texts(path: Path, *, by_cell: bool = False) -> Iterator[str]:
    """Yield the texts of a file, or of every file below a folder, in the order of their names.

    Sentences of one document are joined by spaces, so that an overlap may cross their border. A file whose format is
    not known, or that has no text, is a ``SourceError`` that names it: a set that was silently left out would not protect the
    evaluation. A row of a table is one text, or with ``by_cell`` each of its cells is one.
    """
    if not path.exists():
        raise SourceError(f"{path} does not exist; expected an evaluation set: {_FORMATS}")
    count = 0
    if path.is_file():
        for count, text in enumerate(_file_texts(path, by_cell=by_cell), start=1):  # noqa: B007
            yield text
        if not count:
            raise SourceError(f"{path} holds no evaluation text; expected {_FORMATS}")
        return
    files = [p for p in sorted(path.rglob("*")) if p.is_file() and not p.name.startswith(".")]
    stems = {p.stem for p in files if p.suffix in (".ann", ".con")}
    if any(p.suffix == ".ann" for p in files):
        for document in ner.read_brat(path):
            count += 1
            yield document.text
    if any(p.suffix == ".con" for p in files):
        for _, sentences in i2b2.read_2010(path):
            count += 1
            yield _sentence_text(sentences)
    for file in files:
        if file.suffix in (".ann", ".con", *_NO_TEXT) or (file.suffix == ".txt" and file.stem in stems):
            continue
        if file.suffix == ".tsv" and "qrel" in str(file.relative_to(path)).lower():
            continue
        if file.name.endswith(_CHEMPROT_NO_TEXT):
            continue
        for text in _file_texts(file, by_cell=by_cell):
            count += 1
            yield text
    if not count:
        raise SourceError(f"{path} holds no evaluation text; expected {_FORMATS}")


def _file_texts(path: Path, *, by_cell: bool) -> Iterator[str]:
    name = path.name.removesuffix(".gz")
    if name.endswith((".tar", ".tgz")):
        yield from (document.text for document in ner.read_brat(path))
        return
    if name.endswith(".jsonl"):
        yield from (f"{entry.title} {entry.text}".strip() for entry in pmc_patients.read_entries(path))
        return
    if name.endswith(".json"):
        yield from (patient.text for patient in pmc_patients.read_patients(path))
        return
    if name.endswith((".csv", ".parquet", ".feather", ".arrow")):
        yield from table_texts(path, by_cell=by_cell)
        return
    if name.endswith("_abstracts.tsv"):
        yield from (line.partition("\t")[2].replace("\t", " ") for _, line in numbered_lines(path) if line.strip())
        return
    head = _head(path)
    root = _ROOT.search(head) if head.lstrip().startswith("<") else None
    first = next((line for line in head.split("\n") if line.strip()), "")
    if root and root[1] == "ROOT":
        yield from (document.text for document in i2b2.read_2006(path))
    elif root and root[1] == "collection":
        yield from (document.text for document in bioc.read_bioc(path))
    elif root:
        yield (i2b2.read_2014 if root[1] == "deIdi2b2" else i2b2.read_2012)(path).text
    elif first.startswith("###") and not first.startswith("###MEDLINE:"):
        yield from (" ".join(abstract.sentences) for abstract in rct.read_rct(path))
    elif re.match(r"[\w.:-]+\|[ta]\|", first):
        yield from (document.text for document in ner.read_pubtator(path))
    elif ner.is_conll(first):
        yield from _conll_texts(path)
    else:
        raise SourceError(f"{path}: the format of this evaluation set is not known; expected {_FORMATS}")


def _conll_texts(path: Path) -> Iterator[str]:
    # Most files do not tell where a document ends. Alone, sentences of fewer than 13 words would protect nothing.
    yield " ".join(" ".join(sentence.tokens) for sentence in ner.read_conll(path))


def _sentence_text(sentences: tuple[ner.TaggedSentence, ...]) -> str:
    return " ".join(" ".join(sentence.tokens) for sentence in sentences)


def _head(path: Path) -> str:
    try:
        return next(iter(read_chunks(path)), b"")[:65_536].decode("utf-8-sig", errors="replace")
    except DamagedFileError as error:
        raise SourceError(f"{path.name}: {error}") from None
