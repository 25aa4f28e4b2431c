"""An evaluation: tables 4, 6, 7 and 8 and figures 2 and 3 of the paper, our figures beside those it reports.

Clinicians see what the model can do in plain words and its main figures; researchers also tests, calibration, errors and the
data sets. "Reported" figures are the paper's, on its own data and splits: they stand beside ours and are never mixed with them.
"""

from typing import Any

import streamlit as st
from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.evaluation.report import reported
from mode import is_researcher
from panels.artifact_picker import artifacts_or_stop, choose, show_origin
from panels.charts import bar_chart, column_chart
from panels.evaluation_figures import show_codes, show_efficiency
from panels.evaluation_tasks import show_tasks

_MASKS = {"uniform": "15 % of all tokens hidden", "entity": "15 % of clinical tokens hidden, as whole terms"}
_WHO = {
    "model": "this model",
    "unigram": "most frequent words",
    "bigram_left": "guess from the word before",
    "bigram_right": "guess from the word after",
    "bigram_both": "guess from both neighbours",
}


def page() -> None:
    """Show the newest evaluation, or the one chosen."""
    st.title("Evaluation")
    found = artifacts_or_stop(
        "evaluation",
        title="evaluation",
        command="python jobs/evaluate.py evaluate/demo",
        wanted=lambda artifact: artifact.manifest.recipe.get("kind") == "evaluate",
    )
    evaluation = choose(found, label="Evaluation", key="evaluation")
    show_origin(evaluation)
    report = evaluation.summary
    if "masks" in report:
        _show_table_4(report)
    if "tasks" in report:
        _show_encoders(report)
        show_tasks(report, public=public_tasks(evaluation))
        if is_researcher() and report["statistics"]:
            _show_statistics(report)
    if "codes" in report:
        show_codes(report["codes"], evaluation)
    if "efficiency" in report and is_researcher():
        show_efficiency(report["efficiency"])


def public_tasks(evaluation: Artifact) -> set[str]:
    """Return the tasks whose data the recipe calls public: their counts are shown whole."""
    return {task["name"] for task in evaluation.manifest.recipe.get("tasks", []) if task.get("public")}


def _show_table_4(report: dict[str, Any]) -> None:
    st.subheader("Table 4: hidden words")
    masks, top_k = report["masks"], [str(k) for k in report["top_k"]]
    for mask, figures in masks.items():
        model, plain = figures["model"]["1"], figures["unigram"]["1"]
        low, high = figures["intervals"]["model"]["1"]
        st.markdown(
            f"**{_MASKS.get(mask, mask)}**: of 100 hidden tokens this model's first guess is right for **{100 * model:.0f}** "
            f"(95 % interval over documents {100 * low:.1f} to {100 * high:.1f}); always answering with the most frequent "
            f"words, {100 * plain:.0f} are."
        )
        better = [who for who in _baselines(figures) if figures[who]["1"] >= model]
        if better:
            names = ", ".join(_WHO.get(who, who) for who in better)
            st.warning(f"This model is not better than: {names}.", icon=":material/trending_down:")
    mask = st.segmented_control("Mask", list(masks), default=next(iter(masks)), key="mask") or next(iter(masks))
    figures = masks[mask]
    rows = [{"who": _WHO.get(who, who), **figures[who]} for who in ("model", *_baselines(figures))]
    # Only a report with encoders has them: masked-language models of the corpus' tokenizer, asked the same.
    rows += [{"who": name, **other[mask]["model"]} for name, other in report.get("other_masks", {}).items()]
    rows.append({"who": "reported, under its own mask", **{k: reported.TABLE_4.get(k, 0) / 100 or None for k in top_k}})
    chart = [
        {"who": row["who"], "guesses": f"top-{k}", "share right": row[k]}
        for row in rows
        for k in top_k
        if row[k] is not None
    ]
    alt = "Share of hidden tokens among the first guesses, for the model, for counting, and as reported."
    column_chart(chart, x="guesses", y="share right", series="who", alt=alt)
    st.dataframe(
        rows,
        hide_index=True,
        column_config={k: st.column_config.NumberColumn(f"top-{k}", format="percent") for k in top_k},
    )
    st.caption(
        f"{figures['tokens']:,} hidden tokens of {report['rows']:,} held-out rows, loss {figures['loss']:.4f} nats."
    )
    if figures["sources"]:
        _show_sources(figures["sources"])


def _baselines(figures: dict[str, Any]) -> list[str]:
    return [who for who in figures if who != "model" and isinstance(figures[who], dict) and "1" in figures[who]]


def _show_sources(sources: dict[str, Any]) -> None:
    with st.expander("By source: a mean can rise while one source gets worse"):
        rows = [
            {"source": source, "who": _WHO.get(who, who), "top-1": figures[who]["1"]}
            for source, figures in sources.items()
            for who in ("model", "unigram")
        ]
        bar_chart(
            rows, x="top-1", y="source", series="who", alt="Top-1 accuracy by source, of the model and of counting."
        )
        st.dataframe(
            [{"source": s, "tokens": f["tokens"], "top-1": f["model"]["1"]} for s, f in sources.items()],
            hide_index=True,
            column_config={"top-1": st.column_config.NumberColumn(format="percent")},
        )


def _show_encoders(report: dict[str, Any]) -> None:
    st.subheader("What was compared")
    if is_researcher():
        st.dataframe([{"encoder": name, **facts} for name, facts in report["encoders"].items()], hide_index=True)
    else:
        st.markdown(", ".join(f"`{name}`" for name in report["encoders"]))
    st.caption(
        f"Figures are means over seeds {', '.join(map(str, report['seeds']))}, with 95 % bootstrap intervals over patients, "
        f'abstracts or documents ({report["num_resamples"]} resamples). "Reported" figures are the paper\'s, on its own data and '
        "splits."
    )
    skipped = [
        {"what": name, "why": why} for kind in ("encoders", "tasks") for name, why in report["skipped"][kind].items()
    ]
    if skipped:
        with st.expander(f"Not measured here ({len(skipped)})"):
            st.dataframe(skipped, hide_index=True)


def _show_statistics(report: dict[str, Any]) -> None:
    st.subheader("Table 3: the data sets")
    rows = []
    for name, facts in report["statistics"].items():
        paper = reported.TABLE_3.get(name)
        rows.append(
            {
                "set": name,
                "samples": facts["samples"],
                "words, mean": facts["mean_words"],
                "words, most": facts["most_words"],
                "tokens, mean": facts["mean_tokens"],
                "tokens, most": facts["most_tokens"],
                "reported samples": paper[0] if paper else None,
                "reported mean": paper[1] if paper else None,
                "reported most": paper[2] if paper else None,
            }
        )
    st.dataframe(rows, hide_index=True)


if __name__ == "__main__":
    page()
