"""Find the files of an encoder: a baseline by name, a hub id in the offline cache, a folder, or a model artifact of any store.

Resolves to a local folder and a digest of its content, so that a result never depends on a name whose weights were replaced.
A dry run resolves encoders too, so torch loads only when a length limit is needed. A folder without safetensors is refused:
nothing is unpickled.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from clinical_modernbert.artifacts import Artifact, find_artifact, folder_digest, open_store
from clinical_modernbert.artifacts.initial_model import MODEL_FILES
from clinical_modernbert.artifacts.vector_folder import read_vector_folder
from clinical_modernbert.errors import ModelError
from clinical_modernbert.recipe.tasks import EncoderSection
from clinical_modernbert.recipe.vocabulary import TOKENIZER_FILES, Pooling


@dataclass(frozen=True, slots=True)
class Baseline:
    """A published encoder."""

    hub_id: str
    revision: str | None = None
    """Commit that is compared, and that has safetensors where ``main`` has pickled weights only; None: whatever is newest."""


# Name -> Table 6's encoders, Figure 3's DistilBERT, and the true anchor of continued pretraining (docs/evaluation.md).
BASELINES = {
    "bert-base-uncased": Baseline("google-bert/bert-base-uncased", "86b5e0934494bd15c9632b12f734a8a67f723594"),
    "biobert": Baseline("dmis-lab/biobert-base-cased-v1.2", "67c9c25b46986521ca33df05d8540da1210b3256"),
    "bioclinicalbert": Baseline("emilyalsentzer/Bio_ClinicalBERT", "ce9e77baa79d882eeb7fc51b8e1dd580ea918a1b"),
    "clinical-longformer": Baseline("yikuan8/Clinical-Longformer", "refs/pr/1"),
    "modernbert": Baseline("answerdotai/ModernBERT-base", "8949b909ec900327062f0ebf497f51aef5e6f0c8"),
    "distilbert": Baseline("distilbert/distilbert-base-uncased", "12040accade4e8a0f71eabdb258fecc2e7e948be"),
    "clinical-modernbert": Baseline("Simonlee711/Clinical_ModernBERT"),
    "bioclinical-modern": Baseline(
        "thomas-sounack/BioClinical-ModernBERT-base", "c3648aa87af95837c809e6f0c5f85d08160db437"
    ),
}


class EncoderAbsentError(ModelError):
    """A baseline is not on this machine: the report skips it and says so."""


@dataclass(frozen=True)  # without slots: cached_property needs a __dict__
class LocalEncoder:
    """An encoder whose files are on this machine."""

    name: str
    folder: Path
    """A Hugging Face directory: safetensors, config.json, tokenizer."""
    digest: str
    """sha256 over the files."""
    origin: str
    """Hub id, folder or artifact, for the report."""
    architecture: str
    """``model_type`` of its config."""
    pooling: Pooling
    requested_max_tokens: int | None = None
    """The recipe's limit, or that of a sentence-transformers model."""
    artifact: Artifact | None = None
    """The model artifact, if the encoder is one."""
    query_prompt: str = ""
    """Text before each query of a retrieval task."""
    document_prompt: str = ""
    """Text before each document of a retrieval task."""

    @property
    def max_tokens(self) -> int:
        """Longest text in tokens, [CLS] and [SEP] included: the recipe's limit, else the model's."""
        return self.requested_max_tokens or self.model_max_tokens

    @cached_property
    def model_max_tokens(self) -> int:
        """The model's own limit."""
        from clinical_modernbert.encoder.limits import max_tokens_of_folder

        return max_tokens_of_folder(self.folder)


def resolve_encoder(section: EncoderSection) -> LocalEncoder:
    """Find the encoder's files; ``ModelError`` where they are absent or unsafe, ``EncoderAbsentError`` for a baseline."""
    is_baseline = section.source is None
    baseline = BASELINES.get(section.name) if is_baseline else None
    source = baseline.hub_id if baseline else section.source
    if source is None:
        raise ModelError(
            f"encoders[{section.name}].source: required, because {section.name!r} is not a baseline; "
            f"baselines are {', '.join(BASELINES)}"
        )
    if "://" in source:
        artifact = _artifact(section.name, source)
        return _local(section, artifact.folder("model"), f"model/{artifact.manifest.id}", artifact=artifact)
    folder = Path(source)
    if folder.is_dir():
        return _local(section, folder, source)
    revision = section.revision or (baseline.revision if baseline else None)
    try:
        folder = _cached(section.name, source, revision)
        # The cache names a snapshot by its commit: a branch or a pull request moves.
        return _local(section, folder, f"{source}@{folder.name}", is_baseline=is_baseline)
    except _NotCachedError:
        message = (
            f"encoders[{section.name}].source: {source!r} is not a folder and its files are not in the offline cache; on a "
            f"machine with network access, download them once: hf download {source}"
            f"{f' --revision {revision}' if revision else ''}"
        )
        raise (EncoderAbsentError if is_baseline else ModelError)(message) from None


def artifact_encoder(name: str, artifact: Artifact) -> EncoderSection:
    """Return the section of a model in a store."""
    return EncoderSection(name=name, source=artifact.uri)


def _artifact(name: str, uri: str) -> Artifact:
    root, _, artifact_id = uri.rstrip("/").rpartition("/model/")
    artifact = find_artifact(open_store(root), "model", artifact_id) if root else None
    if artifact is None:
        raise ModelError(
            f"encoders[{name}].source: {uri} is not a finished model; expected <store>/model/<name>-<fingerprint>"
        )
    return artifact


class _NotCachedError(Exception):
    pass


def _cached(name: str, hub_id: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=list(MODEL_FILES)))
    except HFValidationError:
        raise ModelError(f"encoders[{name}].source: {hub_id!r} is neither a folder nor a hub id") from None
    except (LocalEntryNotFoundError, HfHubHTTPError):
        raise _NotCachedError from None


def _local(
    section: EncoderSection, folder: Path, origin: str, *, is_baseline: bool = False, artifact: Artifact | None = None
) -> LocalEncoder:
    config_path = folder / "config.json"
    if not config_path.is_file() or not list(folder.glob("*.safetensors")):
        message = (
            f"encoders[{section.name}].source: {origin} needs config.json and *.safetensors; pickled weights are not loaded: "
            "convert them once (docs/evaluation.md)"
        )
        # Some baselines publish pickled weights only: skip these and evaluate the other encoders.
        raise (EncoderAbsentError if is_baseline else ModelError)(message)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(
            f"encoders[{section.name}].source: {origin} has no tokenizer; save the model's own next to it (docs/evaluation.md)"
        )
    own = read_vector_folder(folder, field=f"encoders[{section.name}].source")
    config: dict[str, Any] = json.loads(config_path.read_text(encoding="utf-8"))
    encoder = LocalEncoder(
        name=section.name,
        folder=folder,
        digest=artifact.manifest.digest if artifact else folder_digest(folder),
        origin=origin,
        architecture=str(config.get("model_type", "unknown")),
        pooling=section.pooling or own.pooling or "cls",
        requested_max_tokens=section.max_tokens or own.max_tokens,
        query_prompt=own.query_prompt if section.query_prompt is None else section.query_prompt,
        document_prompt=own.document_prompt if section.document_prompt is None else section.document_prompt,
        artifact=artifact,
    )
    if section.max_tokens is not None and section.max_tokens > encoder.model_max_tokens:
        raise ModelError(
            f"encoders[{section.name}].max_tokens: {section.max_tokens} is beyond the model's limit of "
            f"{encoder.model_max_tokens}"
        )
    return encoder
