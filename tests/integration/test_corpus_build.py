"""A corpus from raw files on Ray Data: its account balances, its bytes hang on the recipe alone, a killed build goes on."""

import gzip
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import yaml
from clinical_modernbert.artifacts import Artifact, list_artifacts, make_plan, open_store
from clinical_modernbert.artifacts.work_area import WorkArea
from clinical_modernbert.corpus import is_held_out
from clinical_modernbert.corpus.build import build_corpus
from clinical_modernbert.corpus.fingerprint_inputs import fingerprint_inputs
from clinical_modernbert.corpus.shards import PackedRows
from clinical_modernbert.errors import CorpusError
from clinical_modernbert.job import main
from clinical_modernbert.recipe import CorpusRecipe, build_recipe
from clinical_modernbert.runtime import start_ray
from clinical_modernbert.sources import list_units, read_unit
from clinical_modernbert.sources.document import Document, key_of
from clinical_modernbert.sources.generated.hospital import write_hospital

from tests.helpers.processes import kill_with_all_it_started

pytestmark = pytest.mark.ray

RECIPES = Path(__file__).resolve().parents[2] / "jobs" / "recipes"
CANARY = "Zebulon Quixworth"
CODES = ("A000 Cholera due to Vibrio cholerae 01, biovar cholerae", "A001 Cholera due to Vibrio cholerae 01, biovar eltor",
         "E119 Type 2 diabetes mellitus without complications", "I2510 Atherosclerotic heart disease of native coronary artery",
         "J189 Pneumonia, unspecified organism", "J180 Bronchopneumonia, unspecified organism")  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    start_ray(num_cpus=2)
    yield
    ray.shutdown()


def citation(pmid: str, abstract: str) -> str:
    body = f"<Abstract><AbstractText>{abstract}</AbstractText></Abstract>" if abstract else ""
    return (
        f"<PubmedArticle><MedlineCitation><PMID>{pmid}</PMID><Article><ArticleTitle>{CANARY} {pmid}</ArticleTitle>"
        f"{body}</Article></MedlineCitation></PubmedArticle>\n"
    )


def write_pubmed(folder: Path) -> Path:
    """Nine citations in three files: six whole, one without PMID, one without abstract, one that a broken archive cuts off."""
    folder.mkdir()
    text = f"{CANARY} was given aspirin for chest pain and did well afterwards."
    whole = "".join(citation(str(n), f"{text} Case {n}.") for n in range(100, 105))
    odd = whole + citation("", text) + citation("106", "")
    (folder / "a.xml").write_text(f"<PubmedArticleSet>\n{odd}</PubmedArticleSet>")
    repeated = citation("100", f"{text} Case 100.")
    (folder / "b.xml").write_text(f"<PubmedArticleSet>\n{repeated}</PubmedArticleSet>")
    long = "".join(citation("107", "".join(np.random.default_rng(0).choice(list("abcdefgh "), 4000))))
    packed = gzip.compress(f"<PubmedArticleSet>\n{citation('105', text + ' Last.')}{long}</PubmedArticleSet>".encode())
    (folder / "c.xml.gz").write_bytes(packed[: len(packed) - 400])
    return folder


def recipe_values(raw: Path, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "corpus",
        "name": "mini",
        "sources": [
            {"type": "synthetic_notes", "name": "notes", "num_documents": 150},
            {"type": "synthetic_pubmed", "name": "abstracts", "num_documents": 150},
            {"type": "codes", "name": "icd10", "table": "icd10cm", "path": str(raw / "codes.txt"), "epochs": 2.5},
            {"type": "pubmed", "name": "pubmed", "path": str(raw / "pubmed")},
        ],
        "tokenizer": {"base": "train", "vocabulary_size": 1024, "num_clinical_tokens": 32},
        "lexicon": {"code_tables": False},
        "held_out": {"fraction": 0.25},
        # Shards so small that every split has several.
        "packing": {"sequence_lengths": [64, 128], "shard_tokens": 8192},
        # Two of the ten citations are damaged, and the cut archive may lack about as many as it has.
        "max_quarantined_fraction": 0.7,
        **changes,
    }


def build(values: dict[str, Any], root: Path) -> Artifact:
    recipe = build_recipe(CorpusRecipe, values, origin="test")
    return build_corpus(make_plan(recipe, open_store(str(root)), raw_inputs=fingerprint_inputs(recipe)))


