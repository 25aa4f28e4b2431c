"""The model of one replica: loaded from the store, checked against its manifest, and warm before the first request.

The folder ``model/`` of a model artifact holds safetensors and JSON. Nothing is unpickled, and a file that differs from the
manifest is refused.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.artifacts import Manifest, open_store, resolve
from clinical_modernbert.encoder import Encoder, load_export, pooling_of
from clinical_modernbert.encoder.spans import labels_of
from clinical_modernbert.errors import ModelError
from clinical_modernbert.recipe import ServeRecipe
from clinical_modernbert.recipe.vocabulary import HeadKind, Pooling
from clinical_modernbert.serving.forward import EncodeTask, run_batch

MODEL_FOLDER = "model"
_PROMPTS_FILE = "config_sentence_transformers.json"
_WARM_UP_TOKENS = (8, 512)
_BATCH_S = 1.0
# Bounds of a batch that is derived from the speed, and its size while no speed is known.
_BATCH_TOKENS, _DEFAULT_BATCH_TOKENS = (256, 16_384), 2048


@dataclass(frozen=True, slots=True)
class Prompts:
    """Texts that a model was trained to see before its input, such as ``query: ``, as sentence-transformers stores them."""

    texts: Mapping[str, str] = field(default_factory=dict)
    """By name."""
    default: str = ""
    """What precedes a text whose request names none."""


@dataclass(frozen=True, slots=True)
class Engine:
    """An encoder with its manifest and the recipe of the endpoint."""

    encoder: Encoder
    manifest: Manifest
    recipe: ServeRecipe
    pooling: Pooling = "cls"
    """How token vectors become the vector of a text."""
    prompts: Prompts = field(default_factory=Prompts)
    tokens_per_s: float | None = None
    """Speed at a text of 512 tokens, measured by ``warm_up``."""

    @property
    def head(self) -> HeadKind:
        """Head of the model: it decides which of ``/fill-mask``, ``/predict`` and ``/token-classify`` answer."""
        return self.encoder.head

    @property
    def model_id(self) -> str:
        """``<name>-<fingerprint>``."""
        return self.manifest.id

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of a classification head; empty for other models."""
        return labels_of(self.encoder.model) if self.head in ("sequence", "token") else ()

    @property
    def problem(self) -> str | None:
        """transformers' ``problem_type`` of a sequence head: which function turns its outputs into scores."""
        problem: str | None = self.encoder.model.config.problem_type
        return problem

    @property
    def max_tokens(self) -> int:
        """Longest text: the lower of the recipe's and the model's limits."""
        return min(self.recipe.limits.max_tokens, self.encoder.max_tokens)

    @property
    def max_batch_tokens(self) -> int:
        """Tokens of a forward pass: the recipe's number, or those of a second."""
        wanted, (lowest, highest) = self.recipe.limits.max_batch_tokens, _BATCH_TOKENS
        if wanted is not None:
            return wanted
        if self.tokens_per_s is None:
            return _DEFAULT_BATCH_TOKENS
        return min(max(int(self.tokens_per_s * _BATCH_S), lowest), highest)

    @property
    def vocabulary_size(self) -> int:
        """Number of the tokenizer's ids, without rows that pad the embedding matrix."""
        return len(self.encoder.tokenizer)

    def serves(self, name: str) -> bool:
        """Whether ``name`` is this model's id, or its name alone."""
        return name in (self.model_id, self.model_id.rpartition("-")[0])

    def compute(self, tasks: Sequence[EncodeTask]) -> Sequence[NDArray[np.float32]]:
        """Return one array for each task; ``finish`` cuts and scales vectors."""
        return run_batch(self.encoder.model, list(tasks), pooling=self.pooling)

    def finish(
        self, vectors_ND: NDArray[np.float32], *, dimensions: int | None, normalize: bool | None = None
    ) -> NDArray[np.float32]:
        """Return vectors cut to ``dimensions``, then scaled to unit length if ``normalize``, by default the recipe's, is true."""
        cut = vectors_ND[:, :dimensions]
        if not (self.recipe.normalize if normalize is None else normalize):
            return cut
        return np.asarray(cut / np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), 1e-12), dtype=np.float32)

    def warm_up(self) -> "Engine":
        """Return the engine with its speed, from a short and a longer text; the first client waits for no lazy set-up."""
        cls_id, sep_id = self.encoder.tokenizer.cls_token_id, self.encoder.tokenizer.sep_token_id
        speed = 0.0
        for length in (*_WARM_UP_TOKENS, *_WARM_UP_TOKENS):
            task = EncodeTask([cls_id, *[sep_id] * (min(length, self.max_tokens) - 1)])
            started = time.perf_counter()
            self.compute([task])
            speed = len(task) / (time.perf_counter() - started)  # of the last one: long, and nothing is set up any more
        return replace(self, tokens_per_s=speed)


def load_engine(root: str, recipe: ServeRecipe) -> Engine:
    """Load the recipe's model from the artifact store at ``root``; raises ``ArtifactError`` or ``ModelError``."""
    artifact = resolve(open_store(root), "model", recipe.model)
    pooling = pooling_of(artifact, recipe.pooling)
    prompts = read_prompts(artifact.folder(MODEL_FOLDER))
    encoder = load_export(artifact.folder(MODEL_FOLDER), precision=recipe.precision, pooling=pooling)
    return Engine(encoder=encoder, manifest=artifact.manifest, recipe=recipe, pooling=pooling, prompts=prompts)


def read_prompts(folder: Path) -> Prompts:
    """Return the prompts of a model folder, none if it has no ``config_sentence_transformers.json``."""
    path = folder / _PROMPTS_FILE
    if not path.is_file():
        return Prompts()
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        texts = {str(name): str(text) for name, text in (values.get("prompts") or {}).items()}
        return Prompts(texts, texts[name] if (name := values.get("default_prompt_name")) else "")
    except (ValueError, AttributeError, KeyError) as error:
        raise ModelError(
            f"{_PROMPTS_FILE} of the model: prompts must be texts by name ({type(error).__name__})"
        ) from None
