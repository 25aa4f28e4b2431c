"""Figure 2, how close codes of one chapter are to each other, and figure 3, how long embedding takes."""

from collections.abc import Iterator

import streamlit as st
from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.evaluation.report import reported
from clinical_modernbert.evaluation.report.plots import PROTOCOLS
from clinical_modernbert.evaluation.report.schema import CodeFigures, CodesReport, EfficiencyReport, Estimate

from panels.charts import interval_chart, line_chart
from panels.evaluation_maps import sample_of, show_maps

_FIGURES = {
    "purity": "share of the nearest codes that are of the same chapter",
    "neighbour_agreement": "share of codes whose nearest code is of the same chapter",
    "silhouette": "silhouette (cosine), from -1 to 1",
}
_TIMES = ("seconds", "fastest", "slowest", "tokenizing", "texts a second")


def show_codes(codes: CodesReport, evaluation: Artifact) -> None:
    """Show figure 2: figures in the original space with their intervals, the maps, and the picture on request."""
    st.header("Figure 2: ICD-9 codes")
    metric = st.segmented_control("Figure", list(_FIGURES), default="purity", key="codes-metric") or "purity"
    sampled = "".join(f", {line}" for line in sample_of(evaluation, codes.num_codes))
    st.caption(
        f"{_FIGURES[metric]}; {codes.num_codes:,} codes{sampled}, k={codes.k}, measured in the model's own space."
    )
    rows = list(_code_rows(codes, metric))
    alt = f"{metric} of each encoder with its interval, trained, untrained and by chance."
    interval_chart(rows, x="value", y="encoder", series="codes of", alt=alt)
    st.dataframe(rows, hide_index=True)
    show_maps(evaluation)
    if any(entry.path == "figure2.png" for entry in evaluation.manifest.files) and st.toggle("Show the picture"):
        st.image(
            evaluation.file("figure2.png").read_bytes(),
            caption="t-SNE of the codes: an illustration. The figures above are measured in the original space.",
        )


def _code_rows(codes: CodesReport, metric: str) -> Iterator[dict[str, object]]:
    for encoder, figures in codes.encoders.items():
        yield _row(encoder, "trained", figures.estimates()[metric], figures)
        if figures.untrained:
            yield _row(encoder, "untrained", figures.untrained.estimates()[metric], figures.untrained)
        for name, subset in figures.subsets().items():
            yield _row(encoder, name.replace("_", " "), subset.estimates()[metric], subset)
        yield _row(encoder, "chance", figures.permutations[metric], figures)
    yield _row("shared words (TF-IDF)", "trained", codes.tfidf.estimates()[metric], codes.tfidf)


def _row(encoder: str, series: str, figure: Estimate, figures: CodeFigures) -> dict[str, object]:
    return {
        "encoder": encoder,
        "codes of": series,
        "value": figure.mean,
        "low": figure.low,
        "high": figure.high,
        "codes": figures.codes,
    }


def show_efficiency(efficiency: EfficiencyReport) -> None:
    """Show figure 3: seconds over the number of texts, one picture a protocol."""
    st.header("Figure 3: how long embedding takes")
    st.caption(
        f"Measured on {efficiency.hardware}. Reported for 100,000 texts of 512 tokens on one A100: {reported.figure_3()}."
    )
    protocols = efficiency.protocols
    for column, (protocol, encoders) in zip(st.columns(len(protocols)), protocols.items(), strict=True):
        with column:
            st.markdown(f"**{PROTOCOLS[protocol]}**")
            rows = [
                {"encoder": encoder, "texts": point.texts, "seconds": point.mean_seconds}
                for encoder, points in encoders.items()
                for point in points
            ]
            line_chart(
                rows, x="texts", y="seconds", series="encoder", alt=f"Seconds over texts, {PROTOCOLS[protocol]}."
            )
    st.dataframe(
        [
            {
                "protocol": PROTOCOLS[protocol],
                "encoder": encoder,
                "tokenizer": efficiency.tokenizers[protocol][encoder],
                "texts": point.texts,
                "seconds": point.mean_seconds,
                "fastest": min(point.seconds),
                "slowest": max(point.seconds),
                "tokenizing": point.tokenizing_seconds,
                "texts a second": point.texts_per_second,
                "tokens a second": point.tokens_per_second,
            }
            for protocol, encoders in protocols.items()
            for encoder, points in encoders.items()
            for point in points
        ],
        hide_index=True,
        column_config=dict.fromkeys(_TIMES, st.column_config.NumberColumn(format="%.2f"))
        | {"tokens a second": st.column_config.NumberColumn(format="%,.0f")},
    )
