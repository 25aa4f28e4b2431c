"""Convert annotated texts to words with IOB2 tags, and find the documents of CoNLL sentences."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from clinical_modernbert.errors import SourceError
from clinical_modernbert.evaluation.tasks.examples import WordExample
from clinical_modernbert.recipe.tasks import AnnotatedTask
from clinical_modernbert.sources.evaluation_sets import i2b2, ner
from clinical_modernbert.sources.evaluation_sets.bioc import read_bioc
from clinical_modernbert.sources.evaluation_sets.ner import AnnotatedText, TaggedSentence

_WORD = re.compile(r"\w+|[^\w\s]")
# Sentences that are treated as one document if a CoNLL file does not say which document they belong to.
_BLOCK = 50


def read_annotations(path: Path, task: AnnotatedTask, *, data: Path) -> tuple[list[WordExample], dict[str, int | str]]:
    """Return the examples of one file, folder or archive, and counts of what was lost in the conversion to IOB tags."""
    facts: dict[str, int | str] = {}
    if task.format == "conll":
        sentences = list(ner.read_conll(path))
        documents = [text for name in task.documents for text in ner.read_pubtator(data / name)]
        if documents:
            groups = document_groups(sentences, documents, file=path.name)
        elif any(sentence.document for sentence in sentences):
            groups = [_named_document(sentence, file=path.name) for sentence in sentences]
        else:
            groups = [f"{path.name}:{number // _BLOCK}" for number in range(len(sentences))]
            facts["groups"] = f"the file names no documents: groups are blocks of {_BLOCK} sentences"
        examples = [
            _from_sentences(f"{path.name}:{number}", group, [sentence])
            for number, (sentence, group) in enumerate(zip(sentences, groups, strict=True), start=1)
        ]
    elif task.format == "i2b2_2010":
        examples = [_from_sentences(name, name, sentences) for name, sentences in i2b2.read_2010(path)]
    else:
        lost = {
            "spans_across_words": 0,
            "spans_inside_others": 0,
            "spans_not_as_stated": 0,
            "annotations_of_other_kinds": 0,
            "entities_in_pieces": 0,
        }
        examples = [_from_spans(text, _group(text, task), lost) for text in _annotated(path, task)]
        facts.update({name: count for name, count in lost.items() if count})
    if not examples:
        raise SourceError(f"{path.name} has no document of format {task.format}")
    return [_one_type(example) for example in examples] if task.one_type else examples, facts


def _named_document(sentence: TaggedSentence, *, file: str) -> str:
    """Return the document's name, by which files of two parts may share it; numbers are those of the file alone."""
    name = sentence.document or "#0"
    return f"{file}:{name}" if name.startswith("#") else name


def _annotated(path: Path, task: AnnotatedTask) -> Iterable[AnnotatedText]:
    if task.format == "pubtator":
        return ner.read_pubtator(path)
    if task.format == "bioc":
        return read_bioc(path)
    if task.format == "brat":
        return ner.read_brat(path)
    if task.format == "i2b2_2006":
        return i2b2.read_2006(path)
    read = i2b2.read_2012 if task.format == "i2b2_2012" else i2b2.read_2014
    return (read(file) for file in (sorted(path.rglob("*.xml")) if path.is_dir() else [path]))


def _group(text: AnnotatedText, task: AnnotatedTask) -> str:
    # 2014's files are <patient>-<record>: all records of a patient stay together.
    return text.id.partition("-")[0] if task.format == "i2b2_2014" else text.id


def _from_sentences(name: str, group: str, sentences: Sequence[TaggedSentence]) -> WordExample:
    """Join tokens by spaces and sentences by line ends."""
    text, words, tags = "", [], []  # type: str, list[tuple[int, int]], list[str]
    for sentence in sentences:
        text += "\n" if text else ""
        for number, token in enumerate(sentence.tokens):
            text += " " if number else ""
            words.append((len(text), len(text) + len(token)))
            text += token
        tags += sentence.tags
    return WordExample(name, group, text, tuple(words), tuple(tags))


def _from_spans(document: AnnotatedText, group: str, lost: dict[str, int]) -> WordExample:
    """Split the text into words and tag those that a span touches. Of overlapping spans the longest is kept."""
    lost["spans_not_as_stated"] += document.num_not_as_stated
    lost["annotations_of_other_kinds"] += document.num_left_out
    lost["entities_in_pieces"] += document.num_in_pieces
    words = [match.span() for match in _WORD.finditer(document.text)]
    tags = ["O"] * len(words)
    starts = {start: number for number, (start, _) in enumerate(words)}
    ends = {end: number for number, (_, end) in enumerate(words)}
    for span in sorted(set(document.spans), key=lambda s: (s.start - s.end, s.start, s.kind)):
        first, last = starts.get(span.start), ends.get(span.end)
        if first is None or last is None:
            lost["spans_across_words"] += 1
            touched = [n for n, (start, end) in enumerate(words) if start < span.end and end > span.start]
            if not touched:
                continue
            first, last = touched[0], touched[-1]
        if any(tag != "O" for tag in tags[first : last + 1]):
            lost["spans_inside_others"] += 1
            continue
        kind = re.sub(r"\s+", "_", span.kind)
        tags[first : last + 1] = [f"B-{kind}"] + [f"I-{kind}"] * (last - first)
    return WordExample(document.id, group, document.text, tuple(words), tuple(tags))


def _one_type(example: WordExample) -> WordExample:
    tags = tuple(tag if tag == "O" else f"{tag[0]}-entity" for tag in example.tags)
    return WordExample(example.id, example.group, example.text, example.words, tags)


def document_groups(sentences: Sequence[TaggedSentence], documents: Sequence[AnnotatedText], *, file: str) -> list[str]:
    """Return the id of each sentence's document.

    Sentences are in the order of the documents, and their tokens differ from the text in spaces only: each sentence must continue
    the current document, or start another one. ``SourceError`` names the first sentence that does neither.
    """
    places: dict[str, list[int]] = {}
    bare = ["".join(document.text.split()) for document in documents]
    for number, text in enumerate(bare):
        places.setdefault(text[:12], []).append(number)
    groups: list[str] = []
    current, at = -1, 0
    for number, sentence in enumerate(sentences, start=1):
        characters = "".join(sentence.tokens)
        if current < 0 or not bare[current].startswith(characters, at):
            candidates = [n for n in places.get(characters[:12], []) if bare[n].startswith(characters)]
            if not candidates:
                raise SourceError(
                    f"{file}, sentence {number}: no document of task.documents continues or starts with it"
                )
            # If a document occurs twice, take the next occurrence after the current document.
            current, at = min(candidates, key=lambda n: (n <= current, n)), 0
        groups.append(documents[current].id)
        at += len(characters)
    return groups
