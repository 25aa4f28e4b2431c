"""A sweep's report as a page that stands on its own."""

from typing import Any

from clinical_modernbert.masking import MASK_KINDS
from clinical_modernbert.recipe import SweepRecipe
from clinical_modernbert.sweeps.scores import METRICS

_HEADS = {"top1": "Top-1", "top5": "Top-5", "top10": "Top-10", "top25": "Top-25", "loss": "loss"}
_PAIRED = {
    "initial_weights": "initial weights",
    "row_order": "rows at each step",
    "token_places": "number of training tokens",
    "corpus": "training corpus",
    "hidden_tokens": "hidden tokens",
}
_COLUMNS = ("top1", "top5", "top10", "top25", "loss")


def render_markdown(recipe: SweepRecipe, report: dict[str, Any], *, sweep_id: str) -> str:
    """Return the Markdown page of a sweep."""
    lines = [f"# Sweep {sweep_id}", "", f"Base recipe `{recipe.base}`, corpus `{recipe.corpus}`."]
    if recipe.overrides:
        lines.append("Overrides of every trial: " + ", ".join(f"`{override}`" for override in recipe.overrides) + ".")
    lines += ["", *(_ablation(recipe, report) if recipe.arms else _search(report)), "", *_trials(report), ""]
    return "\n".join(lines)


def _ablation(recipe: SweepRecipe, report: dict[str, Any]) -> list[str]:
    lines = ["Arms, each compared with the first of this list that is named as baseline:", ""]
    for name, arm in report["arms"].items():
        mark = " (baseline)" if name == report["baseline"] else ""
        lines.append(f"- **{name}**{mark}: " + (", ".join(f"`{o}`" for o in arm["overrides"]) or "as the base recipe"))
    lines += ["", "## What the data supports", "", *(f"- {finding}" for finding in findings(report)), ""]
    for mask, hidden in (
        ("uniform", "15 % of all tokens hidden"),
        ("entity", "15 % of clinical tokens hidden, as whole terms"),
    ):
        lines += [f"## Held-out figures, {mask} mask ({hidden})", "", "Mean over the seeds, in brackets each seed.", ""]
        lines += [
            "| arm | " + " | ".join(_HEADS[metric] for metric in _COLUMNS) + " |",
            "|---|" + "--:|" * len(_COLUMNS),
        ]
        for name, arm in report["arms"].items():
            cells = [_cell(arm["masks"][mask][metric], metric) if arm["masks"] else "–" for metric in _COLUMNS]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines += [
            "",
            f"Differences from the baseline within each seed, {mask} mask, with 95 % intervals over documents.",
            "",
        ]
        lines += [
            "| arm | seed | " + " | ".join(_HEADS[metric] for metric in _COLUMNS) + " |",
            "|---|--:|" + "--:|" * len(_COLUMNS),
        ]
        for name, arm in report["arms"].items():
            pairs = arm["against_baseline"].get(mask, {})
            for seed in pairs["loss"]["seeds"] if pairs else ():
                cells = [_difference(pairs[metric]["seeds"][seed], metric) for metric in _COLUMNS]
                lines.append(f"| {name} | {seed} | " + " | ".join(cells) + " |")
        lines.append("")
    if "fit" in report:
        lines += [*_fit(report["fit"]), ""]
    return [*lines, "![held-out curves by arm](curves.png)"]


def findings(report: dict[str, Any]) -> list[str]:
    """Return in words what the comparison supports and what it does not."""
    said = []
    for name, arm in report["arms"].items():
        for mask, pairs in arm["against_baseline"].items():
            if not pairs:
                continue
            better, worse = (
                [metric for metric in METRICS if pairs[metric]["verdict"] == kind] for kind in ("better", "worse")
            )
            rest = [metric for metric in METRICS if metric not in better and metric not in worse]
            parts = [
                f"{word} on {', '.join(_HEADS[m] for m in which)}"
                for word, which in (("better", better), ("worse", worse))
                if which
            ]
            if rest:
                parts.append(f"undecided on {', '.join(_HEADS[m] for m in rest)}")
            said.append(f"{mask} mask: **{name}** against **{report['baseline']}** is " + "; ".join(parts) + ".")
    needed = report["seeds_needed"]
    compared = {
        name: len(arm["against_baseline"].get("uniform", {}).get("loss", {}).get("seeds", ()))
        for name, arm in report["arms"].items()
    }
    few = [f"{name} ({count})" for name, count in compared.items() if name != report["baseline"] and count < needed]
    if few:
        said.append(
            f"Undecided in any case, for fewer than {needed} seeds were compared with the baseline: {', '.join(few)}."
        )
    said += _paired(report["pairing"])
    compute = [trial["training_flops"] for trial in report["trials"] if "training_flops" in trial]
    said.append(
        f"Compute of the trials: {min(compute):.3g} to {max(compute):.3g} FLOPs each (the head runs on masked tokens only)."
    )
    trial = report["best"]
    said.append(
        f"Better and worse are said only where at least {needed} seeds were compared, and every seed's interval leaves out zero "
        f"on the same side. "
        f"The models have "
        f"{trial['num_parameters'] / 1e6:.1f} M parameters and saw {trial['token_places'] / 1e6:.1f} M token places: "
        f"nothing here says how larger models or longer runs order the arms."
    )
    failed = [f"{t['point']['arm']} (seed {t['point']['seed']})" for t in report["trials"] if t["error"]]
    if failed:
        said.append(f"Failed and left out: {', '.join(failed)}.")
    return said


