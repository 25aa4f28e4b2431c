"""A user's own labels: CSV, JSON lines and Parquet give the same examples, and a row that cannot be read is named."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clinical_modernbert.errors import SourceError
from clinical_modernbert.evaluation.encoders import LocalEncoder
from clinical_modernbert.evaluation.tasks import KINDS, load_task
from clinical_modernbert.evaluation.tasks.examples import Splits
from clinical_modernbert.recipe import FineTuneRecipe
from clinical_modernbert.recipe.tasks import ClassificationTask, EncoderSection

ROWS = [
    {
        "patient": n // 2,
        "note": f"patient {n // 2}, {'smokes daily' if n % 4 < 2 else 'never smoked'}",
        "status": n % 4 // 2,
    }
    for n in range(80)
]
NAMES = ("notes.csv", "notes.csv.gz", "notes.jsonl", "notes.parquet")


def write(folder: Path, name: str) -> ClassificationTask:
    lines = ["patient,note,status", *(f'{row["patient"]},"{row["note"]}",{row["status"]}' for row in ROWS)]
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(ROWS), folder / name)
    elif name.endswith(".jsonl"):
        (folder / name).write_text("\n".join(map(json.dumps, ROWS)))
    else:
        content = "\n".join(lines).encode()
        (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return ClassificationTask(
        name="smoking", type="classification", train=name, text="note", label="status", group="patient"
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_format_gives_the_same_examples_split_by_patient(tmp_path: Path, name: str) -> None:
    splits = load_task(write(tmp_path, name), str(tmp_path))
    assert isinstance(splits, Splits)
    parts = splits.parts().values()
    assert sum(map(len, parts)) == 80 and {e.label for e in splits.train} == {"0", "1"}
    groups = [{example.group for example in part} for part in parts]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 40
    assert {example.text for part in parts for example in part} == {row["note"] for row in ROWS}


@pytest.mark.parametrize("name", NAMES)
def test_columns_may_differ_in_case(tmp_path: Path, name: str) -> None:
    task = write(tmp_path, name).model_copy(update={"text": "NOTE", "label": "Status", "group": "Patient"})
    splits = load_task(task, str(tmp_path))
    assert isinstance(splits, Splits) and sum(map(len, splits.parts().values())) == 80


def test_words_tell_the_labels_and_the_majority_does_not(tmp_path: Path) -> None:
    splits = load_task(write(tmp_path, "notes.csv"), str(tmp_path))
    found = {b.name: b.scored.figures()["auroc"] for b in KINDS["classification"].baselines(splits)}
    assert found["TF-IDF + logistic regression"] == 1.0 and found["majority"] == 0.5
    assert set(found) == {"majority", "TF-IDF + logistic regression", "text length"}


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("x.csv", "text,label\na,1\n,1\n", "x.csv, row 2: text is empty"),
        ("x.csv", "text,target\na,1\n", "x.csv has no column 'label'"),
        ("x.csv", "text,label\na,1,2\n", "x.csv, line 2"),
        ("x.jsonl", '{"text": "a", "label": "b"}\n{"text": "a"\n', "x.jsonl, line 2: no JSON"),
        ("x.jsonl", '{"text": "a", "label": null}\n', "x.jsonl, row 1: label is empty"),
        ("x.parquet", "PAR1", "x.parquet: no readable Parquet file"),
        ("x.xlsx", "", r"x.xlsx: expected .csv, .tsv, .jsonl, .ndjson .*, .parquet or .feather"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: str, problem: str) -> None:
    (tmp_path / name).write_text(content)
    task = ClassificationTask(name="t", type="classification", train=name)
    with pytest.raises(SourceError, match=problem):
        load_task(task, str(tmp_path))


def test_one_label_for_all_texts_is_refused(tmp_path: Path) -> None:
    """Every encoder would be right in all of them."""
    from clinical_modernbert.evaluation.tasks.text_labels import run

    rows = "".join(f"note {n},a\n" for n in range(20))
    (tmp_path / "x.csv").write_text(f"text,label\n{rows}")
    task = ClassificationTask(name="t", type="classification", train="x.csv")
    splits = load_task(task, str(tmp_path))
    assert isinstance(splits, Splits)
    recipe = FineTuneRecipe(name="t", encoder=EncoderSection(name="e"), task=task, data=str(tmp_path))
    encoder = LocalEncoder("e", tmp_path, "0", "", "bert", "cls")
    with pytest.raises(SourceError, match="task t: every text has the label 'a'"):
        run(recipe, encoder, splits)


def test_the_dictionary_finds_the_longest_entity_of_training_whatever_its_case() -> None:
    from clinical_modernbert.evaluation.tasks.examples import WordExample
    from clinical_modernbert.evaluation.tasks.trivial import dictionary_tags

    def tagged(text: str, tags: str) -> WordExample:
        words, at = [], 0
        for word in text.split():
            words.append((at, at + len(word)))
            at += len(word) + 1
        return WordExample("1", "1", text, tuple(words), tuple(tags.split()))

    train = [tagged("renal failure and Failure", "B-D I-D O B-X"), tagged("failure", "B-D"), tagged("failure", "B-D")]
    (tags,) = dictionary_tags(train, [tagged("Renal Failure or failure now", "O O O O O")])
    assert tags == ["B-D", "I-D", "O", "B-D", "O"]
