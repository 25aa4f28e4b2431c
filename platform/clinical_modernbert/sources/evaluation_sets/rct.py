"""PubMed-RCT: abstracts of trials as labelled sentences (``###PMID``, ``LABEL<TAB>sentence`` lines, an empty line)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clinical_modernbert.sources.evaluation_sets.lines import numbered_lines, refuse

_MARK = "###"


@dataclass(frozen=True, slots=True)
class LabelledAbstract:
    """The sentences of one abstract in their order."""

    pmid: str
    labels: tuple[str, ...]
    """In upper case: the data sets differ in that only."""
    sentences: tuple[str, ...]


def read_rct(path: Path) -> Iterator[LabelledAbstract]:
    """Yield the abstracts of a file, plain or gzip; ``SourceError`` with the line for anything else."""
    pmid, labels, sentences = "", [], []  # type: str, list[str], list[str]
    for number, line in numbered_lines(path):
        if line.startswith(_MARK):
            if sentences:
                yield LabelledAbstract(pmid, tuple(labels), tuple(sentences))
            pmid, labels, sentences = line.removeprefix(_MARK).strip(), [], []
            if not pmid:
                refuse(path, number, "no PMID after ###")
        elif line.strip():
            label, tab, sentence = line.partition("\t")
            if not pmid:
                refuse(path, number, "expected ###PMID before the first sentence")
            if not tab or not label.strip() or not sentence.strip():
                refuse(path, number, "expected LABEL<TAB>sentence")
            labels.append(label.strip().upper())
            sentences.append(sentence.strip())
    if sentences:
        yield LabelledAbstract(pmid, tuple(labels), tuple(sentences))
