"""Average the weights of models: the last states of one run, or exports of several. No GPU, no Ray.

Averages of states of a constant rate stand in for a decay, and averages of runs over different corpora keep something of each.
Whether one is better than its best model is measured, not assumed: all are scored on the same held-out rows of each corpus.
Memory holds the model in float32, its sums in float64, and one more model at a time.
"""

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from clinical_modernbert.artifacts import Artifact, InputEntry, Plan, Store, find_artifact, open_model, open_state
from clinical_modernbert.encoder import load_model, num_parameters, save_model
from clinical_modernbert.errors import ModelError, RecipeError
from clinical_modernbert.masking import token_ranges
from clinical_modernbert.recipe import MergeRecipe, PretrainRecipe
from clinical_modernbert.tokenizer import load_tokenizer
from clinical_modernbert.training.card import merge_card
from clinical_modernbert.training.engine import saved_weights
from clinical_modernbert.training.held_out import Scoring, score_corpus
from clinical_modernbert.training.phases import lay_out, phase_at
from clinical_modernbert.training.records import MergedInput, MergeSummary
from clinical_modernbert.training.state import HeldOutFigures
from clinical_modernbert.training.worker import Worker

_BATCH_ROWS = 16
# Keys of config.json that don't change what a model computes, or repeat another one.
_NOT_SHAPE = ("transformers_version", "_name_or_path", "dtype", "torch_dtype", "architectures", "layer_norm_eps")

_logger = logging.getLogger(__name__)


def merge(plan: Plan[MergeRecipe]) -> Artifact:
    """Average the models that ``plan`` names, score the average, and publish it as a model."""
    recipe, corpora = plan.recipe, {corpus.manifest.id: corpus for corpus in plan.artifacts.values()}
    main = plan.artifacts["corpus"].manifest.id
    inputs = {entry.name: entry for entry in plan.inputs}
    total = sum(model.weight for model in recipe.models)
    average: Any = None
    sums: dict[str, torch.Tensor] = {}
    merged, first = [], Path()
    for number, section in enumerate(recipe.models):
        entry, share = inputs[f"models.{number}.source"], section.weight / total
        folder = _export_of(entry, plan.store) if section.is_state else open_model(entry, plan.store)
        if (folder / "modules.json").exists():
            raise ModelError(
                f"{entry.name}: {entry.id} was trained for its vectors (modules.json), and an average would lose their pooling"
            )
        model = load_model(folder).eval()
        if section.is_state:
            _set_weights(model, entry, plan.store)
        if average is None:
            average, first = model, folder
            _check_vocabulary(corpora, folder)
        else:
            _check_alike(entry, folder, first)
        held_out = _score(model, corpora, folder, recipe)
        for name, figures in held_out.items():
            _logger.info("%s on %s: loss %.4f", entry.id, name, figures.overall.get("uniform_loss", float("nan")))
        for name, tensor in model.state_dict().items():
            # Summed in float64, so that the order of the models does not matter to float32.
            part = tensor.double() * share
            sums[name] = sums[name] + part if name in sums else part
        merged.append(MergedInput(entry.id, share, held_out))
    average.load_state_dict({name: tensor.float() for name, tensor in sums.items()})
    held_out = _score(average, corpora, first, recipe)
    summary = MergeSummary(
        num_parameters=num_parameters(average),
        corpus=main,
        held_out=held_out[main].overall,
        held_out_by_corpus=held_out,
        merged=tuple(merged),
    )
    return _publish(plan, average, first, summary)


def _publish(plan: Plan[MergeRecipe], model: Any, tokenizer_folder: Path, summary: MergeSummary) -> Artifact:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_model(model, load_tokenizer(tokenizer_folder), folder / "model")
        itself = MergedInput("the average", 1.0, summary.held_out_by_corpus)
        card = merge_card(plan.id, summary.num_parameters, (*summary.merged, itself))
        (folder / "model" / "README.md").write_text(card, encoding="utf-8")
        return plan.publish_folder(folder, summary=asdict(summary))


def _export_of(state: InputEntry, store: Store) -> Path:
    """Return the folder of the run's export, which has the config and the tokenizer that a state lacks."""
    run_id = state.id.removeprefix("model/").rpartition("@")[0]
    export = find_artifact(store, "model", run_id)
    if export is None:
        raise ModelError(f"{state.name}: {run_id} is not finished; its export has the config that its states lack")
    of_state, of_export = (_rope_theta(export, step) for step in (_step(state), export.summary["exported_step"]))
    if of_state != of_export:
        raise ModelError(
            f"{state.name}: {state.id} was trained with global_rope_theta={of_state:g}, the export of its run with "
            f"{of_export:g}, so its config.json is not that of the state: average states of phases with one base"
        )
    return export.folder("model")


def _step(state: InputEntry) -> int:
    return int(state.id.rpartition("@")[2])


def _rope_theta(run: Artifact, step: int) -> float:
    """Return the RoPE base of the global layers after ``step`` steps of a run."""
    recipe = PretrainRecipe.model_validate(run.manifest.recipe)
    return phase_at(lay_out(recipe), step - 1).global_rope_theta or recipe.model.global_rope_theta


def _set_weights(model: Any, state: InputEntry, store: Store) -> None:
    with tempfile.TemporaryDirectory() as cache:
        model.load_state_dict(saved_weights(open_state(state, store), cache_path=Path(cache)))


def _check_alike(entry: InputEntry, folder: Path, first: Path) -> None:
    """Raise ``ModelError`` unless both folders have one shape and one vocabulary: else an average means nothing."""
    configs = [json.loads((path / "config.json").read_text(encoding="utf-8")) for path in (folder, first)]
    ours, theirs = ({k: v for k, v in config.items() if k not in _NOT_SHAPE} for config in configs)
    differing = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    if differing:
        raise ModelError(
            f"{entry.name}: {entry.id} and the first model differ in {', '.join(differing)} of config.json"
        )
    if load_tokenizer(folder).get_vocab() != load_tokenizer(first).get_vocab():
        raise ModelError(f"{entry.name}: {entry.id} has another vocabulary than the first model")


def _check_vocabulary(corpora: Mapping[str, Artifact], folder: Path) -> None:
    """Raise ``RecipeError`` unless the corpora's ids are those of the models; the corpora have one tokenizer."""
    corpus_id, corpus = next(iter(corpora.items()))
    if load_tokenizer(corpus.folder("tokenizer")).get_vocab() != load_tokenizer(folder).get_vocab():
        raise RecipeError(
            f"corpus: {corpus_id} has another vocabulary than the models, so its rows are other words to them"
        )


def _score(model: Any, corpora: Mapping[str, Artifact], folder: Path, recipe: MergeRecipe) -> dict[str, HeldOutFigures]:
    worker = Worker(rank=0, world_size=1, device=torch.device("cpu"))
    scoring = Scoring(recipe.max_rows, token_ranges(load_tokenizer(folder)), worker, "float32")
    score = partial(score_corpus, model, scoring=scoring, row_length=recipe.sequence_length, batch_rows=_BATCH_ROWS)
    return {name: score(corpus) for name, corpus in corpora.items()}
