"""The model card of an export: data, recipe, figures, limits and licences, from the manifests and nothing else.

Holds names, counts and figures, and no text of the corpus. The licence of a source is the usual one of its type or table unless
the recipe names another (``model_card.source_licences``), because licences belong to files, not to formats.
"""

from collections.abc import Mapping, Sequence

import yaml

from clinical_modernbert.artifacts import Artifact, InputEntry, id_on_hub, model_name
from clinical_modernbert.masking import MASK_KINDS, TOP_K
from clinical_modernbert.recipe import CorpusRecipe, PretrainRecipe
from clinical_modernbert.recipe.sources import Source
from clinical_modernbert.recipe.training_run import ExportSection
from clinical_modernbert.sources import licence_of
from clinical_modernbert.training.records import MergedInput, Summary
from clinical_modernbert.training.state import HeldOutFigures

_USAGE = """```python
from transformers import pipeline

pipeline("fill-mask", model="<this folder>")("The patient took [MASK] 5 mg daily.")
```

For vectors of texts, load it with sentence-transformers or serve it. It was not trained for similarity: fine-tune it."""
_OBJECTIVES = {"masked": "masked language modelling", "causal": "causal language modelling"}
_UNKNOWN = "not stated; see the source's files"


def stated_licence(source: Source, recipe: PretrainRecipe) -> str:
    """Return the licence that the recipe names for a source, else the usual one of its type."""
    return recipe.model_card.source_licences.get(source.name) or licence_of(source) or _UNKNOWN


def weights_of(export: ExportSection) -> str:
    """Return the type of the weights in a sentence."""
    if export.dtype == "float32":
        return "float32"
    return f"{export.dtype}, rounded from float32; all figures are those before rounding"


def model_card(
    run_id: str,
    recipe: PretrainRecipe,
    corpora: Mapping[str, Artifact],
    summary: Summary,
    *,
    initial_model: InputEntry | None,
) -> str:
    """Return the card in Markdown, with the front matter that the Hugging Face hub reads; ``corpora`` are those of the run."""
    base = initial_model and id_on_hub(initial_model)
    front = {
        "library_name": "transformers",
        "pipeline_tag": "fill-mask",
        "tags": ["modernbert", "clinical", "biomedical"],
        **({"license": recipe.model_card.licence} if recipe.model_card.licence else {}),
        **({"base_model": base} if base else {}),
    }
    blocks = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {run_id}\n\n{_what(initial_model, summary)}",
        "## Data\n\n" + _data(recipe, corpora),
        "## Usage\n\n" + _USAGE,
        "## Training\n\n" + _training(recipe, summary) + "\n\n" + _phases(corpora, summary),
        "## Held-out figures\n\n" + _held_out(summary.held_out, summary.held_out_by_corpus),
        "## Limits\n\n" + _limits(recipe, corpora, initial_model),
    ]
    return "\n\n".join(blocks) + "\n"


def merge_card(run_id: str, num_parameters: int, merged: Sequence[MergedInput]) -> str:
    """Return the card of an average of models; the cards of its models say what they were trained on."""
    front = {"library_name": "transformers", "pipeline_tag": "fill-mask", "tags": ["modernbert", "clinical", "merge"]}
    lines = ["| model | share | held-out corpus | loss | top-1 |", "|---|--:|---|--:|--:|"]
    for part in merged:
        for corpus, figures in part.held_out_by_corpus.items():
            loss, top1 = (figures.overall.get(f"uniform_{name}", float("nan")) for name in ("loss", "top1"))
            name = part.model.rpartition("/")[2]
            lines.append(f"| {name} | {part.share:.3g} | {corpus} | {loss:.4f} | {top1:.2%} |")
    return (
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# {run_id}\n\nA ModernBERT of {num_parameters:,} parameters: the "
        "weighted average of the weights of these models, with its own figures last. Their cards say what they were trained on, "
        "and under which licences.\n\n" + "\n".join(lines) + "\n"
    )


def _what(initial: InputEntry | None, summary: Summary) -> str:
    start = f"from {model_name(initial)}" if initial else "from random weights"
    objectives = dict.fromkeys(_OBJECTIVES[account.objective] for account in summary.phases)
    return (
        f"A ModernBERT of {summary.num_parameters:,} parameters, trained {start} by {' and '.join(objectives)} on clinical and "
        "biomedical text. It gives token vectors and fills masked tokens; it does not generate text."
    )


def _data(recipe: PretrainRecipe, corpora: Mapping[str, Artifact]) -> str:
    tables = [_corpus_data(recipe, corpus) for corpus in corpora.values()]
    return "\n\n".join([*tables, "If you redistribute this model, you must comply with the licence of each source."])


