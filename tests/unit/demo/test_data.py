"""Real files are found by their place in the folder, in a fixed order; what is absent is left out."""

from pathlib import Path

import pytest
from clinical_modernbert.demo.data import real_sources
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe import CorpusRecipe, build_recipe

FILES = {
    "codes/icd9cm/CMS32_DESC_LONG_DX.txt.gz": "icd9",
    "codes/icd10cm/icd10cm-codes-2024.txt.gz": "icd10",
    "notes/mtsamples/mtsamples_322.csv": "mtsamples",
    "notes/aci-bench/train.csv": "aci_bench",
    "notes/mts-dialog/MTS-Dialog-TrainingSet.csv": "mts_dialog",
    "mimic-iv-note/discharge.csv.gz": "mimic_note",
    "pubmed/a.xml": "pubmed",
}


def lay_out(folder: Path, *files: str) -> Path:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return folder


def test_every_known_file_becomes_a_source_of_a_valid_recipe(tmp_path: Path) -> None:
    sources = real_sources(lay_out(tmp_path, *FILES))
    names = ["pubmed", "mimic_note", "aci_bench", "mts_dialog", "mtsamples", "icd9", "icd10"]
    assert [source.name for source in sources] == names
    values = [source.model_dump(mode="json", exclude_unset=True) for source in sources]
    recipe = build_recipe(CorpusRecipe, {"kind": "corpus", "name": "x", "sources": values}, origin="test")
    assert list(recipe.sources) == sources
    epochs = {source.name: source.epochs for source in recipe.sources}
    assert epochs["pubmed"] == epochs["aci_bench"] == 4 and epochs["icd10"] == 0.2


@pytest.mark.parametrize(("file", "name"), FILES.items())
def test_one_file_gives_one_source(tmp_path: Path, file: str, name: str) -> None:
    (source,) = real_sources(lay_out(tmp_path, file, "notes/unknown/notes.csv", "README.md"))
    assert source.name == name and Path(source.model_dump()["path"]).exists()


def test_a_folder_without_any_known_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"holds none of pubmed/, notes/"):
        real_sources(lay_out(tmp_path, "notes/unknown/notes.csv"))
    with pytest.raises(SourceError, match=r"nowhere is not a folder"):
        real_sources(tmp_path / "nowhere")


def test_the_layout_of_the_real_folder_is_known(shared_data: Path) -> None:
    names = {source.name for source in real_sources(shared_data)}
    assert names >= {"pubmed", "aci_bench", "mts_dialog", "mtsamples", "icd9", "icd10"}
