"""An evaluation: tables 3, 4, 6, 7 and 8 and figures 2 and 3 of the paper, measured figures next to reported ones.

Clinicians see what the model can do in plain words and its main figures; researchers also see tests, calibration, errors and the
data sets. "Reported" figures are the paper's, on its own data and splits; they are never mixed with measured ones.
"""

import streamlit as st
from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.errors import ArtifactError
from clinical_modernbert.evaluation.report import reported
from clinical_modernbert.evaluation.report.schema import Accuracies, Comparison, Report, Table4, read_report
from mode import is_researcher
from panels.artifact_picker import artifacts_or_stop, choose, show_origin
from panels.charts import bar_chart, column_chart
from panels.evaluation_figures import show_codes, show_efficiency
from panels.evaluation_tasks import show_tasks
from store import show_problems

_MASKS = {"uniform": "15 % of all tokens hidden", "entity": "15 % of clinical tokens hidden, as whole terms"}
_PREDICTORS = {
    "model": "this model",
    "unigram": "most frequent words",
    "bigram_left": "guess from the word before",
    "bigram_right": "guess from the word after",
    "bigram_both": "guess from both neighbours",
}


def page() -> None:
    """Show the newest evaluation, or the selected one."""
    st.title("Evaluation")
    evaluations = artifacts_or_stop(
        "evaluation",
        title="evaluation",
        command="python jobs/evaluate.py evaluate/demo",
        wanted=lambda artifact: artifact.manifest.recipe.get("kind") == "evaluate",
    )
    evaluation = choose(evaluations, label="Evaluation", key="evaluation")
    show_origin(evaluation)
    try:
        _show_report(read_report(evaluation.summary, called=evaluation.uri), evaluation)
    except ArtifactError as error:
        show_problems((str(error),))


def _show_report(report: Report, evaluation: Artifact) -> None:
    if report.table_4:
        _show_table_4(report.table_4)
    if report.comparison:
        _show_encoders(report.comparison)
        show_tasks(report.comparison, public=public_tasks(evaluation))
        if is_researcher() and report.comparison.statistics:
            _show_statistics(report.comparison)
    if report.codes:
        show_codes(report.codes, evaluation)
    if report.efficiency and is_researcher():
        show_efficiency(report.efficiency)


def public_tasks(evaluation: Artifact) -> set[str]:
    """Return the tasks whose data the recipe marks as public: their counts are shown in full."""
    return {task["name"] for task in evaluation.manifest.recipe.get("tasks", []) if task.get("public")}


def _show_table_4(table: Table4) -> None:
    st.header("Table 4: hidden words")
    first = table.keys[0]
    for mask, figures in table.masks.items():
        model, baseline = figures.shares["model"][first], figures.shares["unigram"][first]
        low, high = figures.intervals["model"][first]
        st.markdown(
            f"**{_MASKS.get(mask, mask)}**: of 100 hidden tokens {_guesses(table.top_k[0])} right for **{100 * model:.0f}** "
            f"(95 % interval over documents {100 * low:.1f} to {100 * high:.1f}); the most frequent words alone are right for "
            f"{100 * baseline:.0f}."
        )
        better = [name for name in figures.baselines if figures.shares[name][first] >= model]
        if better:
            names = ", ".join(_PREDICTORS.get(name, name) for name in better)
            st.warning(f"This model is not better than: {names}.", icon=":material/trending_down:")
    masks = list(table.masks)
    mask = st.segmented_control("Mask", masks, default=masks[0], key="mask") or masks[0]
    figures = table.masks[mask]
    rows: list[dict[str, str | float | None]] = [
        {"predictor": _PREDICTORS.get(name, name), **shares} for name, shares in figures.shares.items()
    ]
    # Masked-language models with the corpus' tokenizer, scored on the same tokens.
    rows += [{"predictor": name, **of_one[mask].shares["model"]} for name, of_one in (table.other_masks or {}).items()]
    paper = {k: reported.TABLE_4[k] / 100 if k in reported.TABLE_4 else None for k in table.keys}
    rows.append({"predictor": "reported, under its own mask", **paper})
    chart = [
        {"predictor": row["predictor"], "guesses": f"top-{k}", "share right": row[k]}
        for row in rows
        for k in table.keys
        if row[k] is not None
    ]
    alt = "Share of hidden tokens among the first guesses, for the model, for counting, and as reported."
    column_chart(chart, x="guesses", y="share right", series="predictor", alt=alt)
    st.dataframe(
        rows,
        hide_index=True,
        column_config={k: st.column_config.NumberColumn(f"top-{k}", format="percent") for k in table.keys},
    )
    st.caption(f"{figures.tokens:,} hidden tokens of {table.rows:,} held-out rows, loss {figures.loss:.4f} nats.")
    if figures.sources:
        _show_sources(figures.sources, first)


def _guesses(k: int) -> str:
    return "this model's first guess is" if k == 1 else f"one of this model's first {k} guesses is"


def _show_sources(sources: dict[str, Accuracies], k: str) -> None:
    title = f"top-{k}"
    with st.expander("By source: a mean can rise while one source gets worse"):
        rows = [
            {"source": source, "predictor": _PREDICTORS[name], title: figures.shares[name][k]}
            for source, figures in sources.items()
            for name in ("model", "unigram")
        ]
        alt = f"{title} accuracy by source, of the model and of counting."
        bar_chart(rows, x=title, y="source", series="predictor", alt=alt)
        st.dataframe(
            [{"source": source, "tokens": f.tokens, title: f.shares["model"][k]} for source, f in sources.items()],
            hide_index=True,
            column_config={title: st.column_config.NumberColumn(format="percent")},
        )


def _show_encoders(comparison: Comparison) -> None:
    st.header("What was compared")
    if is_researcher():
        rows = [{"encoder": name, **facts.model_dump()} for name, facts in comparison.encoders.items()]
        st.dataframe(rows, hide_index=True)
    else:
        st.markdown(", ".join(f"`{name}`" for name in comparison.encoders))
    st.caption(
        f"Figures are means over seeds {', '.join(map(str, comparison.seeds))}, with 95 % bootstrap intervals over patients, "
        f'abstracts or documents ({comparison.num_resamples} resamples). "Reported" figures are the paper\'s, on its own data '
        "and splits."
    )
    skipped = [
        {"what": name, "reason": reason}
        for reasons in (comparison.skipped.encoders, comparison.skipped.tasks)
        for name, reason in reasons.items()
    ]
    if skipped:
        with st.expander(f"Not measured here ({len(skipped)})"):
            st.dataframe(skipped, hide_index=True)


def _show_statistics(comparison: Comparison) -> None:
    st.header("Table 3: the data sets")
    rows = []
    for name, facts in comparison.statistics.items():
        paper = reported.TABLE_3.get(name)
        rows.append(
            {
                "set": name,
                "samples": facts.samples,
                "words, mean": facts.mean_words,
                "words, most": facts.most_words,
                "tokens, mean": facts.mean_tokens,
                "tokens, most": facts.most_tokens,
                "reported samples": paper[0] if paper else None,
                "reported mean": paper[1] if paper else None,
                "reported most": paper[2] if paper else None,
            }
        )
    st.dataframe(rows, hide_index=True)


if __name__ == "__main__":
    page()
