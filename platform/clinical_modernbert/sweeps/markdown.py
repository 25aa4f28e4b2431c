"""The report of a sweep as a Markdown page."""

from collections.abc import Iterable

from clinical_modernbert.recipe import SweepRecipe
from clinical_modernbert.sweeps.kinds import TrialKind
from clinical_modernbert.sweeps.results import (
    Comparison,
    Difference,
    FailedFit,
    Fit,
    MetricComparison,
    SweepReport,
    Trial,
)

_NONE = "–"


def render_markdown(recipe: SweepRecipe, report: SweepReport, *, sweep_id: str) -> str:
    """Return the Markdown page of a sweep."""
    lines = [f"# Sweep {sweep_id}", "", f"Base recipe `{recipe.base}`, {_data(recipe)}."]
    if recipe.overrides:
        lines.append(f"Overrides of every trial: {_code(recipe.overrides)}.")
    lines += ["", *(_ablation(report, report.comparison) if report.comparison else _search(report))]
    return "\n".join([*lines, "", *_trials(report), ""])


def _data(recipe: SweepRecipe) -> str:
    return f"corpus `{recipe.corpus}`" if recipe.corpus else f"pair set `{recipe.pairs}`"


def _ablation(report: SweepReport, comparison: Comparison) -> list[str]:
    lines = ["Arms, each compared with the one marked as baseline:", ""]
    for name, arm in comparison.arms.items():
        mark = " (baseline)" if name == comparison.baseline else ""
        lines.append(f"- **{name}**{mark}: {_code(arm.overrides) or 'as the base recipe'}")
    lines += ["", "## What the data supports", "", *(f"- {finding}" for finding in findings(report, comparison)), ""]
    for part, words in comparison.parts.items():
        lines += _part_tables(comparison, report.kind, part, words)
    if report.fit:
        lines += [*_fit(report.fit), ""]
    return [*lines, "![held-out curves by arm](curves.png)"]


def _part_tables(comparison: Comparison, kind: TrialKind, part: str, words: str) -> list[str]:
    """Return the arms' figures in one part, and their differences from the baseline by seed."""
    columns, heads = list(kind.columns), list(kind.columns.values())
    figures, differences = [], []
    for name, arm in comparison.arms.items():
        values = arm.parts.get(part)
        figures.append([name, *(_cell(values[metric], metric) if values else _NONE for metric in columns)])
        compared = arm.against_baseline.get(part)
        if not compared:
            continue
        for seed in _seeds(compared):
            differences.append([name, seed, *(_difference(compared[metric].seeds[seed], metric) for metric in columns)])
        means = [f"{_difference(compared[m].mean, m)}{_probability(compared[m].p_holm)}" for m in columns]
        differences.append([name, "mean", *means])
    return [
        f"## Held-out figures, {part} {kind.part} ({words})",
        "",
        "Mean over the seeds, in brackets each seed.",
        "",
        *_table(["arm", *heads], "---|" + "--:|" * len(heads), figures),
        "",
        f"Differences from the baseline, {part} {kind.part}. A seed's 95 % interval is over {kind.groups} alone. That of the "
        f"mean is over seeds and {kind.groups}, with the p of a paired t test over seeds after Holm's correction over the arms.",
        "",
        *_table(["arm", "seed", *heads], "---|--:|" + "--:|" * len(heads), differences),
        "",
    ]


def findings(report: SweepReport, comparison: Comparison) -> list[str]:
    """Return in words what the comparison supports and what it does not."""
    kind, needed, best = report.kind, comparison.seeds_needed, report.best.trained
    lines = [
        f"{part} {kind.part}: **{name}** against **{comparison.baseline}** is {_verdicts(compared, kind)}."
        for name, arm in comparison.arms.items()
        for part, compared in arm.against_baseline.items()
        if compared
    ]
    few = _with_few_seeds(comparison)
    if few:
        lines.append(f"Undecided because fewer than {needed} seeds were compared with the baseline: {', '.join(few)}.")
    lines += _pairing(comparison, kind)
    trained = [trial.trained for trial in report.trials if trial.trained]
    compute = [figures.training_flops for figures in trained if figures.training_flops is not None]
    if compute:
        lines.append(
            f"Compute of the trials: {min(compute):.3g} to {max(compute):.3g} FLOPs each (the head runs on masked tokens only)."
        )
    lines.append(
        f"Better and worse need at least {needed} compared seeds and p < 0.05 of a paired t test over seeds, corrected for the "
        f"arms (Holm). The metrics and the {kind.parts} are not corrected for."
    )
    if best:
        lines.append(
            f"The models have {best.num_parameters / 1e6:.1f} M parameters and were trained on {best.budget / 1e6:.1f} M "
            f"{kind.budget}: these figures do not show how larger models or longer runs order the arms."
        )
    failed = [f"{trial.arm} (seed {trial.seed})" for trial in report.trials if trial.error]
    if failed:
        lines.append(f"Failed and left out: {', '.join(failed)}.")
    return lines


def _seeds(compared: dict[str, MetricComparison]) -> list[str]:
    return list(next(iter(compared.values())).seeds)


def _verdicts(compared: dict[str, MetricComparison], kind: TrialKind) -> str:
    parts = []
    for verdict in ("better", "worse", "undecided"):
        metrics = [title for metric, title in kind.metrics.items() if compared[metric].verdict == verdict]
        if metrics:
            parts.append(f"{verdict} on {', '.join(metrics)}")
    return "; ".join(parts)


