"""A tiny corpus and a tiny model, made in seconds from generated sentences, for every test that needs one."""

import atexit
import shutil
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clinical_modernbert.artifacts import (
    Artifact,
    FileEntry,
    Plan,
    Store,
    make_plan,
    open_store,
    resolve,
    upload,
    upload_folder,
)
from clinical_modernbert.corpus import SPLITS
from clinical_modernbert.corpus.packing import pack_documents
from clinical_modernbert.corpus.shards import TokenTable, id_dtype, render_rows, shard_path
from clinical_modernbert.encoder import build_model, save_model
from clinical_modernbert.recipe import CorpusRecipe, PretrainRecipe, build_recipe
from clinical_modernbert.recipe.corpus import TokenizerSection
from clinical_modernbert.recipe.pretrain import ModelSection
from clinical_modernbert.tokenizer import build_tokenizer, padded_vocabulary_size, save_tokenizer, special_ids
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedTokenizerFast,
)

DRUGS = ("warfarin", "metformin", "lisinopril", "furosemide", "insulin", "heparin")
_PLACES = ("ward", "clinic", "theatre", "hospital")


def tiny_texts(num_documents: int, *, seed: int = 0) -> list[str]:
    """Return sentences with enough pattern for a model to learn something in a few steps."""
    rng = np.random.default_rng(seed)
    texts = []
    for _ in range(num_documents):
        sentences = [
            f"The patient took {rng.choice(DRUGS)} {rng.integers(1, 9)} mg daily in the {rng.choice(_PLACES)}."
            for _ in range(rng.integers(1, 12))
        ]
        texts.append(" ".join(sentences))
    return texts


def publish_tiny_corpus(
    store: Store,
    *,
    row_lengths: tuple[int, ...] = (64,),
    num_documents: int = 120,
    name: str = "tiny",
    seed: int = 0,
    texts: tuple[str, ...] = (),
) -> Artifact:
    """Publish a corpus artifact of two sources with the real shard format; drugs are the salient tokens.

    Built once a process: every test that needs one gets the same files. Corpora that differ in ``seed`` have other texts and the
    same tokenizer, those that differ in ``num_documents`` another one. ``texts`` replaces the generated documents.
    """
    generated = tuple(tiny_texts(num_documents, seed=seed))
    built = _built_corpus(row_lengths, name, texts or generated, texts or tuple(tiny_texts(num_documents)))
    for item in built.store.walk(built.prefix):
        store.write_bytes(item.key, built.store.read_bytes(item.key))
    return resolve(store, "corpus", built.manifest.id)


@cache
def _built_corpus(
    row_lengths: tuple[int, ...], name: str, texts: tuple[str, ...], tokenizer_texts: tuple[str, ...]
) -> Artifact:
    folder = tempfile.mkdtemp(prefix="tiny-corpus-")
    atexit.register(shutil.rmtree, folder)
    store = open_store(folder)
    section = TokenizerSection(base="train", vocabulary_size=512, num_clinical_tokens=0)
    tokenizer = build_tokenizer(section, tokenizer_texts, clinical_words=set())
    return _build_corpus(store, row_lengths=row_lengths, name=name, texts=texts, tokenizer=tokenizer)


