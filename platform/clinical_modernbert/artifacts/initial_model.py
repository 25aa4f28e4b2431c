"""The model from which a training run starts: found, identified by its content, and opened on any machine. Loads no torch.

A source is a model of the store by id or name, the address of one in any store, a folder, a folder of an installed package
(``package:<name>/<folder>``), or a hub id with an optional revision (``answerdotai/ModernBERT-base@<commit>``). The driver finds
it once; its digest is part of the run's fingerprint, so a folder whose weights were replaced, or a hub repository that moved on,
gives another run. A worker opens what the driver found.
"""

import hashlib
import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from clinical_modernbert.artifacts.artifact import Artifact, find_artifact, resolve
from clinical_modernbert.artifacts.manifest import InputEntry
from clinical_modernbert.artifacts.open import open_store
from clinical_modernbert.artifacts.store import Store
from clinical_modernbert.errors import AbsentArtifactError, ArtifactError, ModelError, RecipeError

MODEL_FILES = ("*.safetensors", "*.json", "*.txt", "*.model")
# How a sentence-transformers model makes one vector of a text. Patterns of the hub match folders too, those of glob do not.
_POOLING = "1_Pooling/*.json"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_IN_STORE = "model/"
_PACKAGE = "package:"


def find_model(source: str, store: Store, *, field: str) -> InputEntry:
    """Return the model that ``source`` names, as an input; raises ``RecipeError`` with the field's name."""
    if "://" in source:
        artifact = at_address(source)
        if artifact is None:
            raise RecipeError(f"{field}: {source} is not a finished model; expected <store>/model/<name>-<fingerprint>")
        return InputEntry(name=field, id=artifact.uri, digest=artifact.manifest.digest)
    if source.startswith(_PACKAGE):
        return InputEntry(name=field, id=source, digest=folder_digest(_package_folder(source, field=field)))
    if Path(source).is_dir():
        folder = Path(source).absolute()
        return InputEntry(name=field, id=str(folder), digest=folder_digest(folder))
    name = source.removeprefix(_IN_STORE)
    if "/" not in name:
        try:
            artifact = resolve(store, "model", name)
        except ArtifactError as error:
            # Kept apart, because a job can wait for a model that is not finished yet.
            kind = AbsentArtifactError if isinstance(error, AbsentArtifactError) else RecipeError
            raise kind(f"{field}: {source!r} is not a folder here, and {error}") from None
        return InputEntry(name=field, id=f"{_IN_STORE}{artifact.manifest.id}", digest=artifact.manifest.digest)
    hub_id, _, revision = source.partition("@")
    commit = _hub_commit(hub_id, revision or None, field=field)
    address = f"{hub_id}@{commit}"
    # A commit names its content, so that a plan needs no download.
    return InputEntry(name=field, id=address, digest=hashlib.sha256(address.encode()).hexdigest())


def open_model(model: InputEntry, store: Store) -> Path:
    """Return a local folder with the model's files: of an artifact verified, of a hub id fetched, of a folder unchanged."""
    if model.id.startswith(_IN_STORE):
        artifact = find_artifact(store, "model", model.id.removeprefix(_IN_STORE))
    elif "://" in model.id:
        artifact = at_address(model.id)
    elif model.id.startswith(_PACKAGE):
        return _unchanged(model, _package_folder(model.id, field=model.name))
    elif Path(model.id).is_absolute():
        return _unchanged(model, Path(model.id))
    else:
        return _fetched(model)
    if artifact is None or artifact.manifest.digest != model.digest:
        raise ModelError(f"{model.name}: {model.id} was deleted or replaced after the run was planned")
    return artifact.folder("model")


