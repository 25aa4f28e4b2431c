"""The model from which training starts is identified by its content, and opened as it was planned."""

import shutil
from pathlib import Path

import pytest
from clinical_modernbert.artifacts import InputEntry, Store, find_model, id_on_hub, model_name, open_model, open_store
from clinical_modernbert.errors import AbsentArtifactError, ModelError, RecipeError

from tests.helpers.artifacts import Publish

FIELD = "model.init"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_replaced_weights_are_another_model(folder: Path, store: Store) -> None:
    before = find_model(str(folder), store, field=FIELD)
    (folder / "README.md").write_text("no part of the model")
    assert find_model(str(folder), store, field=FIELD) == before
    assert open_model(before, store) == folder
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert find_model(str(folder), store, field=FIELD).digest != before.digest
    with pytest.raises(ModelError, match=r"model\.init: the files in .* differ"):
        open_model(before, store)
    shutil.rmtree(folder)
    with pytest.raises(ModelError, match=r"model\.init: .* is not on this worker"):
        open_model(before, store)


def test_a_copy_of_a_folder_is_the_same_model(folder: Path, store: Store, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert find_model(str(copy), store, field=FIELD).digest == find_model(str(folder), store, field=FIELD).digest


def test_a_folder_of_a_package_is_identified_by_its_content(
    folder: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "some_package"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copytree(folder, package / "model")
    monkeypatch.syspath_prepend(tmp_path)
    found = find_model("package:some_package/model", store, field=FIELD)
    assert (found.id, model_name(found)) == ("package:some_package/model", "package:some_package/model")
    assert found.digest == find_model(str(folder), store, field=FIELD).digest
    assert open_model(found, store) == package / "model"
    (package / "model" / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(ModelError, match=r"model\.init: the files in .* differ"):
        open_model(found, store)


def test_a_model_of_a_store_has_many_addresses_and_one_identity(
    store: Store, publish: Publish, folder: Path, tmp_path: Path
) -> None:
    artifact = publish("model", "base-1f4d6bea29b5", **{"model/config": "{}"})
    addresses = (
        *("base", "base-1f4d6bea29b5", "model/base-1f4d6bea29b5"),
        *(artifact.uri, f"{artifact.uri}/", f"{artifact.uri}/model"),
    )
    found = [find_model(address, store, field=FIELD) for address in addresses]
    assert {entry.digest for entry in found} == {artifact.manifest.digest}
    assert found[0].id == "model/base-1f4d6bea29b5"
    assert {(open_model(entry, store) / "config.txt").read_text() for entry in found} == {"{}"}
    elsewhere = open_store(str(tmp_path / "elsewhere"))
    assert open_model(found[-1], elsewhere).is_dir(), "an address names its store"


def test_what_is_not_there_is_named_with_the_field(store: Store, tmp_path: Path) -> None:
    for source, message in (
        (str(tmp_path / "nowhere"), "is neither a folder nor a model of the store nor a hub id"),
        ("package:nothing/model", "'package:nothing/model' is not a folder of a package that is installed here"),
        ("package:json/model", "'package:json/model' is not a folder of a package that is installed here"),
        (f"{store.uri}/model/base-000000000000", "is not a finished model"),
        ("someone/something", r"cannot load 'someone/something': .* \(LocalEntryNotFoundError\)"),
    ):
        with pytest.raises(RecipeError, match=rf"^model\.init: .*{message}"):
            find_model(source, store, field=FIELD)


def test_a_model_that_is_not_finished_can_be_waited_for(store: Store) -> None:
    with pytest.raises(
        AbsentArtifactError, match=r"^model\.init: 'later' is not a folder here, and no model 'later' in"
    ):
        find_model("later", store, field=FIELD)


def test_a_hub_id_is_pinned_to_its_commit(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without network, from the hub's cache."""
    commit, moved = "a" * 40, "b" * 40
    repository = tmp_path / "models--someone--something"
    for number in (commit, moved):
        snapshot = repository / "snapshots" / number
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    before = find_model("someone/something", store, field=FIELD)
    assert before.id == f"someone/something@{commit}"
    assert id_on_hub(before) == model_name(before) == "someone/something"
    assert find_model(f"someone/something@{commit}", store, field=FIELD) == before
    (repository / "refs" / "main").write_text(moved)
    assert find_model("someone/something", store, field=FIELD).digest != before.digest
    with pytest.raises(ModelError, match="deleted or replaced"):
        open_model(InputEntry(name=FIELD, id="model/base-000000000000", digest="0"), store)
