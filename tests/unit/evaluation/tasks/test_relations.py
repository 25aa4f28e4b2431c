"""Relations: PubTator's concepts and ChemProt's mentions become marked texts with a label; figures are over the relations."""

from pathlib import Path

import numpy as np
import pytest
from clinical_modernbert.errors import SourceError
from clinical_modernbert.evaluation.runs import run
from clinical_modernbert.evaluation.tasks import KINDS, load_task, relations
from clinical_modernbert.evaluation.tasks.examples import Splits, TextExample
from clinical_modernbert.recipe import FineTuneRecipe
from clinical_modernbert.recipe.tasks import EntitiesTask, RelationsTask
from clinical_modernbert.sources.evaluation_sets import evaluation_texts
from clinical_modernbert.sources.evaluation_sets.ner import Span
from sklearn.metrics import f1_score

from tests.helpers.runs import tiny_run_plan

TITLE, ABSTRACT = "Lithium and tremor.", "Lithium caused tremor but no nausea."


def pubtator(number: int, relation: str) -> str:
    text = f"{TITLE} {ABSTRACT}"
    mentions = [("Lithium", "Chemical", "D1"), ("tremor", "Disease", "D2"), ("nausea", "Disease", "D3")]
    lines = [f"{number}|t|{TITLE}", f"{number}|a|{ABSTRACT}"]
    for word, kind, concept in mentions:
        start = text.find(word)
        while start >= 0:
            lines.append(f"{number}\t{start}\t{start + len(word)}\t{word}\t{kind}\t{concept}")
            start = text.find(word, start + 1)
    return "\n".join([*lines, *([f"{number}\t{relation}"] if relation else [])])


def load(folder: Path, **fields: object) -> Splits[TextExample]:
    task = RelationsTask.model_validate({"name": "cdr", "type": "relations", "format": "pubtator", **fields})
    splits = load_task(task, str(folder))
    assert isinstance(splits, Splits)
    return splits


@pytest.mark.parametrize("form", ["CID\tD1\tD2", "Association\tD2\tD1\tNovel"])
def test_each_pair_of_concepts_whose_types_are_related_is_an_example(tmp_path: Path, form: str) -> None:
    (tmp_path / "set.txt").write_text("\n\n".join(pubtator(n, form if n % 2 else "") for n in range(20)) + "\n\n")
    splits = load(tmp_path, train="set.txt")
    found = [e for part in splits.parts().values() for e in part]
    # Chemical and disease, and not two diseases.
    assert len(found) == 40 and splits.facts["types"] == "Chemical - Disease"
    label = form.partition("\t")[0]
    assert {(e.id.partition(":")[2], e.label) for e in found if int(e.group) % 2} == {
        ("D1:D2", label),
        ("D1:D3", "no relation"),
    }
    assert {e.label for e in found if not int(e.group) % 2} == {"no relation"}
    (text,) = {e.text for e in found if e.id.endswith("D1:D3")}
    assert text == (
        "@ * chemical * Lithium @ and tremor. @ * chemical * Lithium @ caused tremor but no # ^ disease ^ nausea #."
    )


def bioc(number: int, relation: str = "Association") -> str:
    """The document of ``pubtator`` in BioC."""
    text = f"{TITLE} {ABSTRACT}"
    at = text.index(ABSTRACT)
    passages = ["", ""]
    for word, kind, concept in (
        ("Lithium", "Chemical", "D1"),
        ("tremor", "Disease", "D2"),
        ("nausea", "Disease", "D3"),
    ):
        start = text.find(word)
        while start >= 0:
            passages[start >= at] += (
                f'<annotation id="{start}"><infon key="identifier">{concept}</infon><infon key="type">{kind}</infon>'
                f'<location offset="{start}" length="{len(word)}"/><text>{word}</text></annotation>'
            )
            start = text.find(word, start + 1)
    return (
        f"<document><id>{number}</id><passage><offset>0</offset><text>{TITLE}</text>{passages[0]}</passage>"
        f"<passage><offset>{at}</offset><text>{ABSTRACT}</text>{passages[1]}</passage>"
        f'<relation id="R0"><infon key="entity1">D2</infon><infon key="type">{relation}</infon>'
        '<infon key="novel">Novel</infon><infon key="entity2">D1</infon></relation></document>'
    )


def test_bioc_has_the_examples_of_pubtator(tmp_path: Path) -> None:
    (tmp_path / "set.txt").write_text(
        "\n\n".join(pubtator(n, "Association\tD2\tD1\tNovel") for n in range(10)) + "\n\n"
    )
    (tmp_path / "set.xml").write_text(f"<collection>{''.join(map(bioc, range(10)))}</collection>")
    assert load(tmp_path, format="bioc", train="set.xml") == load(tmp_path, train="set.txt")
    entities = EntitiesTask(name="e", type="entities", format="bioc", train="set.xml")
    plain = entities.model_copy(update={"format": "pubtator", "train": "set.txt"})
    assert load_task(entities, str(tmp_path)) == load_task(plain, str(tmp_path))
    assert list(evaluation_texts(tmp_path / "set.xml")) == list(evaluation_texts(tmp_path / "set.txt"))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('length="7"', 'length="700"', r"line 1: expected a location inside of the document"),
        ("<offset>20", "<offset>2", r"line 1: expected passages in the order of their offsets"),
        ("<id>1</id>", "<id/>", r"line 1: a document without an id"),
        ("<collection>", "<corpus>", r"line 1: broken XML"),
    ],
)
def test_broken_bioc_is_named_with_its_line(tmp_path: Path, old: str, new: str, problem: str) -> None:
    content = f"<collection>{bioc(1)}</collection>"
    assert old in content
    (tmp_path / "set.xml").write_text(content.replace(old, new, 1))
    with pytest.raises(SourceError, match=rf"set.xml, {problem}"):
        load(tmp_path, format="bioc", train="set.xml")


