"""Tables 6 to 8: each task with our intervals beside the paper's figures; tests, few-shot curves, calibration and errors."""

from typing import Any

import streamlit as st
from clinical_modernbert.evaluation.report.reported import ENCODERS, TABLES_6_TO_8
from clinical_modernbert.evaluation.tasks import KINDS
from mode import is_researcher

from panels.charts import interval_chart, line_chart
from panels.counts import FLOOR
from panels.evaluation_errors import show_errors

_TABLES = {
    "Table 6: short context": ("ehr", "pubmed-nct", "medner"),
    "Table 7: retrieval": ("pmc-patients", "pmc-patients-par"),
    "Table 8: long context": ("i2b2-2006", "i2b2-2010", "i2b2-2012", "i2b2-2014"),
}


def show_tasks(report: dict[str, Any], *, public: set[str]) -> None:
    """Show every task below its table; those that were not measured here with the reported figures alone."""
    names = [*report["tasks"], *report["skipped"]["tasks"]]
    grouped = {title: [name for name in names if name in members] for title, members in _TABLES.items()}
    known = {name for members in _TABLES.values() for name in members}
    grouped["Further sets"] = [name for name in names if name not in known]
    for title, members in grouped.items():
        if not members:
            continue
        st.subheader(title)
        for tab, name in zip(st.tabs(members), members, strict=True):
            with tab:
                if name in report["tasks"]:
                    _show_task(name, report["tasks"][name], public=name in public)
                else:
                    st.info(f"Not measured here: {report['skipped']['tasks'][name]}.", icon=":material/block:")
                    _show_reported(name)


def _show_task(name: str, task: dict[str, Any], *, public: bool) -> None:
    st.markdown(KINDS[task["type"]].PLAIN)
    if task["note"]:
        st.caption(task["note"])
    whole = [result for result in task["results"] if result["num_train"] is None]
    metrics = list(dict.fromkeys(metric for result in whole for metric in result["metrics"]))
    main = whole[0]["main_metric"] if whole else ""
    if is_researcher() and metrics:
        shown = st.segmented_control("Figure", metrics, default=main, key=f"metric-{name}") or main
    else:
        shown = main
    if whole:
        _show_figures(name, whole, shown)
    _show_reported(name)
    curve = [result for result in task["results"] if result["num_train"] is not None]
    if curve:
        _show_few_shot(curve)
    if is_researcher():
        _show_tests(task["paired_tests"])
        _show_calibration(whole)
        show_errors(task.get("errors", {}), public=public)
        _show_facts(task["facts"])


def _show_figures(name: str, results: list[dict[str, Any]], metric: str) -> None:
    rows = [
        {
            "encoder": result["encoder"],
            "how": result["mode"].replace("_", "-"),
            metric: result["metrics"][metric]["mean"],
            "low": result["metrics"][metric]["low"],
            "high": result["metrics"][metric]["high"],
            "groups": result["groups"],
        }
        for result in results
        if metric in result["metrics"]
    ]
    paper = [
        {"encoder": encoder, "how": "reported", metric: figures[number], "low": None, "high": None}
        for task, of, figures in TABLES_6_TO_8
        if (task, of) == (name, metric)
        for number, encoder in enumerate(ENCODERS)
    ]
    alt = f"{metric} of each encoder with its 95 % interval, and as reported; the table below has the numbers."
    interval_chart(rows + paper, x=metric, y="encoder", series="how", alt=alt)
    st.dataframe(rows, hide_index=True)


def _show_reported(name: str) -> None:
    columns = [(metric, figures) for task, metric, figures in TABLES_6_TO_8 if task == name]
    if columns:
        with st.expander("As reported in the paper"):
            st.dataframe(
                [
                    {"encoder": encoder, **{metric: figures[number] for metric, figures in columns}}
                    for number, encoder in enumerate(ENCODERS)
                ],
                hide_index=True,
            )


def _show_few_shot(results: list[dict[str, Any]]) -> None:
    metric = results[0]["main_metric"]
    rows = [
        {
            "encoder": f"{result['encoder']}, {result['mode'].replace('_', '-')}",
            "training examples": result["num_train"],
            metric: result["metrics"][metric]["mean"],
        }
        for result in results
    ]
    rows.sort(key=lambda row: row["training examples"])
    st.markdown("**With few training examples**")
    alt = f"{metric} over the number of training examples."
    line_chart(rows, x="training examples", y=metric, series="encoder", log_x=True, alt=alt)


def _show_tests(tests: list[dict[str, Any]]) -> None:
    if not tests:
        return
    st.markdown("**Paired permutation tests**, by group; Holm's correction over the comparisons of the task")
    st.dataframe(
        [
            {
                "how": test["mode"].replace("_", "-"),
                "comparison": f"{test['first']} less {test['second']}",
                "figure": test["metric"],
                "difference": test["difference"],
                "p": test["p"],
                "p (Holm)": test["p_holm"],
            }
            for test in tests
        ],
        hide_index=True,
    )


def _show_calibration(results: list[dict[str, Any]]) -> None:
    found = [result for result in results if "calibration" in result]
    if not found:
        return
    st.markdown("**Calibration**, means over seeds")
    rows = [{"encoder": "perfect", "predicted": end, "observed": end} for end in (0.0, 1.0)]
    for result in found:
        name = f"{result['encoder']}, {result['mode'].replace('_', '-')}"
        # A point of few patients says little and could point at them.
        points = [point for point in result["calibration"]["curve"] if point["examples"] >= FLOOR]
        rows += [{"encoder": name, "predicted": p["predicted"], "observed": p["observed"]} for p in points]
    line_chart(rows, x="predicted", y="observed", series="encoder", alt="Observed share over predicted probability.")
    st.dataframe(
        [
            {
                "encoder": result["encoder"],
                "how": result["mode"].replace("_", "-"),
                "Brier": result["calibration"]["brier"],
                "95 %": _range(result["calibration"]["intervals"]["brier"]),
                "expected calibration error": result["calibration"]["expected_calibration_error"],
                "95 % of it": _range(result["calibration"]["intervals"]["expected_calibration_error"]),
            }
            for result in found
        ],
        hide_index=True,
    )


def _range(ends: list[float]) -> str:
    return f"{ends[0]:.4f} to {ends[1]:.4f}"


def _show_facts(facts: dict[str, list[str]]) -> None:
    if facts:
        with st.expander("What the reader of these figures must know"):
            st.dataframe(
                [
                    {"fact": fact.replace("_", " "), "value": value}
                    for fact, values in facts.items()
                    for value in values
                ],
                hide_index=True,
            )