def _paired(pairing: dict[str, Any]) -> list[str]:
    """Return what the arms had in common and what not, and the digests of the hidden tokens."""
    same = [word for key, word in _PAIRED.items() if all(pairs[key] for pairs in pairing.values())]
    other = [word for key, word in _PAIRED.items() if word not in same]
    said = [f"Within a seed all arms had the same {', '.join(same)}."] if same else []
    if other:
        said.append(f"Within a seed the arms differ in {', '.join(other)}: a difference may come from there.")
    digests = [
        f"{mask} mask "
        + ", ".join(
            sorted({f"`{digest[:12]}`" for p in pairing.values() for digest in p["shown_by"]["hidden_tokens"][mask]})
        )
        for mask in MASK_KINDS
    ]
    return [*said, f"Digests of the hidden tokens that the trials were scored on: {'; '.join(digests)}."]


def _fit(fit: dict[str, Any]) -> list[str]:
    if "failed" in fit:
        return ["## Fit of the loss", "", f"Not made: {fit['failed']}."]
    cells = [f"{name} = {c['value']:.3g} [{c['low']:.3g}, {c['high']:.3g}]" for name, c in fit["coefficients"].items()]
    largest = fit["largest_run"]
    wider = "the interval is wider than what a doubling is predicted to bring"
    limit = (
        f"up to {fit['trusted_growth']} times its parameters and tokens: beyond, {wider}"
        if fit["trusted_growth"]
        else f"not beyond the runs themselves: already at twice the size {wider}"
    )
    return [
        "## Fit of the loss",
        "",
        f"`{fit['form']}` (N parameters without the token embedding, D tokens; uniform mask): "
        + ", ".join(cells)
        + f"; root mean square error {fit['root_mean_square_error']:.3g} nats.",
        "",
        f"From the largest run ({largest['parameters']:.3g} parameters without embedding, {largest['tokens']:.3g} tokens, loss "
        f"{largest['loss']:.3f}) the fit can be trusted {limit}.",
    ]


def _search(report: dict[str, Any]) -> list[str]:
    best = report["best"]
    stopped = sum(bool(trial["stopped_after"]) for trial in report["trials"])
    lagged = f" {stopped} of {len(report['trials'])} trials lagged at a rung and were stopped; their losses are the last before."
    return [
        "Best trial: "
        + ", ".join(f"`{path}={value}`" for path, value in sorted(best["point"].items()))
        + f", held-out loss {best['held_out_loss']:.4f} (uniform mask). One seed a trial: close trials are not told apart."
        + (lagged if stopped else ""),
        "",
        "![held-out curves by trial](curves.png)",
    ]


def _trials(report: dict[str, Any]) -> list[str]:
    lines = [
        "## Trials",
        "",
        "| held-out loss | parameters | steps | token places | FLOPs | overrides | state |",
        "|--:|--:|--:|--:|--:|---|---|",
    ]
    for trial in report["trials"]:
        if trial["error"]:
            cells = ["–", "–", "–", "–", "–"]
            state = f"failed: {trial['error']}"
        elif trial["stopped_after"]:
            cells = [f"{trial['held_out_loss']:.4f}", "–", f"{trial['stopped_after']:,}", "–", "–"]
            state = f"stopped: lagged at rung {trial['stopped_at_rung']:,}"
        else:
            cells = [
                f"{trial['held_out_loss']:.4f}",
                f"{trial['num_parameters']:,}",
                f"{trial['num_steps']:,}",
                f"{trial['token_places']:,}",
                f"{trial['training_flops']:.3g}",
            ]
            state = f"`{trial['model']}`"
        lines.append("| " + " | ".join([*cells, " ".join(f"`{o}`" for o in trial["overrides"][2:]), state]) + " |")
    return lines


def _cell(values: list[float], metric: str) -> str:
    mean = sum(values) / len(values)
    if metric == "loss":
        return f"{mean:.3f} ({', '.join(f'{value:.3f}' for value in values)})"
    return f"{100 * mean:.2f} ({', '.join(f'{100 * value:.2f}' for value in values)})"


def _difference(pair: dict[str, float], metric: str) -> str:
    scale, digits = (1, 3) if metric == "loss" else (100, 2)
    value, low, high = (scale * pair[key] for key in ("value", "low", "high"))
    return f"{value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