def test_relations_that_no_example_stands_for_are_counted(tmp_path: Path) -> None:
    documents = [pubtator(n, "CID\tD1\tD2") + f"\n{n}\tCID\tD9\tD2" for n in range(10)]
    (tmp_path / "set.txt").write_text("\n\n".join(documents) + "\n\n")
    assert load(tmp_path, train="set.txt").facts["relations_of_no_example"] == 10
    with pytest.raises(SourceError, match=r"set.txt: no relation of Other between two entities"):
        load(tmp_path, train="set.txt", relations=["Other"])


def test_the_public_relations_of_bc5cdr_are_read(shared_data: Path) -> None:
    file = next((shared_data / "ner" / "BC5CDR-pubtator").rglob("*.txt"), None) or next(
        path for path in (shared_data / "ner" / "BC5CDR-pubtator").rglob("*") if path.is_file()
    )
    splits = load(shared_data, train=str(file.relative_to(shared_data)))
    labels = [e.label for part in splits.parts().values() for e in part]
    assert set(labels) == {"CID", "no relation"} and splits.facts["types"] == "Chemical - Disease"
    assert labels.count("CID") > 0.1 * len(labels)


def test_chemprot_relates_mentions_of_one_sentence(tmp_path: Path) -> None:
    text = "Aspirin blocks COX1.\tAspirin is old. Ibuprofen blocks COX2 too."
    spans = [("T1", "CHEMICAL", "Aspirin", 0), ("T2", "GENE-Y", "COX1", 15), ("T3", "CHEMICAL", "Aspirin", 21)]
    spans += [("T4", "CHEMICAL", "Ibuprofen", 37), ("T5", "GENE-N", "COX2", 54)]
    folder = tmp_path / "train"
    folder.mkdir()
    documents = range(10)
    rows = [f"{n}\t{m}\t{kind}\t{at}\t{at + len(word)}\t{word}" for n in documents for m, kind, word, at in spans]
    (folder / "x_entities.tsv").write_text("\n".join(rows))
    (folder / "x_abstracts.tsv").write_text("\n".join(f"{n}\t{text}" for n in documents))
    gold = [f"{n}\tCPR:4\tArg1:T1\tArg2:T2\n{n}\tCPR:9\tArg1:T4\tArg2:T5" for n in documents]
    (folder / "x_gold_standard.tsv").write_text("\n".join(gold))
    splits = load(tmp_path, format="chemprot", train="train")
    found = {(e.id.partition(":")[2], e.label, e.text) for part in splits.parts().values() for e in part}
    assert found == {
        ("T1:T2", "CPR:4", "@ * chemical * Aspirin @ blocks # ^ gene ^ COX1 #."),
        ("T4:T5", "CPR:9", "@ * chemical * Ibuprofen @ blocks # ^ gene ^ COX2 # too."),
    }
    only = load(tmp_path, format="chemprot", train="train", relations=["CPR:4"])
    assert {e.label for part in only.parts().values() for e in part} == {"CPR:4", "no relation"}
    (folder / "x_gold_standard.tsv").write_text("1\tCPR:4\tArg1:T1\tT2")
    with pytest.raises(SourceError, match=r"x_gold_standard.tsv, line 1: expected id, type, Arg1:<mention>"):
        load(tmp_path, format="chemprot", train="train")


def test_marks_of_nested_mentions_stay_in_pairs() -> None:
    text = "aspirin-induced asthma"
    found = relations.marked(text, [Span(0, 7, "Chemical")], [Span(0, 22, "Disease")])
    assert found.count("@") == found.count("#") == 2 and found.replace("@", "").replace("#", "").endswith("asthma ")


def test_figures_are_over_the_pairs_that_have_or_get_a_relation() -> None:
    rng = np.random.default_rng(0)
    labels, probabilities = rng.integers(0, 4, 100), rng.random((100, 4))
    found = relations.measure({"labels": labels.astype(float), "probabilities": probabilities}, np.ones(100))
    expected = f1_score(labels, probabilities.argmax(1), labels=[1, 2, 3], average="micro")
    assert found["f1_micro"] == pytest.approx(expected)


def test_a_run_and_its_baselines_know_what_is_no_relation(encoder_folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "set.txt").write_text("\n\n".join(pubtator(n, "CID\tD1\tD2") for n in range(40)) + "\n\n")
    task = {"name": "cdr", "type": "relations", "format": "pubtator", "train": "set.txt"}
    tuning = {"learning_rate": 5e-3, "num_epochs": 12, "batch_size": 8, "patience": 12}
    plan = tiny_run_plan(
        FineTuneRecipe, task, encoder_folders["modernbert"], tmp_path, str(tmp_path / "store"), tuning=tuning
    )
    artifact = run(plan)
    assert artifact.summary["head"]["labels"] == ["no relation", "CID"]
    assert artifact.summary["metrics"]["f1_micro"] > 0.9
    found = {
        b.name: b.scored.figures()["f1_micro"]
        for b in KINDS["relations"].baselines(load_task(plan.recipe.task, str(tmp_path)))
    }
    assert found["TF-IDF + logistic regression"] == 1
