"""Models in a store, for tests that serve them or embed with them."""

from pathlib import Path

from clinical_modernbert.artifacts import InputEntry, Manifest, open_store, upload_folder, write_manifest
from clinical_modernbert.encoder import build_model
from clinical_modernbert.recipe.corpus import TokenizerSection
from clinical_modernbert.recipe.pretrain import ModelSection
from clinical_modernbert.tokenizer import build_tokenizer, padded_vocabulary_size, special_ids

FINGERPRINT = "0123456789ab"
CORPUS = InputEntry(name="corpus", id="corpus/notes-ba9876543210", digest="d" * 64)
TEXTS = [
    "chest pain radiating to the left arm",
    "no acute distress",
    "warfarin 5 mg daily was held. " * 12,
    "Ödem, 37.8 °C — afebrile",
    "x",
]
"""Texts that the tokenizer of ``publish_model`` was made from."""
CANARY = "Zebulon Quixworth"
"""A name that no log, span or refusal may repeat."""
LONG = "acute kidney injury " * 100
"""Longer than the model of ``publish_model`` reads on the bare server."""


def publish_model(root: Path, folder: Path, *, name: str = "tiny") -> str:
    """Publish a four-layer, 64-wide masked-language model as ``name``, saved in ``folder`` first; return its id."""
    tokenizer = build_tokenizer(
        TokenizerSection(base="train", vocabulary_size=512), TEXTS * 3, clinical_words=frozenset()
    )
    model = build_model(
        ModelSection(hidden_size=64, intermediate_size=96, num_layers=4, num_heads=4, max_position_embeddings=512),
        vocabulary_size=padded_vocabulary_size(tokenizer),
        special_ids=special_ids(tokenizer),
        seed=3,
    )
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return publish_folder(root, folder, name=name, inputs=(CORPUS,))


def publish_folder(root: Path | str, folder: Path, *, name: str = "tiny", inputs: tuple[InputEntry, ...] = ()) -> str:
    """Publish ``folder``, which holds ``model/``, as the model artifact ``name``; return its id."""
    store, model_id = open_store(str(root)), f"{name}-{FINGERPRINT}"
    manifest = Manifest(
        kind="model",
        id=model_id,
        fingerprint=FINGERPRINT,
        format_version=1,
        recipe={},
        inputs=inputs,
        summary={},
        files=upload_folder(store, f"model/{model_id}", folder),
    )
    write_manifest(store, f"model/{model_id}", manifest)
    return model_id
