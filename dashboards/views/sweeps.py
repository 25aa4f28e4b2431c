"""Sweeps: an ablation in the form of the paper's Table 5, the trials of a search, and curves in the form of Figure 4.

All figures are read from the report. Differences are within a seed, with intervals over held-out documents, and their mean over
seeds. The report says better or worse only where a paired t test over at least three seeds does. The paper's figures are shown
separately, because they use another mask.
"""

import json
from dataclasses import asdict

import streamlit as st
from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.evaluation.report.reported import TABLE_5
from clinical_modernbert.recipe.vocabulary import MaskKind
from clinical_modernbert.sweeps.results import HIDDEN, ArmCurve, Comparison, FailedFit, Fit, SweepReport
from clinical_modernbert.sweeps.results_json import curves_from_json, report_from_json
from panels.artifact_picker import artifacts_or_stop, choose, show_origin
from panels.charts import MOST_SERIES, interval_chart, line_chart

_METRICS = {"top1": "top-1", "top5": "top-5", "top10": "top-10", "top25": "top-25", "loss": "loss"}


def page() -> None:
    """Show the newest sweep, or the one chosen."""
    st.title("Sweeps")
    found = artifacts_or_stop("sweep", title="sweep", command="python jobs/sweep.py sweep/demo")
    sweep = choose(found, label="Sweep", key="sweep")
    show_origin(sweep)
    report, curves = _loaded(sweep, sweep.uri, sweep.manifest.digest)
    mask = st.segmented_control("Mask", list(HIDDEN), default="uniform", key="mask") or "uniform"
    st.caption(f"Held-out text, {mask} mask: {HIDDEN[mask]}.")
    if report.comparison:
        _show_arms(report.comparison, mask)
    else:
        _show_search(report)
    _show_curves(curves, mask)
    if report.fit:
        _show_fit(report.fit)
    _show_trials(report)


@st.cache_resource(max_entries=8, show_spinner="Reading the sweep")
def _loaded(_sweep: Artifact, uri: str, digest: str) -> tuple[SweepReport, dict[str, ArmCurve]]:
    report, curves = (json.loads(_sweep.file(name).read_bytes()) for name in ("report.json", "curves.json"))
    return report_from_json(report, called=uri), curves_from_json(curves)


def _show_arms(comparison: Comparison, mask: MaskKind) -> None:
    st.subheader("Table 5: the arms")
    rows = []
    for name, arm in comparison.arms.items():
        figures = arm.masks.get(mask, {})
        means = {title: sum(figures[m]) / len(figures[m]) if figures else None for m, title in _METRICS.items()}
        mark = " (baseline)" if name == comparison.baseline else ""
        rows.append({"arm": name + mark, "seeds": len(arm.seeds), **means, "overrides": " ".join(arm.overrides)})
    st.dataframe(rows, hide_index=True, column_config=_PERCENT)
    with st.expander("As reported in the paper"):
        st.dataframe(
            [{"configuration": name, **dict(zip(_TOP, figures, strict=True))} for name, *figures in TABLE_5],
            hide_index=True,
        )
        st.caption(
            "In per cent. The paper scores under the training mask, which differs between arms, so these figures are not "
            "comparable with those above."
        )
    st.subheader("Difference from the baseline")
    metric = st.segmented_control(
        "Figure", list(_METRICS), default="top1", key="metric", format_func=_METRICS.__getitem__
    )
    metric = metric or "top1"
    differences, verdicts, few = [], [], []
    for name, arm in comparison.arms.items():
        pair = arm.against_baseline.get(mask, {}).get(metric)
        if not pair:
            continue
        verdicts.append({"arm": name, "verdict": pair.verdict, "p (Holm)": pair.p_holm})
        if len(pair.seeds) < comparison.seeds_needed:
            few.append(name)
        title = f"{_METRICS[metric]} minus the baseline"
        by_seed = {f"seed {seed}": found for seed, found in pair.seeds.items()}
        differences += [
            {"arm": name, "seed": seed, title: found.value, "low": found.low, "high": found.high}
            for seed, found in {**by_seed, "mean over seeds": pair.mean}.items()
        ]
    if differences:
        interval_chart(
            differences,
            x=f"{_METRICS[metric]} minus the baseline",
            y="arm",
            series="seed",
            zero_rule=True,
            alt=f"{metric} of each arm minus the baseline, by seed, with 95 % intervals; the table has the numbers.",
        )
        st.caption(
            "The interval of a seed is over documents alone. That of the mean, and p, count seeds and documents."
        )
        left, right = st.columns([1, 2])
        left.dataframe(verdicts, hide_index=True)
        right.dataframe(differences, hide_index=True)
        if few:
            st.caption(f"Undecided, because they have fewer than {comparison.seeds_needed} seeds: {', '.join(few)}.")
    _show_pairing(comparison)


def _show_pairing(comparison: Comparison) -> None:
    same, other = comparison.same_within_seeds, comparison.different_within_seeds
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
    st.subheader("The search")
    best = report.best
    point = ", ".join(f"`{path}={value}`" for path, value in sorted(best.point.items()))
    st.markdown(
        f"Best trial: {point}, held-out loss {best.held_out_loss:.4f} (uniform mask). Each trial has one seed, so close "
        "trials cannot be ranked."
    )
    finished = [trial for trial in report.trials if trial.finished]
    for path in sorted(best.point):
        rows = [{path: t.point[path], "held-out loss": t.held_out_loss, "trial": "trials"} for t in finished]
        values = {row[path] for row in rows}
        if len(values) > 1 and all(isinstance(value, int | float) and value > 0 for value in values):
            rows.sort(key=lambda row: row[path])
            line_chart(rows, x=path, y="held-out loss", series="trial", log_x=True, alt=f"Held-out loss over {path}.")


def _show_curves(curves: dict[str, ArmCurve], mask: MaskKind) -> None:
    st.subheader("Figure 4: the curves")
    arms = list(dict.fromkeys(curve.arm for curve in curves.values()))
    if len(arms) > MOST_SERIES:
        arms = st.multiselect("Arms", arms, default=arms[:MOST_SERIES], max_selections=MOST_SERIES, key="arms")
    columns = st.columns(2)
    for number, (metric, title) in enumerate(_METRICS.items()):
        key = f"{mask}_{metric}"
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
    st.subheader("Fit of the loss")
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
    st.subheader("Trials")
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
                "held-out loss": trial.held_out_loss,
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
        st.code(f"python jobs/pretrain.py {report.best.recipe} {line}", language=None, wrap_lines=True)


_TOP = ("top-1", "top-5", "top-10", "top-25")
_PERCENT = {title: st.column_config.NumberColumn(format="percent") for title in _TOP}


if __name__ == "__main__":
    page()
