"""What leaks an evaluation set is dropped: before masking, in any composition of characters, by sentences of a file, by id."""

from pathlib import Path

import numpy as np
import pytest
from clinical_modernbert.artifacts.work_area import WorkArea
from clinical_modernbert.corpus import decontamination
from clinical_modernbert.corpus.checks import check_recipe
from clinical_modernbert.corpus.decontamination import evaluation_sets, prepare_ngrams, united
from clinical_modernbert.corpus.documents import parse_unit
from clinical_modernbert.corpus.fingerprint_inputs import fingerprint_inputs
from clinical_modernbert.corpus.results import EvaluationSet, below
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe import CorpusRecipe, build_recipe
from clinical_modernbert.sources import list_units

PLAIN = "The patient of the second ward was well and went home the next day."
DATED = "Seen on 2019-03-14 he took aspirin and metoprolol until 2019-04-02 and felt much better then"


def dropped(
    tmp_path: Path, texts: dict[str, str], evaluation: str = "", ids: str = "", **values: object
) -> dict[str, int]:
    (tmp_path / "notes.csv").write_text("id,text\n" + "".join(f'{key},"{text}"\n' for key, text in texts.items()))
    section: dict[str, list[str]] = {}
    for field, name, content in (("paths", "set.tsv", evaluation), ("id_lists", "ids.txt", ids)):
        if content:
            (tmp_path / name).write_text(content)
            section[field] = [str(tmp_path / name)]
    source = {
        "type": "table",
        "name": "n",
        "path": str(tmp_path / "notes.csv"),
        "text_column": "text",
        "id_column": "id",
    }
    recipe = build_recipe(
        CorpusRecipe,
        {"kind": "corpus", "name": "t", "sources": [source], "decontamination": section, **values},
        origin="test",
    )
    area = WorkArea(f"file://{tmp_path / 'store'}", "work")
    prepare_ngrams(area, recipe.decontamination)
    (unit,) = list_units(recipe.sources[0])
    return parse_unit(area, recipe, unit, number=0).dropped


def conll(*sentences: str) -> str:
    return "\n\n".join("\n".join(f"{word}\tO" for word in sentence.split()) for sentence in sentences) + "\n"


def test_texts_are_compared_before_identifiers_are_masked(tmp_path: Path) -> None:
    texts = {"a": f"Note. {DATED}.", "b": PLAIN}
    assert dropped(tmp_path, texts, conll(DATED), identifiers={"action": "mask"}) == {"contaminated": 1}


def test_both_sides_are_normalised(tmp_path: Path) -> None:
    composed = "Après l'hémorragie sévère opérée, évolution très négative: décès éventuel à l'hôpital général été"
    evaluation = composed.replace("é", "e\u0301").replace("hôpital", "hô\u00adpital")
    assert dropped(tmp_path, {"a": composed, "b": PLAIN}, conll(evaluation)) == {"contaminated": 1}


def test_short_sentences_are_joined(tmp_path: Path) -> None:
    short = ("Famotidine-associated delirium .", "A series of six cases .", "It was seen in the ward in May .")
    assert dropped(tmp_path, {"a": f"{' '.join(short)} Then.", "b": PLAIN}, conll(*short)) == {"contaminated": 1}


def test_documents_are_dropped_by_id(tmp_path: Path) -> None:
    assert dropped(tmp_path, {"a": PLAIN, "17": f"{PLAIN} More."}, ids="# PMIDs\n17\n\n99\n") == {"listed": 1}


def test_a_retrieval_pool_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decontamination, "MOST_NGRAMS", 5)
    with pytest.raises(SourceError, match=r"set\.tsv' has more than 5 words; name the queries"):
        dropped(tmp_path, {"a": PLAIN}, conll(DATED))


def test_lists_and_sets_count_by_content_and_are_checked_first(tmp_path: Path) -> None:
    path, ids = tmp_path / "notes.csv", tmp_path / "ids.txt"
    path.write_text(f"id,text\n1,{PLAIN}\n")

    def recipe() -> CorpusRecipe:
        source = {"type": "table", "name": "n", "path": str(path), "text_column": "text"}
        values = {"kind": "corpus", "name": "t", "sources": [source], "decontamination": {"id_lists": [str(ids)]}}
        return build_recipe(CorpusRecipe, values | {"tokenizer": {"base": "train"}}, origin="test")

    with pytest.raises(SourceError, match=r"id_lists: .*ids\.txt' cannot be read"):
        check_recipe(recipe())
    ids.write_text("# none\n")
    with pytest.raises(SourceError, match="names no id"):
        check_recipe(recipe())
    digests = set()
    for content in ("1\n", "2\n"):
        ids.write_text(content)
        digests.add(fingerprint_inputs(recipe())[-1].digest)
    assert len(digests) == 2


def test_every_sequence_knows_the_sets_that_have_it() -> None:
    sets = [np.array(values, dtype=np.uint64) for values in ([5, 7], [7, 9], [], [5, 7, 9])]
    ngrams, combination, combinations = united(sets)
    found = {int(ngram): combinations[number] for ngram, number in zip(ngrams, combination, strict=True)}
    assert found == {5: (0, 3), 7: (0, 1, 3), 9: (1, 3)}
    assert united([])[2] == ((),)


def test_a_dropped_document_counts_for_every_set_that_it_is_in(tmp_path: Path) -> None:
    lines = {
        "a": DATED,
        "b": f"{PLAIN} Then.",
        "c": f"{PLAIN[:20]}, and so on and on",
        "17": "Seven words that nobody else has written down here",
    }
    (tmp_path / "notes.csv").write_text("id,text\n" + "".join(f"{key},{text}\n" for key, text in lines.items()))
    files = {"one.tsv": conll(DATED), "two.tsv": conll(DATED, PLAIN), "ids.txt": "17\n18\n"}
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    one, two, ids = (str(tmp_path / name) for name in files)
    source = {
        "type": "table",
        "name": "n",
        "path": str(tmp_path / "notes.csv"),
        "text_column": "text",
        "id_column": "id",
    }
    section = {"paths": [one, two], "id_lists": [ids]}
    recipe = build_recipe(
        CorpusRecipe, {"kind": "corpus", "name": "t", "sources": [source], "decontamination": section}, origin="test"
    )
    area = WorkArea(f"file://{tmp_path / 'store'}", "work")
    prepare_ngrams(area, recipe.decontamination)
    (unit,) = list_units(recipe.sources[0])
    parsed = parse_unit(area, recipe, unit, number=0)
    assert parsed.dropped == {"contaminated": 2, "listed": 1}
    assert below(parsed.counts, "in:") == {one: 1, two: 2, ids: 1}
    first, second, listed = evaluation_sets(area, recipe.decontamination)
    assert (first.path, first.items, first.ngram_words) == (one, 1, 13)
    assert second.ngrams > first.ngrams > 0
    assert listed == EvaluationSet(ids, items=2, ngram_words=None, ngrams=0)
