"""The model of one replica: loaded from the store, checked against its manifest, warm before it is asked.

``model/`` below a model artifact holds safetensors and JSON; nothing is unpickled, and a file that differs from the manifest
is refused. The engine is what a bare ASGI server and Ray Serve have in common.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from clinical_modernbert import __version__
from clinical_modernbert.artifacts import Manifest, open_store, resolve
from clinical_modernbert.encoder import Encoder, check_pooling, load_export
from clinical_modernbert.recipe import ServeRecipe
from clinical_modernbert.recipe.heads import HeadKind
from clinical_modernbert.serving.forward import Work, run_batch
from clinical_modernbert.serving.heads import labels_of
from clinical_modernbert.serving.schemas import ClassifierType, EmbeddingType, Info, Input, Limits, ModelType

MODEL_FOLDER = "model"
_WARM_UP_TOKENS = (8, 512)


@dataclass(frozen=True, slots=True)
class Engine:
    """An encoder with its identity and the recipe that it is served by."""

    encoder: Encoder
    manifest: Manifest
    recipe: ServeRecipe

    @property
    def head(self) -> HeadKind:
        """What stands on the encoder, and so which of the routes beyond vectors are answered."""
        return self.encoder.head

    @property
    def model_id(self) -> str:
        """``<name>-<fingerprint>``."""
        return self.manifest.id

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of a classification head; none of any other model."""
        return labels_of(self.encoder.model) if self.head in ("sequence", "token") else ()

    @property
    def problem(self) -> str | None:
        """What a sequence head was trained for, by transformers' name."""
        problem: str | None = self.encoder.model.config.problem_type
        return problem

    @property
    def max_tokens(self) -> int:
        """Longest text: the recipe's limit, or the model's where that is shorter."""
        return min(self.recipe.limits.max_tokens, self.encoder.max_tokens)

    @property
    def vocabulary_size(self) -> int:
        """Ids that the tokenizer can give; rows that pad the embedding matrix are not among them."""
        return len(self.encoder.tokenizer)

    def serves(self, name: str) -> bool:
        """Whether ``name`` is this model's id, or its name alone."""
        return name in (self.model_id, self.model_id.rpartition("-")[0])

    def compute(self, items: Sequence[Work]) -> Sequence[NDArray[np.float32]]:
        """Return one array for each text, as its work says; ``finish`` cuts and scales vectors."""
        return run_batch(self.encoder.model, list(items), pooling=self.recipe.pooling)

    def finish(
        self, vectors_ND: NDArray[np.float32], *, dimensions: int | None, normalize: bool | None = None
    ) -> NDArray[np.float32]:
        """Return vectors cut to ``dimensions`` and then scaled to unit length, where the request or else the recipe says so."""
        cut = vectors_ND[:, :dimensions]
        if not (self.recipe.normalize if normalize is None else normalize):
            return cut
        return np.asarray(cut / np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), 1e-12), dtype=np.float32)

    def warm_up(self) -> None:
        """Compute once at a short and at a longer length, so that the first client does not pay for lazy set-up."""
        cls_id, sep_id = self.encoder.tokenizer.cls_token_id, self.encoder.tokenizer.sep_token_id
        for length in _WARM_UP_TOKENS:
            filling = [sep_id] * (min(length, self.max_tokens) - 1)
            self.compute([Work([cls_id, *filling])])

    def info(self) -> Info:
        """Return the model's identity, lineage and limits."""
        manifest = self.manifest
        limits = self.recipe.limits.model_copy(update={"max_tokens": self.max_tokens})
        return Info(
            model=manifest.id,
            fingerprint=manifest.fingerprint,
            digest=manifest.digest,
            format_version=manifest.format_version,
            code_version=manifest.code_version,
            created_at=manifest.created_at,
            inputs=[Input(name=entry.name, id=entry.id, digest=entry.digest) for entry in manifest.inputs],
            hidden_size=self.encoder.hidden_size,
            pooling=self.recipe.pooling,
            normalize=self.recipe.normalize,
            num_threads=torch.get_num_threads(),
            limits=Limits(**limits.model_dump()),
            model_id=manifest.id,
            model_sha=manifest.digest,
            model_dtype=str(self.encoder.model.dtype).removeprefix("torch."),
            model_type=self._model_type(),
            head=self.head,
            labels=list(self.labels),
            max_concurrent_requests=limits.max_requests,
            max_input_length=self.max_tokens,
            max_batch_tokens=limits.max_batch_tokens,
            max_client_batch_size=limits.max_texts,
            version=__version__,
        )

    def _model_type(self) -> ModelType:
        names = self.labels
        if not names:
            return ModelType(embedding=EmbeddingType(pooling=self.recipe.pooling))
        ids = ClassifierType(id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)})
        return ModelType(classifier=ids)


def load_engine(root: str, recipe: ServeRecipe) -> Engine:
    """Load the recipe's model from the artifact store at ``root``; raises ``ArtifactError`` or ``ModelError``."""
    artifact = resolve(open_store(root), "model", recipe.model)
    check_pooling(artifact, recipe.pooling)
    encoder = load_export(artifact.folder(MODEL_FOLDER))
    return Engine(encoder=encoder, manifest=artifact.manifest, recipe=recipe)
