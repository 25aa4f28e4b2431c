"""ChemProt (BioCreative VI): abstracts with mentions of chemicals and proteins, and relations between mentions."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from clinical_modernbert.errors import SourceError
from clinical_modernbert.sources.evaluation_sets.lines import numbered_lines, refuse
from clinical_modernbert.sources.evaluation_sets.ner import AnnotatedText, Relation, Span

_TEXTS, _MENTIONS, _RELATIONS = "*_abstracts.tsv", "*_entities.tsv", ("*_gold_standard.tsv", "*_relations.tsv")


def read_chemprot(folder: Path) -> Iterator[AnnotatedText]:
    """Yield the documents of a folder with ``*_abstracts.tsv``, ``*_entities.tsv`` and a file of relations.

    The text is the title, one tab and the abstract, over which offsets count. ``*_gold_standard.tsv`` has the relations of the
    task; ``*_relations.tsv``, which is read where that one is absent, has all of them.
    """
    mentions: dict[str, list[tuple[str, Span]]] = defaultdict(list)
    for path, number, columns in _rows(folder, (_MENTIONS,), least=6):
        name, mention, kind, start, end = columns[:5]
        if not (start.isdecimal() and end.isdecimal()):
            refuse(path, number, "expected id, mention, type, start, end, text")
        # The training files number proteins GENE-Y and GENE-N: with and without an entry in a database.
        mentions[name].append((mention, Span(int(start), int(end), kind.partition("-")[0])))
    relations: dict[str, list[Relation]] = defaultdict(list)
    for path, number, columns in _rows(folder, _RELATIONS, least=4):
        ends = [column.partition(":")[2] for column in columns if column.startswith(("Arg1:", "Arg2:"))]
        if len(ends) != 2:
            refuse(path, number, "expected id, type, Arg1:<mention>, Arg2:<mention>")
        relations[columns[0]].append(Relation(columns[1], ends[0], ends[1]))
    for path, number, (name, title, abstract, *_) in _rows(folder, (_TEXTS,), least=3):
        text = f"{title}\t{abstract}"
        for mention, span in mentions[name]:
            if not 0 <= span.start < span.end <= len(text):
                refuse(path, number, f"mention {mention} is outside of the text")
        yield AnnotatedText(
            name,
            text,
            tuple(span for _, span in mentions[name]),
            names=tuple((mention,) for mention, _ in mentions[name]),
            relations=tuple(relations[name]),
        )


def _rows(folder: Path, patterns: tuple[str, ...], *, least: int) -> Iterator[tuple[Path, int, list[str]]]:
    """Yield (file, line, columns) of the files of the first pattern that the folder has."""
    files = next((found for pattern in patterns if (found := sorted(folder.glob(pattern)))), [])
    if not files:
        raise SourceError(f"{folder.name}: no file {' or '.join(patterns)}")
    for path in files:
        for number, line in numbered_lines(path):
            if not line.strip():
                continue
            columns = line.split("\t")
            if len(columns) < least:
                refuse(path, number, f"expected {least} columns with tabs between them")
            yield path, number, [column.strip() for column in columns]