def model_config(model: InputEntry, store: Store) -> dict[str, Any] | None:
    """Return the config.json of a model; None for one of the hub, which is not fetched for it.

    Raises ``RecipeError`` for a folder that holds no model.
    """
    if model.id.startswith(_PACKAGE) or Path(model.id).is_absolute():
        folder = _package_folder(model.id, field=model.name) if model.id.startswith(_PACKAGE) else Path(model.id)
        if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
            raise RecipeError(f"{model.name}: {folder} holds no model: config.json and *.safetensors are needed")
        path = folder / "config.json"
    elif model.id.startswith(_IN_STORE) or "://" in model.id:
        in_store = model.id.startswith(_IN_STORE)
        artifact = find_artifact(store, "model", model.id.removeprefix(_IN_STORE)) if in_store else at_address(model.id)
        if artifact is None:
            return None  # deleted a moment ago; the run says so
        path = artifact.file("model/config.json")
    else:
        return None
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise RecipeError(f"{model.name}: config.json of {model_name(model)} is not JSON") from None
    return values


def folder_digest(folder: Path) -> str:
    """Return the sha256 over the model files of a folder, by name and content."""
    total = hashlib.sha256()
    for path in sorted({path for pattern in (*MODEL_FILES, _POOLING) for path in folder.glob(pattern)}):
        with path.open("rb") as stream:
            total.update(
                f"{path.relative_to(folder).as_posix()} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode()
            )
    return total.hexdigest()


def model_name(model: InputEntry) -> str:
    """Return a model's name for people: the last part of a path or address, which tells nothing of the machine."""
    return id_on_hub(model) or (model.id if model.id.startswith(_PACKAGE) else model.id.rpartition("/")[2])


def id_on_hub(model: InputEntry) -> str | None:
    """Return the model's id on the hub without its commit; None if it is not of the hub."""
    name, _, commit = model.id.partition("@")
    return name if _COMMIT.fullmatch(commit) else None


def at_address(uri: str) -> Artifact | None:
    """Return the model at ``<store>/model/<id>``; its folder ``/model`` below that is accepted too."""
    root, _, artifact_id = uri.rstrip("/").removesuffix("/model").rpartition("/model/")
    return find_artifact(open_store(root), "model", artifact_id) if root else None


def _package_folder(source: str, *, field: str) -> Path:
    name, _, below = source.removeprefix(_PACKAGE).partition("/")
    package = find_spec(name) if name.isidentifier() else None
    folder = Path(package.origin).parent / below if package and package.origin else None
    if folder is None or not folder.is_dir():
        raise RecipeError(f"{field}: {source!r} is not a folder of a package that is installed here")
    return folder


def _unchanged(model: InputEntry, folder: Path) -> Path:
    if not folder.is_dir():
        raise ModelError(
            f"{model.name}: {folder} is not on this worker; use a folder that every node has, a model of the store or a hub id"
        )
    if folder_digest(folder) != model.digest:
        raise ModelError(f"{model.name}: the files in {folder} differ from those that the run was planned with")
    return folder


def _hub_commit(hub_id: str, revision: str | None, *, field: str) -> str:
    """Return the commit of a revision: from the hub, or from the local cache if the hub does not answer."""
    if revision and _COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    try:
        # The smallest file: its place in the cache, .../snapshots/<commit>/config.json, names the commit.
        return Path(hf_hub_download(hub_id, "config.json", revision=revision)).parent.name
    except HFValidationError:
        raise RecipeError(f"{field}: {hub_id!r} is neither a folder nor a model of the store nor a hub id") from None
    except OSError as error:  # absent, not accessible, or the hub is away and the cache lacks it
        raise RecipeError(
            f"{field}: cannot load {hub_id!r}: it is no folder here, and neither the hub nor its cache gives it "
            f"({type(error).__name__})"
        ) from None


def _fetched(model: InputEntry) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    hub_id, _, commit = model.id.partition("@")
    try:
        return Path(snapshot_download(hub_id, revision=commit, allow_patterns=list(MODEL_FILES)))
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise ModelError(
            f"{model.name}: cannot load {model.id} from the hub or the hub cache ({type(error).__name__})"
        ) from None