def _build_corpus(
    store: Store,
    *,
    row_lengths: tuple[int, ...],
    name: str,
    texts: tuple[str, ...],
    tokenizer: PreTrainedTokenizerFast,
) -> Artifact:
    num_documents = len(texts)
    recipe = CorpusRecipe.model_validate(
        {
            "name": name,
            "sources": [
                {"type": "synthetic_notes", "name": s, "num_documents": num_documents} for s in ("right", "left")
            ],
            "packing": {"sequence_lengths": list(row_lengths)},
        }
    )
    plan = make_plan(recipe, store)
    size, roles = padded_vocabulary_size(tokenizer), special_ids(tokenizer)
    drug_ids = {i for drug in DRUGS for i in tokenizer(f" {drug}", add_special_tokens=False)["input_ids"]}
    files: list[FileEntry] = []
    rows: dict[str, dict[str, list[int]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        save_tokenizer(tokenizer, Path(folder) / "tokenizer")
        files += upload_folder(store, plan.prefix, Path(folder) / "tokenizer", below="tokenizer")
        unigram = np.zeros((2, size), dtype=np.int64)
        for split in SPLITS:
            chosen = [n for n in range(num_documents) if (n % 5 == 0) == (split == "held_out")]
            encoded = [tokenizer(texts[n], add_special_tokens=False)["input_ids"] for n in chosen]
            flat = np.array([i for ids in encoded for i in ids], dtype=id_dtype(size))
            sources = np.array([n % 2 for n in chosen])
            lengths = np.array([len(ids) for ids in encoded])
            if split == "train":
                np.add.at(unigram, (np.repeat(sources, lengths), flat), 1)
            table = TokenTable(
                ids_N=flat,
                salient_N=np.isin(flat, list(drug_ids)),
                lengths_D=lengths,
                sources_D=sources,
                keys_D=np.array(chosen, dtype=np.uint64),
            )
            for row_length in row_lengths:
                pieces, packed = pack_documents(table.lengths_D, row_length=row_length)
                arrays = render_rows(
                    table,
                    pieces,
                    packed,
                    row_length=row_length,
                    cls_id=roles["cls"],
                    sep_id=roles["sep"],
                    pad_id=roles["pad"],
                )
                for part, array in arrays.items():
                    path = Path(folder) / f"{part}.npy"
                    np.save(path, array, allow_pickle=False)
                    files.append(upload(store, plan.prefix, shard_path(row_length, split, 0, part), path))
                rows.setdefault(str(row_length), {})[split] = [len(packed)]
        np.save(Path(folder) / "unigram.npy", unigram, allow_pickle=False)
        files.append(upload(store, plan.prefix, "unigram.npy", Path(folder) / "unigram.npy"))
    summary = {"rows": rows, "vocabulary_size": size, "sources": {"right": {}, "left": {}}}
    return plan.publish(files, summary=summary)


TINY_PRETRAIN: dict[str, Any] = {
    "kind": "pretrain",
    "name": "tiny",
    "corpus": "tiny",
    "model": {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_layers": 2,
        "num_heads": 4,
        "local_attention": 16,
        "max_position_embeddings": 256,
    },
    "optimizer": {"learning_rate": 3e-3},
    "training": {"sequence_length": 64, "num_steps": 12, "batch_rows": 16, "precision": "float32"},
    "held_out_loss": {"max_rows": 8},
    "scaling": {"num_workers": 1, "micro_batch_rows": 8, "engine": "torch"},
    "checkpoint": {"every_steps": 4},
    "logging": {"every_steps": 1},
}


def tiny_pretrain_plan(store: Store, *overrides: str, corpus: str = "tiny", name: str = "tiny") -> Plan:
    """Return the plan of a two-layer, 64-wide model on the tiny corpus; one worker with the torch engine by default."""
    values = {**TINY_PRETRAIN, "corpus": corpus, "name": name}
    return make_plan(build_recipe(PretrainRecipe, values, overrides=overrides, origin="tiny"), store)


def save_tiny_model(folder: Path, *, texts: Sequence[str] = ("chest pain", "warfarin 5 mg daily")) -> None:
    """Save a two-layer, 32-wide model with random weights and a tokenizer of ``texts``, as training exports them."""
    section = TokenizerSection(base="train", vocabulary_size=320, num_clinical_tokens=0)
    tokenizer = build_tokenizer(section, texts, clinical_words=frozenset())
    model = build_model(
        ModelSection(hidden_size=32, intermediate_size=32, num_layers=2, num_heads=2, max_position_embeddings=512),
        vocabulary_size=padded_vocabulary_size(tokenizer),
        special_ids=special_ids(tokenizer),
        seed=0,
    )
    save_model(model, tokenizer, folder)


def save_tiny_classifier(
    folder: Path,
    *,
    head: str,
    labels: Sequence[str],
    problem_type: str | None = None,
    pooling: str = "cls",
    texts: Sequence[str] = ("chest pain", "warfarin 5 mg daily"),
) -> None:
    """Save a classifier over the tiny model as transformers' Auto classes save one: ``head`` is ``sequence`` or ``token``."""
    save_tiny_model(folder, texts=texts)
    kind = AutoModelForSequenceClassification if head == "sequence" else AutoModelForTokenClassification
    torch.manual_seed(1)
    model = kind.from_pretrained(
        folder,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        problem_type=problem_type,
        classifier_pooling=pooling,
        attn_implementation="sdpa",
    )
    model.classifier.weight.data.normal_()  # far from ties
    model.save_pretrained(folder)