def file_hashes(corpus: Artifact) -> dict[str, str]:
    return {entry.path: entry.sha256 for entry in corpus.manifest.files}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_pubmed(folder / "pubmed")
    (folder / "codes.txt").write_text("".join(f"{line.replace(' ', '   ', 1)}\n" for line in CODES))
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def corpus(raw: Path, root: Path) -> Artifact:
    return build(recipe_values(raw), root)


def test_the_account_of_every_source_balances(corpus: Artifact) -> None:
    accounts = corpus.summary["sources"]
    for name, account in accounts.items():
        kept = sum(account["documents"].values())
        assert account["records"] == kept + sum(account["dropped"].values()) + account["quarantined"], name
    assert {name: account["records"] for name, account in accounts.items()} == {
        "notes": 150, "abstracts": 150, "icd10": len(CODES), "pubmed": 10}  # fmt: skip
    pubmed = accounts["pubmed"]
    assert pubmed["dropped"] == {"superseded": 1, "no_abstract": 1} and pubmed["quarantined"] == 2
    assert sum(pubmed["documents"].values()) == 6
    assert corpus.summary["synthetic_sources"] == ["abstracts", "notes"]


def test_quarantine_says_where_and_why_and_nothing_says_what(corpus: Artifact, root: Path) -> None:
    by_file = {entry["file"]: entry for entry in corpus.summary["quarantine"]}
    assert set(by_file) == {"a.xml", "c.xml.gz"}
    assert by_file["a.xml"]["reason"] == "no PMID" and by_file["a.xml"]["position"].startswith("record 6")
    assert "truncated" in by_file["c.xml.gz"]["reason"] and by_file["c.xml.gz"]["position"].startswith(
        "record 2, byte "
    )
    manifest = (root / corpus.prefix / "manifest.json").read_text()
    lines = (root / corpus.prefix / "quarantine.jsonl").read_text()
    assert [json.loads(line) for line in lines.splitlines()] == corpus.summary["quarantine"]
    assert all(set(e) == {"source", "file", "position", "reason", "record_id", "sha256"} for e in by_file.values())
    manifest += lines
    assert not any(word in manifest for word in CANARY.split())


def test_the_work_area_is_empty_afterwards(corpus: Artifact, root: Path) -> None:
    assert sorted(path.name for path in root.iterdir()) == ["corpus"]


def test_every_document_is_there_once_and_groups_never_lie_on_both_sides(corpus: Artifact, raw: Path) -> None:
    recipe = build_recipe(CorpusRecipe, recipe_values(raw), origin="test")
    groups: dict[int, str] = {}
    for source in recipe.sources:
        for unit in list_units(source):
            groups |= {r.key: r.group for r in read_unit(source, unit) if isinstance(r, Document)}
    assert len(set(groups.values())) < len(groups)  # several documents of one patient: else the test shows nothing
    expected = corpus.summary["sources"].values()
    for length in (64, 128):
        keys = {}
        for split in ("train", "held_out"):
            rows = PackedRows(corpus, row_length=length, split=split)
            keys[split] = set(rows.read(np.arange(len(rows))).documents_S.tolist())
            assert len(keys[split]) == sum(account["documents"][split] for account in expected)
        assert keys["train"] | keys["held_out"] <= set(groups)
        assert not {groups[key] for key in keys["train"]} & {groups[key] for key in keys["held_out"]}


def test_shards_are_byte_equal_for_any_number_of_workers(corpus: Artifact, raw: Path, tmp_path: Path) -> None:
    alone = build(recipe_values(raw, scaling={"num_cpus": 1}), tmp_path)
    both = build(recipe_values(raw, scaling={"num_cpus": 2}), tmp_path / "both")
    assert alone.manifest.id == both.manifest.id == corpus.manifest.id
    assert file_hashes(alone) == file_hashes(both) == file_hashes(corpus)
    assert len(corpus.summary["rows"]["128"]["train"]) > 2  # several shards, or their order could not go wrong


