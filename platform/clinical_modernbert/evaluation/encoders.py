"""Which encoder is meant: a baseline by name, a hub id in the offline cache, a folder, or a model artifact of any store.

Resolves to a local folder and a digest of its content, so that a result never depends on a name whose weights were replaced.
Loads no torch: a dry run comes through here. Nothing is unpickled: a folder without safetensors is refused.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clinical_modernbert.artifacts import Artifact, find_artifact, open_store
from clinical_modernbert.errors import ModelError
from clinical_modernbert.recipe.tasks import EncoderSection

_FILES = ("*.safetensors", "*.json", "*.txt", "*.model")


@dataclass(frozen=True, slots=True)
class Baseline:
    """A published encoder."""

    hub_id: str
    max_tokens: int
    """Its limit, [CLS] and [SEP] included."""


# Table 6's encoders, Figure 3's DistilBERT, and the true anchor of continued pretraining (docs/evaluation.md).
BASELINES = {
    "bert-base-uncased": Baseline("google-bert/bert-base-uncased", 512),
    "biobert": Baseline("dmis-lab/biobert-base-cased-v1.2", 512),
    "bioclinicalbert": Baseline("emilyalsentzer/Bio_ClinicalBERT", 512),
    "clinical-longformer": Baseline("yikuan8/Clinical-Longformer", 4096),
    "modernbert": Baseline("answerdotai/ModernBERT-base", 8192),
    "distilbert": Baseline("distilbert/distilbert-base-uncased", 512),
    "clinical-modernbert": Baseline("Simonlee711/Clinical_ModernBERT", 8192),
    "bioclinical-modern": Baseline("thomas-sounack/BioClinical-ModernBERT-base", 8192),
}


class EncoderAbsentError(ModelError):
    """A baseline is not on this machine: the report skips it and says so."""


@dataclass(frozen=True, slots=True)
class LocalEncoder:
    """An encoder whose files are on this machine."""

    name: str
    folder: Path
    """A Hugging Face directory: safetensors, config.json, tokenizer."""
    digest: str
    """sha256 over the files."""
    origin: str
    """Hub id, folder or artifact, for the report."""
    max_tokens: int
    architecture: str
    """``model_type`` of its config."""
    pooling: str
    artifact: Artifact | None = None
    """The artifact it comes from, where it is one."""


def resolve_encoder(section: EncoderSection) -> LocalEncoder:
    """Find the encoder's files; ``ModelError`` where they are absent or unsafe, ``EncoderAbsentError`` for a baseline."""
    source, limit = section.source, None
    if source is None:
        baseline = BASELINES.get(section.name)
        if baseline is None:
            raise ModelError(
                f"encoders[{section.name}].source: required, for {section.name!r} is no baseline; "
                f"baselines are {', '.join(BASELINES)}"
            )
        source, limit = baseline.hub_id, baseline.max_tokens
    if "://" in source:
        artifact = _artifact(section.name, source)
        return _local(section, artifact.folder("model"), f"model/{artifact.manifest.id}", artifact=artifact)
    folder = Path(source)
    if folder.is_dir():
        return _local(section, folder, source)
    try:
        return _local(section, _cached(section.name, source, section.revision), source, limit=limit)
    except _NotCachedError:
        message = (
            f"encoders[{section.name}].source: {source!r} is no folder and its files are not in the offline cache; fetch them "
            f"once where there is a network: hf download {source}"
        )
        raise (EncoderAbsentError if limit else ModelError)(message) from None


def artifact_encoder(name: str, artifact: Artifact) -> EncoderSection:
    """Return the section of a model in a store."""
    return EncoderSection(name=name, source=artifact.uri)


def _artifact(name: str, uri: str) -> Artifact:
    root, _, artifact_id = uri.rstrip("/").rpartition("/model/")
    artifact = find_artifact(open_store(root), "model", artifact_id) if root else None
    if artifact is None:
        raise ModelError(
            f"encoders[{name}].source: {uri} is no finished model; expected <store>/model/<name>-<fingerprint>"
        )
    return artifact


class _NotCachedError(Exception):
    pass


def _cached(name: str, hub_id: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=list(_FILES)))
    except HFValidationError:
        raise ModelError(f"encoders[{name}].source: {hub_id!r} is neither a folder nor a hub id") from None
    except (LocalEntryNotFoundError, HfHubHTTPError):
        raise _NotCachedError from None


def _local(
    section: EncoderSection, folder: Path, origin: str, *, limit: int | None = None, artifact: Artifact | None = None
) -> LocalEncoder:
    config_path = folder / "config.json"
    if not config_path.is_file() or not list(folder.glob("*.safetensors")):
        message = (
            f"encoders[{section.name}].source: {origin} needs config.json and *.safetensors; pickled weights are not loaded: "
            "convert them once (docs/evaluation.md)"
        )
        # A baseline's repository may have pickled weights only: no reason to give up the other encoders.
        raise (EncoderAbsentError if limit else ModelError)(message)
    config: dict[str, Any] = json.loads(config_path.read_text(encoding="utf-8"))
    own = limit or _limit(config)
    if section.max_tokens is not None and section.max_tokens > own:
        raise ModelError(
            f"encoders[{section.name}].max_tokens: {section.max_tokens} is beyond the model's limit of {own}"
        )
    return LocalEncoder(
        name=section.name,
        folder=folder,
        digest=artifact.manifest.digest if artifact else folder_digest(folder),
        origin=origin,
        max_tokens=section.max_tokens or own,
        architecture=str(config.get("model_type", "unknown")),
        pooling=section.pooling,
        artifact=artifact,
    )


def _limit(config: dict[str, Any]) -> int:
    positions = int(config.get("max_position_embeddings", 512))
    # RoBERTa's family (Longformer too) numbers positions from the padding id on: two of them hold no token.
    return (
        positions - 2
        if config.get("model_type") in ("roberta", "longformer", "xlm-roberta", "camembert")
        else positions
    )


def folder_digest(folder: Path) -> str:
    """Return the sha256 over the model files of a folder, by name and content."""
    total = hashlib.sha256()
    for path in sorted({path for pattern in _FILES for path in folder.glob(pattern)}):
        with path.open("rb") as stream:
            total.update(f"{path.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()