def _corpus_data(recipe: PretrainRecipe, corpus: Artifact) -> str:
    sources = CorpusRecipe.model_validate(corpus.manifest.recipe).sources
    tokens = corpus.summary.get("training_tokens", {})
    accounts = corpus.summary.get("sources", {})
    lines = [
        f"Corpus `{corpus.manifest.id}`, digest `{corpus.manifest.digest[:12]}`.",
        "",
        "| source | training documents | training tokens, epochs counted | licence |",
        "|---|--:|--:|---|",
    ]
    for source in sources:
        documents = accounts.get(source.name, {}).get("documents", {}).get("train")
        mark = " (synthetic)" if source.name in corpus.summary.get("synthetic_sources", ()) else ""
        cells = [
            f"{source.name}{mark}",
            _count(documents),
            _count(tokens.get(source.name)),
            stated_licence(source, recipe),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _training(recipe: PretrainRecipe, summary: Summary) -> str:
    phases = recipe.training.resolved_phases
    lengths = ", ".join(str(phase.sequence_length) for phase in phases)
    rates = dict.fromkeys(f"{phase.learning_rate or recipe.optimizer.learning_rate:g}" for phase in phases)
    odds = ""
    if recipe.masking.strategy == "token_aware":
        odds = f", odds of clinical tokens {recipe.masking.odds_start:g} to {recipe.masking.odds_end:g}"
    facts = {
        "steps": f"{summary.num_steps:,} (exported: after step {summary.exported_step:,})",
        "tokens": f"{summary.training_tokens:,} read",
        "rows": f"{lengths} tokens; {recipe.training.batch_tokens:,} token places in a step",
        "optimizer": f"{recipe.optimizer.algorithm}, peak learning rate {', '.join(rates)}",
        "masking": (
            f"{recipe.masking.strategy}, rate {recipe.masking.rate_start:g} to {recipe.masking.rate_end:g}{odds}, unless a phase "
            "sets others"
        ),
        "arithmetic": summary.precision,
        "operations": f"{summary.training_flops:.3g} on real tokens, without padding",
        "loss": f"{summary.loss_first:.3f} at the first step, {summary.loss_last:.3f} at the last (training masks)",
        "rollbacks": str(summary.rollbacks),
        "weights in the files": weights_of(recipe.export),
    }
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def _phases(corpora: Mapping[str, Artifact], summary: Summary) -> str:
    """The token account: a line for each phase and corpus."""
    lines = [
        "| phase | objective | steps | tokens predicted | corpus | tokens read | times the corpus's |",
        "|---|---|--:|--:|---|--:|--:|",
    ]
    for account in summary.phases:
        phase = "before" if account.phase is None else account.phase + 1
        for corpus, tokens in account.tokens.items():
            # A run that was continued may have read a corpus that this one does not have.
            known = sum(corpora[corpus].summary.get("training_tokens", {}).values()) if corpus in corpora else 0
            times = f"{tokens / known:.2g}" if known else "not stated"
            lines.append(
                f"| {phase} | {account.objective} | {account.steps:,} | {account.predicted:,} | {corpus} | {tokens:,} | {times} |"
            )
    return "\n".join(lines)


def _held_out(figures: dict[str, float], by_corpus: dict[str, HeldOutFigures]) -> str:
    if not figures:
        return "None were measured."
    lines = [
        "On documents of patients, citations and code concepts that are not in the training data, under the frozen masks.",
        "",
    ]
    lines += [f"| mask | loss | {' | '.join(f'top-{k}' for k in TOP_K)} |", "|---|--:|" + "--:|" * len(TOP_K)]
    kinds: list[tuple[str, str]] = [*((mask, mask) for mask in MASK_KINDS), ("causal", "none: next tokens")]
    for kind, words in kinds:
        if f"{kind}_loss" in figures:
            shares = " | ".join(f"{figures[f'{kind}_top{k}']:.2%}" for k in TOP_K)
            lines.append(f"| {words} | {figures[f'{kind}_loss']:.4f} | {shares} |")
    if "codes_purity" in figures:
        lines += ["", _codes(figures)]
    lines += ["", "By source, under the uniform mask:", "", "| corpus | source | loss | top-1 |", "|---|---|--:|--:|"]
    for corpus, of_corpus in by_corpus.items():
        for source, found in {"all": of_corpus.overall, **of_corpus.by_source}.items():
            if "uniform_loss" in found:
                lines.append(f"| {corpus} | {source} | {found['uniform_loss']:.4f} | {found['uniform_top1']:.2%} |")
    return "\n".join(lines)


def _codes(figures: dict[str, float]) -> str:
    return (
        f"Of the ten nearest of a sample of codes, {figures['codes_purity']:.1%} are of the code's chapter; among codes of other "
        f"categories, {figures['codes_purity_outside']:.1%}. Codes of the training data are among them."
    )


def _limits(recipe: PretrainRecipe, corpora: Mapping[str, Artifact], initial: InputEntry | None) -> str:
    longest = max(phase.sequence_length for phase in recipe.training.resolved_phases)
    limits = [
        f"Trained on segments of up to {longest:,} tokens; "
        + ("longer input is for what it kept of its initial model." if initial else "it has not seen longer input."),
        "Not a medical device: it was not tested for decisions about patients.",
        "It may have learnt identifiers and errors of its sources: the corpus's guard is a pattern-based filter, not "
        "de-identification.",
        "The figures above are of masked tokens. They do not show how the model performs on a task; evaluate it on yours.",
    ]
    generated = [corpus.summary.get("synthetic_sources", ()) for corpus in corpora.values()]
    synthetic = dict.fromkeys(name for names in generated for name in names)
    if synthetic:
        names = ", ".join(synthetic)
        limits.append(f"The training data contains generated text ({names}), which teaches the generator's patterns.")
    return "\n".join(f"- {limit}" for limit in limits)


def _count(value: int | None) -> str:
    return "not stated" if value is None else f"{value:,}"
