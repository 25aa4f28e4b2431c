"""The output of a finished run: a folder that SentenceTransformer, transformers and the endpoint load, its curve and its card.

The folder holds transformers' files and the small JSON files of sentence-transformers: modules, pooling, limit, prompts (none).
Its last module scales vectors to unit length, which the endpoint does by a setting of its own.
"""

import hashlib
import json
import tempfile
from pathlib import Path
from statistics import median_high

from clinical_modernbert.artifacts import model_name, upload_folder
from clinical_modernbert.artifacts.layout import artifact_prefix
from clinical_modernbert.corpus.pairs.unseen import history_before
from clinical_modernbert.encoder import num_parameters, save_model
from clinical_modernbert.encoder.limits import max_tokens
from clinical_modernbert.recipe.contrast import VectorSection
from clinical_modernbert.recipe.vocabulary import MANIFEST_KIND
from clinical_modernbert.training.contrastive.card import vector_card
from clinical_modernbert.training.contrastive.start import ContrastRun
from clinical_modernbert.training.records import ContrastSummary, Exported
from clinical_modernbert.training.state import ContrastPoint, RunState, history_to_json

_MODULES = (("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))


def export_vectors(run: ContrastRun, state: RunState) -> Exported:
    """Upload the model with its card, and ``curve.json``; the caller writes the manifest."""
    summary = _summary(run, state)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = run.context.encoder.model
        save_model(model, run.context.encoder.tokenizer, folder / "model", dtype=run.recipe.export.dtype)
        write_sentence_transformers_files(
            folder / "model", run.recipe.vectors, width=model.config.hidden_size, limit=max_tokens(model)
        )
        card = vector_card(
            run.job.run_id,
            run.recipe,
            run.pairs,
            summary,
            initial_model=run.initial_model,
            teacher=run.teacher,
            before=history_before([entry for entry in (run.initial_model, run.teacher) if entry], run.store),
        )
        (folder / "model" / "README.md").write_text(card, encoding="utf-8")
        (folder / "curve.json").write_text(json.dumps(history_to_json(state.history)), encoding="utf-8")
        files = upload_folder(run.store, artifact_prefix("model", run.job.run_id), folder)
    return Exported(files=tuple(files), summary=summary)


def write_sentence_transformers_files(folder: Path, section: VectorSection, *, width: int, limit: int) -> None:
    """Write what ``SentenceTransformer(folder)`` reads besides transformers' own files; ``limit`` is the longest text."""
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{name}"}
        for n, (name, path) in enumerate(_MODULES)
    ]
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    chosen = "cls_token" if section.pooling == "cls" else "mean_tokens"
    pooling = {"word_embedding_dimension": width} | {f"pooling_mode_{mode}": mode == chosen for mode in modes}
    _write(folder / "modules.json", modules)
    _write(folder / "1_Pooling" / "config.json", pooling)
    _write(folder / "sentence_bert_config.json", {"max_seq_length": limit, "do_lower_case": False})
    _write(
        folder / "config_sentence_transformers.json",
        {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"},
    )


def _write(path: Path, values: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _summary(run: ContrastRun, state: RunState) -> ContrastSummary:
    steps = [point for point in state.history if isinstance(point, ContrastPoint)]
    speeds = [point.pairs_per_second for point in steps if point.pairs_per_second]
    vectors, model = run.recipe.vectors, run.context.encoder.model
    return ContrastSummary(
        num_parameters=num_parameters(model),
        num_steps=state.step,
        precision=run.context.encoder.precision,
        loss_first=steps[0].loss,
        loss_last=steps[-1].loss,
        pairs_per_second=median_high(speeds) if speeds else None,
        held_out=state.held_out.held_out if state.held_out else {},
        pairs=run.pairs.manifest.id,
        start=model_name(run.initial_model),
        split=run.recipe.training.split,
        head={
            "kind": MANIFEST_KIND["embedding"],
            "pooling": vectors.pooling,
            "max_tokens": max_tokens(model),
            "matryoshka_dims": list(vectors.matryoshka_dims),
        },
        initial_weights=run.initial_weights,
        row_order=hashlib.sha256("".join(point.rows or "" for point in steps).encode()).hexdigest(),
    )