def test_a_build_killed_after_parsing_does_not_parse_again(
    corpus: Artifact, raw: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe_path, root, log_path = tmp_path / "mini.yaml", tmp_path / "store", tmp_path / "log"
    recipe_path.write_text(yaml.safe_dump(recipe_values(raw)))
    work = root / "work" / "corpus" / corpus.manifest.id
    num_units = len(list((raw / "pubmed").iterdir())) + 3

    def parsed() -> dict[Path, tuple[int, int]]:
        files = [path for step in ("parsed", "documents", "hashes") for path in (work / step).glob("0*")]
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}

    command = [sys.executable, "jobs/build_corpus.py", str(recipe_path), "--root", str(root)]
    with log_path.open("wb") as log:
        job = subprocess.Popen(command, cwd=repository, env=os.environ, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while len(list(work.glob("parsed/0*.json"))) < num_units:
            assert job.poll() is None and time.monotonic() < deadline, log_path.read_text()[-4000:]
            time.sleep(0.01)
    finally:
        kill_with_all_it_started(job)
    before = parsed()
    assert len(before) == 3 * num_units
    assert list_artifacts(open_store(str(root)), "corpus") == []

    monkeypatch.setattr(WorkArea, "clear", lambda area: None)  # what the second attempt did must stay to be looked at
    resumed = build(recipe_values(raw), root)
    assert parsed() == before
    assert file_hashes(resumed) == file_hashes(corpus)
    assert resumed.summary == corpus.summary


def evaluation_sets(folder: Path) -> tuple[list[str], list[str]]:
    """Write a PubMed-RCT, a CoNLL and a brat set; return texts that overlap with each, and texts that nearly do."""
    words = [[f"{kind}{n}" for n in range(30)] for kind in ("rct", "ner", "note")]
    folder.mkdir()
    sentences = " ".join(words[0][:15]), " ".join(words[0][15:])
    (folder / "test.txt").write_text(f"###77\nMETHODS\t{sentences[0]}\nRESULTS\t{sentences[1]}\n\n")
    (folder / "devel.tsv").write_text("\n".join(f"{word}\tO" for word in words[1]) + "\n\n")
    (folder / "9.txt").write_text(" ".join(words[2]))
    (folder / "9.ann").write_text("T1\tDisease 0 5\tnote0\n")
    # Thirteen words in a row, over the border of two sentences; in capitals and with commas; twelve do not count.
    planted = [" ".join(w[9:22]) for w in words]
    planted[1] = ", ".join(words[1][9:22]).upper()
    return planted, [" ".join(w[9:21]) for w in words]


def test_a_document_that_holds_words_of_an_evaluation_set_is_dropped_and_its_neighbours_stay(tmp_path: Path) -> None:
    planted, near = evaluation_sets(tmp_path / "sets")
    rows = {f"bad{n}": f"The patient felt well. {text} He went home." for n, text in enumerate(planted)}
    rows |= {f"good{n}": f"The patient felt ill. {text} She stayed for days." for n, text in enumerate(near)}
    rows |= {f"other{n}": f"Note {n} says that nothing else of interest was found." for n in range(20)}
    (tmp_path / "notes.csv").write_text("id,text\n" + "".join(f'{key},"{text}"\n' for key, text in rows.items()))
    source = {
        "type": "table",
        "name": "notes",
        "path": str(tmp_path / "notes.csv"),
        "text_column": "text",
        "id_column": "id",
    }
    values = recipe_values(tmp_path, sources=[source], decontamination={"paths": [str(tmp_path / "sets")]})
    values["tokenizer"] = {"base": "train", "vocabulary_size": 320}
    corpus = build(values, tmp_path / "store")
    account = corpus.summary["sources"]["notes"]
    assert account["dropped"] == {"contaminated": 3} and account["records"] == len(rows)
    kept = set()
    for split in ("train", "held_out"):
        found = PackedRows(corpus, row_length=64, split=split)
        kept |= set(found.read(np.arange(len(found))).documents_S.tolist())
    assert kept == {key_of("notes", name) for name in rows if not name.startswith("bad")}
    without = build(values | {"decontamination": {}}, tmp_path / "store")
    assert without.summary["sources"]["notes"]["dropped"] == {}


def test_what_lies_behind_damage_counts_with_the_quarantined(tmp_path: Path) -> None:
    """One of 3,001 citations is quarantined, and the half of them that follows it in the file is lost."""
    words = np.random.default_rng(0)
    articles = [
        citation(str(n), " ".join("".join(words.choice(list("abcdefghij"), 6)) for _ in range(12))) for n in range(6000)
    ]
    broken = "".join(articles[:3000]) + "<PubmedArticle></PMID>" + "".join(articles[3000:])
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "pubmed26n0001.xml.gz").write_bytes(
        gzip.compress(f"<PubmedArticleSet>{broken}</PubmedArticleSet>".encode())
    )
    source = {"type": "pubmed", "name": "pubmed", "path": str(tmp_path / "raw")}
    values = recipe_values(tmp_path, sources=[source], max_quarantined_fraction=0.2)
    store = tmp_path / "store"
    with pytest.raises(CorpusError, match=r"1 of 3001 records had to be quarantined and about (\d+) more") as refused:
        build(values, store)
    lost = int(re.findall(r"about (\d+) more", str(refused.value))[0])
    assert 1800 < lost < 3100
    assert list(open_store(str(store)).walk("")) == []  # a refused build leaves nothing behind


