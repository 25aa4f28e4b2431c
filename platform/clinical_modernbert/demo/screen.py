"""The demo's closing screen: its results, each next to a reference figure, and the paths of its artifacts."""

from dataclasses import dataclass

from clinical_modernbert.artifacts import Artifact

_WIDTH = 100


@dataclass(frozen=True, slots=True)
class EndpointCheck:
    """The endpoint's vectors against those computed in the demo's own process."""

    num_texts: int
    largest_difference: float


@dataclass(frozen=True, slots=True)
class Results:
    """What the demo made."""

    corpus: Artifact
    model: Artifact
    sweep: Artifact
    evaluation: Artifact
    vectors: Artifact
    vector_lines: list[str]
    """What the vectors find, before and after their training."""
    code_map: Artifact
    endpoint: EndpointCheck


def render_screen(made: Results, *, notes: list[str]) -> str:
    """Return the screen as text."""
    blocks = [
        _corpus(made.corpus),
        _training(made.model),
        _sweep(made.sweep),
        _accuracy(made.evaluation),
        _vectors(made.vectors, made.vector_lines),
        _map(made.code_map),
        _endpoint(made.endpoint),
        _places([made.corpus, made.model, made.sweep, made.evaluation, made.vectors, made.code_map]),
        ["Next"] + [f"  {note}" for note in notes],
    ]
    rule = "=" * _WIDTH
    return "\n".join([rule, "Clinical ModernBERT: the main job", rule, *("\n".join(block) + "\n" for block in blocks)])


def _corpus(corpus: Artifact) -> list[str]:
    summary = corpus.summary
    lines = [
        "Corpus",
        f"  {'source':<14}{'records':>9}{'train':>9}{'held out':>9}{'tokens':>12}{'clinical':>10}  dropped",
    ]
    for name, account in summary["sources"].items():
        tokens = sum(account["tokens"].values())
        share = account["salient_tokens"] / tokens if tokens else 0.0
        reasons = {**account["dropped"], **({"quarantined": account["quarantined"]} if account["quarantined"] else {})}
        mark = "*" if name in summary["synthetic_sources"] else " "
        documents = f"{account['documents']['train']:>9,}{account['documents']['held_out']:>9,}"
        dropped = ", ".join(f"{reason} {n:,}" for reason, n in reasons.items()) or "none"
        lines.append(f"  {name + mark:<14}{account['records']:>9,}{documents}{tokens:>12,}{share:>10.1%}  {dropped}")
    if summary["synthetic_sources"]:
        lines.append("  * synthetic: generated text in the real format, of no use outside this demo")
    fill = ", ".join(f"{share:.2%} of {length}-token rows" for length, share in summary["fill"].items())
    lines.append(f"  vocabulary {summary['vocabulary_size']:,}; packing fill {fill}")
    return lines


def _training(model: Artifact) -> list[str]:
    summary = model.summary
    speed = f"{summary['tokens_per_second']:,.0f} tokens/s" if summary["tokens_per_second"] else "too short to time"
    return [
        "Pretraining",
        f"  {summary['num_parameters']:,} parameters, {summary['num_steps']:,} steps, {speed}",
        f"  loss {summary['loss_first']:.3f} -> {summary['loss_last']:.3f} (training masks, whose rate falls with the step)",
    ]


def _sweep(sweep: Artifact) -> list[str]:
    lines = ["Sweep"]
    for rank, trial in enumerate(sweep.summary["trials"]):
        point = ", ".join(f"{path}={value}" for path, value in trial["point"].items())
        shown = f"held-out loss {trial['value']:.4f}" if trial["error"] is None else f"failed: {trial['error']}"
        lines.append(f"  {point:<40}{shown}{'  <- better' if rank == 0 else ''}")
    return lines


def _accuracy(evaluation: Artifact) -> list[str]:
    top_k = [str(k) for k in evaluation.summary["top_k"]]
    lines = ["Held-out accuracy at hidden tokens (model / most frequent tokens of the source)"]
    for mask, figures in evaluation.summary["masks"].items():
        lines.append(f"  {mask + ' mask':<18}{'tokens':>8}" + "".join(f"{'top-' + k:>18}" for k in top_k))
        parts = {"all": figures, **figures["sources"]}
        for name, part in parts.items():
            cells = "".join(f"{part['model'][k]:>9.2%} /{part['unigram'][k]:>7.2%}" for k in top_k)
            lines.append(f"    {name:<16}{part['tokens']:>8,}{cells}")
    return lines


def _vectors(vectors: Artifact, lines: list[str]) -> list[str]:
    summary = vectors.summary
    return [
        "Vectors: the same encoder after training on pairs of terms that mean the same",
        f"  {summary['num_steps']:,} steps, loss {summary['loss_first']:.3f} -> {summary['loss_last']:.3f}",
        *lines,
    ]


def _map(code_map: Artifact) -> list[str]:
    figures = code_map.summary["purity"]
    lines = [
        f"Code map: {code_map.summary['num_codes']:,} ICD-9 codes, chapter purity@{figures['k']} in the original space",
        f"  encoder {figures['encoder']:.3f} | untrained {figures['untrained']:.3f} | TF-IDF {figures['tfidf']:.3f} "
        f"| permutation {figures['permutation']:.3f}",
    ]
    if figures["encoder"] < figures["tfidf"]:
        lines.append("  shared words alone group the codes better than this small encoder after minutes of training")
    return lines


def _endpoint(endpoint: EndpointCheck) -> list[str]:
    verdict = "equal" if endpoint.largest_difference <= 1e-5 else "DIFFERENT"
    return [
        "Endpoint",
        f"  POST /v1/embeddings for {endpoint.num_texts} texts: {verdict} to the offline vectors "
        f"(largest difference {endpoint.largest_difference:.1e})",
    ]


def _places(artifacts: list[Artifact]) -> list[str]:
    return ["Artifacts", *(f"  {artifact.manifest.kind:<11}{artifact.uri}" for artifact in artifacts)]
