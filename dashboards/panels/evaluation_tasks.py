"""Tables 6 to 8: each task with measured intervals and the paper's figures; tests, few-shot curves, calibration and errors."""

import re

import streamlit as st
from clinical_modernbert.evaluation.report import reported
from clinical_modernbert.evaluation.report.schema import Comparison, PairedTest, Range, Result, TaskReport, mode_name
from clinical_modernbert.evaluation.tasks import KINDS
from mode import is_researcher

from panels.charts import Axis, interval_chart, line_chart
from panels.counts import FLOOR, WITHHELD
from panels.evaluation_errors import show_errors

_NUMBER = re.compile(r"\d+\b")
_NO_EXAMPLES = ("labels",)  # facts that count something else


def show_tasks(comparison: Comparison, *, public: set[str]) -> None:
    """Show every task below its table; of tasks that were not measured here, the reported figures alone."""
    names = comparison.task_names
    groups = [(table.title, [name for name in names if name in table.tasks]) for table in reported.TASK_TABLES]
    groups.append(("Further sets", [name for name in names if name not in reported.PAPER_TASKS]))
    for title, members in groups:
        if not members:
            continue
        st.header(title)
        for tab, name in zip(st.tabs(members), members, strict=True):
            with tab:
                if name in comparison.tasks:
                    _show_task(name, comparison.tasks[name], public=name in public)
                else:
                    st.info(f"Not measured here: {comparison.skipped.tasks[name]}.", icon=":material/block:")
                    _show_reported(name)


def _show_task(name: str, task: TaskReport, *, public: bool) -> None:
    st.markdown(KINDS[task.type].PLAIN)
    if task.note:
        st.caption(task.note)
    results = task.full_results
    if results:
        _show_figures(name, task, public=public)
    for run in task.failed:
        st.warning(
            f"{run.encoder}, {mode_name(run.mode)}, seed {run.seed} failed: {run.reason}", icon=":material/error:"
        )
    _show_reported(name)
    if task.few_shot_results:
        _show_few_shot(task.few_shot_results)
    if is_researcher():
        _show_tests(task.paired_tests)
        _show_calibration(results)
        show_errors(task, public=public)
        _show_facts(task.facts, public=public)


def _show_figures(name: str, task: TaskReport, *, public: bool) -> None:
    results = task.full_results
    main = results[0].main_metric
    metrics = list(dict.fromkeys(metric for result in results for metric in result.metrics))
    metric, groups = main, _groups(results[0].groups, public=public)
    if is_researcher():
        metric = st.segmented_control("Figure", metrics, default=main, key=f"metric-{name}") or main
    rows = [
        {
            "encoder": result.encoder,
            "mode": result.mode_name,
            metric: figure.mean,
            "low": figure.low,
            "high": figure.high,
            "groups": _groups(result.groups, public=public),
        }
        for result in results
        if (figure := result.metrics.get(metric))
    ]
    rows += [
        {
            "encoder": baseline.name,
            "mode": "baseline",
            metric: figure.mean,
            "low": figure.low,
            "high": figure.high,
            "groups": groups,
        }
        for baseline in task.baselines
        if (figure := baseline.metrics.get(metric))
    ]
    paper = [
        {"encoder": encoder, "mode": "reported", metric: figure, "low": None, "high": None}
        for encoder, figure in reported.task_figures(name).get(metric, {}).items()
    ]
    alt = f"{metric} of each encoder with its 95 % interval, and as reported; the table below has the numbers."
    interval_chart(rows + paper, x=metric, y="encoder", series="mode", alt=alt)
    st.dataframe(rows, hide_index=True)


def _show_reported(name: str) -> None:
    figures = reported.task_figures(name)
    if figures:
        with st.expander("As reported in the paper"):
            st.dataframe(
                [
                    {"encoder": encoder, **{metric: by_encoder[encoder] for metric, by_encoder in figures.items()}}
                    for encoder in reported.ENCODERS
                ],
                hide_index=True,
            )


def _show_few_shot(results: list[Result]) -> None:
    metric = results[0].main_metric
    rows = [
        {
            "encoder": f"{result.encoder}, {result.mode_name}",
            "training examples": result.num_train,
            metric: result.metrics[metric].mean,
        }
        for result in sorted(results, key=lambda result: result.num_train or 0)
    ]
    st.markdown("**With few training examples**")
    alt = f"{metric} over the number of training examples."
    line_chart(rows, x=Axis("training examples", log=True), y=metric, series="encoder", alt=alt)


def _show_tests(tests: list[PairedTest]) -> None:
    if not tests:
        return
    st.markdown(
        "**Tests over seeds and groups**, with Holm's correction over the comparisons of a mode. A verdict needs five seeds of "
        "each trained encoder."
    )
    st.dataframe(
        [
            {
                "mode": test.mode.replace("_", "-"),
                "comparison": f"{test.first} less {test.second}",
                "figure": test.metric,
                "difference": test.difference,
                "low": test.low,
                "high": test.high,
                "p": test.p,
                "p (Holm)": test.p_holm,
                "verdict": f"{test.first}: {test.verdict}",
            }
            for test in tests
        ],
        hide_index=True,
    )


def _show_calibration(results: list[Result]) -> None:
    calibrated = [(result, result.calibration) for result in results if result.calibration]
    if not calibrated:
        return
    st.markdown("**Calibration**, means over seeds")
    rows: list[dict[str, object]] = [{"encoder": "perfect", "predicted": end, "observed": end} for end in (0.0, 1.0)]
    for result, calibration in calibrated:
        name = f"{result.encoder}, {result.mode_name}"
        # A point of few patients says little, and could identify them.
        points = [point for point in calibration.curve if point.examples >= FLOOR]
        rows += [{"encoder": name, "predicted": p.predicted, "observed": p.observed} for p in points]
    line_chart(rows, x="predicted", y="observed", series="encoder", alt="Observed share over predicted probability.")
    st.dataframe(
        [
            {
                "encoder": result.encoder,
                "mode": result.mode_name,
                "Brier": calibration.brier,
                "95 %": _range(calibration.intervals.brier),
                "expected calibration error": calibration.expected_calibration_error,
                "95 % of it": _range(calibration.intervals.expected_calibration_error),
            }
            for result, calibration in calibrated
        ],
        hide_index=True,
    )


def _range(ends: Range) -> str:
    return f"{ends[0]:.4f} to {ends[1]:.4f}"


def _groups(count: int, *, public: bool) -> str:
    """Return the number of patients, abstracts or documents."""
    return f"{count:,}" if public or count >= FLOOR else WITHHELD


def fact_in_words(fact: str, value: str, *, public: bool) -> str:
    """Return a fact with its leading number withheld if it is a small count of examples."""
    number = _NUMBER.match(value)
    small = bool(number and 0 < int(number[0]) < FLOOR) and fact not in _NO_EXAMPLES
    return f"{WITHHELD}{value[number.end() :]}" if number and small and not public else value


def _show_facts(facts: dict[str, list[str]], *, public: bool) -> None:
    if facts:
        with st.expander("What was cut or left out"):
            st.dataframe(
                [
                    {"fact": fact.replace("_", " "), "value": fact_in_words(fact, value, public=public)}
                    for fact, values in facts.items()
                    for value in values
                ],
                hide_index=True,
            )
