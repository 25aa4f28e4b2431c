"""Sweeps: an ablation in the form of the paper's Table 5, the trials of a search, and curves in the form of Figure 4.

All figures are read from the report. Differences are within a seed, with intervals over held-out documents or categories of
pairs, and their mean over seeds. The report says better or worse only where a paired t test over at least three seeds does. The
paper's figures are shown separately, because they use another mask.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict

import streamlit as st
from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.errors import ArtifactError
from clinical_modernbert.evaluation.report.reported import TABLE_5
from clinical_modernbert.sweeps.kinds import PRETRAINING, TrialKind
from clinical_modernbert.sweeps.results import HIDDEN, ArmCurve, Comparison, FailedFit, Fit, SweepReport
from clinical_modernbert.sweeps.results_json import curves_from_json, report_from_json
from panels.artifact_picker import artifacts_or_stop, choose, show_origin
from panels.charts import MOST_SERIES, Axis, interval_chart, line_chart, parallel_chart
from store import show_problems


def page() -> None:
    """Show the newest sweep, or the one chosen."""
    st.title("Sweeps")
    found = artifacts_or_stop("sweep", title="sweep", command="python jobs/sweep.py sweep/demo")
    sweep = choose(found, label="Sweep", key="sweep")
    show_origin(sweep)
    report = _report(sweep, sweep.uri, sweep.manifest.digest)
    kind = report.kind
    if report.comparison:
        part = _chosen_part(report.comparison.parts, kind)
        _show_arms(report.comparison, kind, part)
    else:
        part = _chosen_part(HIDDEN if kind is PRETRAINING else {}, kind)
        _show_search(report)
    # A run measures both masks while it trains, but not the pairs of each source.
    try:
        curves = _curves(sweep, sweep.uri, sweep.manifest.digest)
    except ArtifactError as error:
        show_problems((str(error),))
    else:
        _show_curves(curves, kind, part if part in kind.curve_parts else next(iter(kind.curve_parts)))
    if report.fit:
        _show_fit(report.fit)
    _show_trials(report)


@st.cache_resource(max_entries=8, show_spinner="Reading the sweep")
def _report(_sweep: Artifact, uri: str, digest: str) -> SweepReport:
    return report_from_json(json.loads(_sweep.file("report.json").read_bytes()), called=uri)


@st.cache_resource(max_entries=8, show_spinner="Reading the sweep's curves")
def _curves(_sweep: Artifact, uri: str, digest: str) -> dict[str, ArmCurve]:
    try:
        return curves_from_json(json.loads(_sweep.file("curves.json").read_bytes()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"{uri}/curves.json does not hold a sweep's curves: {type(error).__name__}: {error}"
        ) from None


def _chosen_part(parts: Mapping[str, str], kind: TrialKind) -> str:
    """Return the mask or source whose figures are shown; empty without any."""
    if not parts:
        return ""
    first = next(iter(parts))
    title = "Mask" if kind is PRETRAINING else "Pairs of the source"
    part = st.segmented_control(title, list(parts), default=first, key=f"part-{'-'.join(parts)}") or first
    st.caption(f"Held out, {part} {kind.part}: {parts[part]}.")
    return part


def _show_arms(comparison: Comparison, kind: TrialKind, part: str) -> None:
    st.header("Table 5: the arms" if kind is PRETRAINING else "The arms")
    rows = []
    for name, arm in comparison.arms.items():
        figures = arm.parts.get(part, {})
        means = {title: sum(figures[m]) / len(figures[m]) if figures else None for m, title in kind.columns.items()}
        mark = " (baseline)" if name == comparison.baseline else ""
        rows.append({"arm": name + mark, "seeds": len(arm.seeds), **means, "overrides": " ".join(arm.overrides)})
    percent = st.column_config.NumberColumn(format="percent")
    shares = {title: percent for metric, title in kind.columns.items() if metric != "loss"}
    st.dataframe(rows, hide_index=True, column_config=shares)
    if kind is PRETRAINING:
        _show_reported(list(shares))
    _show_differences(comparison, kind, part)
    _show_pairing(comparison, kind)


def _show_reported(titles: list[str]) -> None:
    with st.expander("As reported in the paper"):
        st.dataframe(
            [{"configuration": name, **dict(zip(titles, figures, strict=True))} for name, *figures in TABLE_5],
            hide_index=True,
        )
        st.caption(
            "In per cent. The paper scores under the training mask, which differs between arms, so these figures are not "
            "comparable with those above."
        )


def _show_differences(comparison: Comparison, kind: TrialKind, part: str) -> None:
    st.header("Difference from the baseline")
    first = next(iter(kind.columns))
    metric = st.segmented_control(
        "Figure", list(kind.columns), default=first, key=f"metric-{kind.base}", format_func=kind.columns.__getitem__
    )
    metric = metric or first
    title = f"{kind.columns[metric]} minus the baseline"
    differences, verdicts, few = [], [], []
    for name, arm in comparison.arms.items():
        pair = arm.against_baseline.get(part, {}).get(metric)
        if not pair:
            continue
        verdicts.append({"arm": name, "verdict": pair.verdict, "p (Holm)": pair.p_holm})
        if len(pair.seeds) < comparison.seeds_needed:
            few.append(name)
        by_seed = {f"seed {seed}": found for seed, found in pair.seeds.items()}
        differences += [
            {"arm": name, "seed": seed, title: found.value, "low": found.low, "high": found.high}
            for seed, found in {**by_seed, "mean over seeds": pair.mean}.items()
        ]
    if differences:
        interval_chart(
            differences,
            x=title,
            y="arm",
            series="seed",
            zero_rule=True,
            alt=f"{metric} of each arm minus the baseline, by seed, with 95 % intervals; the table has the numbers.",
        )
        st.caption(
            f"The interval of a seed is over {kind.groups} alone. That of the mean, and p, count seeds and {kind.groups}."
        )
        left, right = st.columns([1, 2])
        left.dataframe(verdicts, hide_index=True)
        right.dataframe(differences, hide_index=True)
        if few:
            st.caption(f"Undecided, because they have fewer than {comparison.seeds_needed} seeds: {', '.join(few)}.")


def _show_pairing(comparison: Comparison, kind: TrialKind) -> None:
    same, other = comparison.same_within_seeds(kind.paired), comparison.different_within_seeds(kind.paired)
    if other:
        st.warning(
            f"Within a seed the arms differ in {', '.join(other)}: this may be the cause of a difference.",
            icon=":material/balance:",
        )
    if same:
        st.caption(f"Within a seed all arms had the same {', '.join(same)}.")
    with st.expander("Evidence"):
        proofs = {seed: asdict(pairs.shown_by) for seed, pairs in comparison.pairing.items()}
        st.json(next(iter(proofs.values())) if len(proofs) == 1 else proofs)


def _show_search(report: SweepReport) -> None:
    st.header("The search")
    best, kind = report.best, report.kind
    point = ", ".join(f"`{path}={value}`" for path, value in sorted(best.point.items()))
    st.markdown(
        f"Best trial: {point}, {kind.metric_title} {best.value:.4f} ({kind.measured_on}). Each trial has one seed, so close "
        "trials cannot be ranked."
    )
    finished = [trial for trial in report.trials if trial.finished]
    axes = [path for path in sorted(best.point) if len({str(trial.point[path]) for trial in finished}) > 1]
    if len(axes) > 1:
        st.markdown(
            "**All trials.** A line is a trial: values from least to most on each axis, the figure on the last."
        )
        parallel_chart(
            [{**{path: t.point[path] for path in axes}, kind.metric_title: t.value} for t in finished],
            axes=axes,
            y=kind.metric_title,
            alt=f"{len(finished)} trials as lines through {', '.join(axes)} to {kind.metric_title}; the table has them.",
        )
    for path in sorted(best.point):
        rows = [{path: t.point[path], kind.metric_title: t.value, "trial": "trials"} for t in finished]
        values = {row[path] for row in rows}
        if len(values) > 1 and all(isinstance(value, int | float) and value > 0 for value in values):
            rows.sort(key=lambda row: row[path])
            axis, alt = Axis(path, log=True), f"{kind.metric_title} over {path}."
            line_chart(rows, x=axis, y=kind.metric_title, series="trial", alt=alt)


def _show_curves(curves: dict[str, ArmCurve], kind: TrialKind, part: str) -> None:
    st.header("Figure 4: the curves" if kind is PRETRAINING else "The curves")
    arms = list(dict.fromkeys(curve.arm for curve in curves.values()))
    if len(arms) > MOST_SERIES:
        arms = st.multiselect("Arms", arms, default=arms[:MOST_SERIES], max_selections=MOST_SERIES, key="arms")
    columns = st.columns(2)
    for number, (metric, title) in enumerate(kind.curve_metrics.items()):
        key = f"{part}_{metric}"
        rows = [
            {"arm": curve.arm, "run": model, "step": point.step + 1, title: point.held_out[key]}
            for model, curve in curves.items()
            if curve.arm in arms
            for point in curve.points
            if key in point.held_out
        ]
        if rows:
            with columns[number % 2]:
                alt = f"Held-out {title} over steps, a colour an arm, a line a run."
                line_chart(rows, x="step", y=title, series="arm", detail="run", alt=alt)


def _show_fit(fit: Fit | FailedFit) -> None:
    st.header("Fit of the loss")
    if isinstance(fit, FailedFit):
        st.warning(f"There is no fit: {fit.failed}.", icon=":material/show_chart:")
        return
    st.markdown(f"`{fit.form}` (N parameters without the token embedding, D tokens; uniform mask)")
    left, right = st.columns(2)
    left.dataframe(
        [{"coefficient": name, **asdict(found)} for name, found in fit.coefficients.items()], hide_index=True
    )
    right.dataframe([asdict(point) for point in fit.extrapolation], hide_index=True)
    st.caption(
        f"Reliable up to {fit.trusted_growth} times the parameters and tokens of the largest run; beyond that the interval is "
        "wider than the gain of a doubling."
        if fit.trusted_growth
        else "Not reliable beyond the sizes of the runs: at twice the size the interval is wider than the gain of a doubling."
    )


def _show_trials(report: SweepReport) -> None:
    st.header("Trials")
    failed = [trial for trial in report.trials if trial.error]
    if failed:
        st.warning(
            f"{len(failed)} of {len(report.trials)} trials failed and are not shown above.", icon=":material/error:"
        )
    st.dataframe(
        [
            {
                "model": trial.model,
                **{path: str(value) for path, value in sorted(trial.point.items())},
                report.kind.metric_title: trial.value,
                "parameters": trial.trained.num_parameters if trial.trained else None,
                "steps": trial.trained.num_steps if trial.trained else trial.stopped_after,
                "operations": trial.trained.training_flops if trial.trained else None,
                "error": trial.error,
            }
            for trial in report.trials
        ],
        hide_index=True,
        column_config={"operations": st.column_config.NumberColumn(format="scientific")},
    )
    with st.expander("Run the best trial by hand"):
        line = " ".join(f"--set '{override}'" for override in report.best.overrides)
        st.code(f"python jobs/{report.kind.base}.py {report.best.recipe} {line}", language=None, wrap_lines=True)


if __name__ == "__main__":
    page()