def _with_few_seeds(comparison: Comparison) -> list[str]:
    few = []
    for name, arm in comparison.arms.items():
        compared = next(iter(arm.against_baseline.values()), None)
        num_seeds = len(_seeds(compared)) if compared else 0
        if name != comparison.baseline and num_seeds < comparison.seeds_needed:
            few.append(f"{name} ({num_seeds})")
    return few


def _pairing(comparison: Comparison, kind: TrialKind) -> list[str]:
    """Return what the arms had in common and what not, and the digests of what they were scored on."""
    same, different = comparison.same_within_seeds(kind.paired), comparison.different_within_seeds(kind.paired)
    lines = [f"Within a seed all arms had the same {', '.join(same)}."] if same else []
    if different:
        lines.append(f"Within a seed the arms differ in {', '.join(different)}, which may explain a difference.")
    digests = []
    for part in comparison.parts:
        shown = sorted(
            {f"`{digest[:12]}`" for p in comparison.pairing.values() for digest in p.shown_by.scored.get(part, ())}
        )
        digests.append(f"{part} {kind.part} {', '.join(shown)}")
    return [*lines, f"Digests of the {kind.paired['scored']} that the trials were scored on: {'; '.join(digests)}."]


def _fit(fit: Fit | FailedFit) -> list[str]:
    if isinstance(fit, FailedFit):
        return ["## Fit of the loss", "", f"Not made: {fit.failed}."]
    cells = [f"{name} = {c.value:.3g} [{c.low:.3g}, {c.high:.3g}]" for name, c in fit.coefficients.items()]
    largest = fit.largest_run
    wider = "the interval is wider than the gain that a doubling predicts"
    limit = (
        f"up to {fit.trusted_growth} times its parameters and tokens; beyond that {wider}"
        if fit.trusted_growth
        else f"for none of the larger sizes: at twice the size {wider}"
    )
    return [
        "## Fit of the loss",
        "",
        f"`{fit.form}` (N parameters without the token embedding, D tokens; uniform mask): "
        + ", ".join(cells)
        + f"; root mean square error {fit.root_mean_square_error:.3g} nats.",
        "",
        f"From the largest run ({largest.parameters:.3g} parameters without embedding, {largest.tokens:.3g} tokens, loss "
        f"{largest.loss:.3f}) the fit can be trusted {limit}.",
    ]


def _search(report: SweepReport) -> list[str]:
    kind, best, num_stopped = report.kind, report.best, sum(bool(trial.stopped_after) for trial in report.trials)
    values = ", ".join(f"`{path}={value}`" for path, value in sorted(best.point.items()))
    num_trials = len(report.trials)
    stopped = (
        f" {num_stopped} of {num_trials} trials lagged at a rung and were stopped; their figures are the last measured."
    )
    return [
        f"Best trial: {values}, {kind.metric_title} {_value(best)} ({kind.measured_on}). Each trial has one seed: do not rank "
        f"trials with similar figures.{stopped if num_stopped else ''}",
        "",
        "![held-out curves by trial](curves.png)",
    ]


def _trials(report: SweepReport) -> list[str]:
    kind = report.kind
    heads = [kind.metric_title, "parameters", "steps", kind.budget, "FLOPs", "overrides", "state"]
    rows = [[*_trial_cells(trial), *_trial_state(trial)] for trial in report.trials]
    return ["## Trials", "", *_table(heads, "--:|--:|--:|--:|--:|---|---|", rows)]


def _trial_cells(trial: Trial) -> list[str]:
    if trial.trained:
        figures = trial.trained
        counts = (f"{count:,}" for count in (figures.num_parameters, figures.num_steps, figures.budget))
        return [_value(trial), *counts, _NONE if figures.training_flops is None else f"{figures.training_flops:.3g}"]
    if trial.stopped_after:
        return [_value(trial), _NONE, f"{trial.stopped_after:,}", _NONE, _NONE]
    return [_NONE] * 5


def _trial_state(trial: Trial) -> list[str]:
    """Return the trial's overrides without its name and data, and how it ended."""
    overrides = " ".join(f"`{override}`" for override in trial.overrides[2:])
    if trial.error:
        return [overrides, f"failed: {trial.error}"]
    if trial.stopped_after:
        return [overrides, f"stopped: lagged at rung {trial.stopped_at_rung:,}"]
    return [overrides, f"`{trial.model}`"]


def _table(heads: list[str], alignment: str, rows: Iterable[list[str]]) -> list[str]:
    return [f"| {' | '.join(heads)} |", f"|{alignment}", *(f"| {' | '.join(row)} |" for row in rows)]


def _code(overrides: Iterable[str]) -> str:
    return ", ".join(f"`{override}`" for override in overrides)


def _value(trial: Trial) -> str:
    return _NONE if trial.value is None else f"{trial.value:.4f}"


def _cell(values: list[float], metric: str) -> str:
    mean = sum(values) / len(values)
    if metric == "loss":
        return f"{mean:.3f} ({', '.join(f'{value:.3f}' for value in values)})"
    return f"{100 * mean:.2f} ({', '.join(f'{100 * value:.2f}' for value in values)})"


def _probability(p: float | None) -> str:
    return "" if p is None else f" (p {'< 0.001' if p < 0.001 else f'= {p:.3f}'})"


def _difference(difference: Difference, metric: str) -> str:
    scale, digits = (1, 3) if metric == "loss" else (100, 2)
    value, low, high = (scale * number for number in (difference.value, difference.low, difference.high))
    return f"{value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