def test_the_area_of_a_build_that_was_killed_after_its_manifest_goes_with_the_next_build(
    corpus: Artifact, raw: Path, root: Path
) -> None:
    left = WorkArea(open_store(str(root)).uri, f"work/corpus/{corpus.manifest.id}")
    going_on = WorkArea(open_store(str(root)).uri, "work/corpus/other-0123456789ab")
    for area in (left, going_on):
        area.put_bytes(b"{}", "parsed/000000.json")
    values = recipe_values(raw, sources=[{"type": "synthetic_notes", "name": "notes", "num_documents": 30}])
    build(values | {"name": "next"}, root)
    assert left.done("parsed/000000", dict) is None and going_on.done("parsed/000000", dict) == {}
    going_on.clear()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"filters": {"min_characters": 1_000_000}},
            r"error: source pubmed: no document is left of 10 records: dropped \{'too_short': 7, 'no_abstract': 1\}, "
            "quarantined 2 pubmed/a.xml record 6: no PMID",
        ),
        (
            {"max_quarantined_fraction": 0.1},
            r"error: source pubmed: 2 of 10 records had to be quarantined and about \d+ more were not read after damage, "
            "more than max_quarantined_fraction=0.1 allows: pubmed/a.xml record 6",
        ),
    ],
    ids=["nothing is kept", "too much is quarantined"],
)
def test_a_build_that_cannot_succeed_exits_with_2_and_says_why(
    changes: dict[str, Any], message: str, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = recipe_values(raw, max_quarantined_fraction=0.9) | changes
    values["sources"] = [source for source in values["sources"] if source["name"] == "pubmed"]
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(SystemExit) as stop:
        main(
            CorpusRecipe,
            build_corpus,
            raw_inputs=fingerprint_inputs,
            arguments=[str(tmp_path / "bad.yaml"), "--root", str(tmp_path / "store")],
        )
    assert stop.value.code == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and re.search(message, errors[0])
    assert CANARY not in errors[0]
    assert list_artifacts(open_store(str(tmp_path / "store")), "corpus") == []


def test_the_folder_of_a_hospital_is_one_corpus_of_the_same_patients(tmp_path: Path) -> None:
    write_hospital(tmp_path / "hospital", num_patients=30)
    shipped = (
        (RECIPES / "corpus" / "hospital.yaml").read_text().replace("path: hospital/", f"path: {tmp_path}/hospital/")
    )
    recipe = build_recipe(
        CorpusRecipe, yaml.safe_load(shipped), overrides=["tokenizer.vocabulary_size=2048"], origin="hospital"
    )
    found = build_corpus(make_plan(recipe, open_store(str(tmp_path / "store")), raw_inputs=fingerprint_inputs(recipe)))
    patients = [source.name for source in recipe.sources if source.name != "abstracts"]
    groups: dict[str, set[str]] = {}
    for source in recipe.sources:
        records = [record for unit in list_units(source) for record in read_unit(source, unit)]
        groups[source.name] = {record.group for record in records if isinstance(record, Document)}
        account = found.summary["sources"][source.name]
        assert account["records"] == len(records) and not account["quarantined"] and not account["lost"]
    assert all(groups[name] == {f"patient:{12_345 + n}" for n in range(30)} for name in patients)
    held_out = {name: sum(is_held_out(group, recipe.held_out) for group in groups[name]) for name in patients}
    assert len(set(held_out.values())) == 1
    assert "| fhir_events | 30 |" in found.file("card.md").read_text()
