"""Figures 2 and 3 as Markdown: their numbers, with what is needed to read them."""

from collections.abc import Iterable

from clinical_modernbert.evaluation.report import reported
from clinical_modernbert.evaluation.report.markdown import NONE, cell, ranged, table
from clinical_modernbert.evaluation.report.plots import PROTOCOLS
from clinical_modernbert.evaluation.report.schema import CodeFigures, CodesReport, EfficiencyReport, LookUpFigures


def figure_2(codes: CodesReport) -> list[str]:
    """Return the code figures of each encoder, its untrained twin, seen and held-out codes, and TF-IDF."""
    rows = []
    for encoder, figures in codes.encoders.items():
        rows.append(_code_row(encoder, figures))
        if figures.untrained:
            rows.append(_code_row(f"{encoder}, untrained", figures.untrained))
        for name, subset in figures.subsets().items():
            rows.append(_code_row(f"{encoder}, codes {name.replace('_', ' ')}", subset))
    rows.append(_code_row("TF-IDF", codes.tfidf))
    head = [
        "vectors",
        "codes",
        f"chapter purity@{codes.k}",
        "outside its category",
        "nearest neighbour agrees",
        "silhouette",
        "permutation of each, 95 % range",
    ]
    text = (
        "Measured in the original space; the map (figure2.png) only shows. Intervals: bootstrap over code categories."
    )
    return ["## Figure 2: ICD-9 codes", text, table(head, rows), *_look_ups(codes)]


def _look_ups(codes: CodesReport) -> list[str]:
    crosswalk = (
        "Crosswalk: how often the nearest 1 or 10 ICD-10-CM descriptions hold a counterpart of the ICD-9-CM description. "
        "It asks for meaning where purity also counts shared words."
    )
    lay_words = (
        "Lay words: how often the nearest 1 or 10 ICD-9-CM descriptions hold a code that an everyday phrase or an abbreviation "
        "means. Intervals: bootstrap over meanings."
    )
    parts = []
    for text, figures in ((crosswalk, codes.crosswalk), (lay_words, codes.lay_words)):
        rows = [row for name, found in figures.items() for row in _look_up_rows(name, found)]
        if rows:
            parts += [text, table(["vectors", "queries", "candidates", "recall@1", "recall@10"], rows)]
    return parts


def _look_up_rows(name: str, found: LookUpFigures) -> list[list[str]]:
    """Return a row for all queries, and one for those about concepts that the encoder's pairs held out."""
    label = f"{name}, trained on pairs of these codes" if found.was_trained else name
    counts = f"{found.queries:,}", f"{found.candidates:,}"
    rows = [[label, *counts, cell(found.recall_at_1), cell(found.recall_at_10)]]
    return rows + (_look_up_rows(f"{name}, held-out concepts", found.held_out) if found.held_out else [])


def _code_row(label: str, figures: CodeFigures) -> list[str]:
    outside = cell(figures.purity_outside) if figures.purity_outside else NONE
    chance = [figures.permutations[name] for name in figures.estimates()]
    ranges = [ranged(figure.mean, (figure.low, figure.high), digits=3) for figure in chance]
    purity, *others = map(cell, figures.estimates().values())
    return [label, f"{figures.codes:,}", purity, outside, *others, " / ".join(ranges)]


def figure_3(efficiency: EfficiencyReport) -> list[str]:
    """Return the seconds of each encoder under each protocol, next to the paper's."""
    on_gpu = any(
        point.memory_bytes for of_one in efficiency.protocols.values() for points in of_one.values() for point in points
    )
    head = ["protocol", "encoder", "tokenizer", "texts", "tokens a text", "seconds (rounds)", "of which tokenizing",
            "times the fastest", "texts a second", "tokens a second", *(["memory, GiB"] if on_gpu else [])]  # fmt: skip
    arithmetic = "; ".join(f"{name} ({PROTOCOLS[protocol]})" for protocol, name in efficiency.arithmetic.items())
    text = (
        f"Hardware: {efficiency.hardware}. Arithmetic: {arithmetic}. Seconds are means over rounds, with the fastest and the "
        f"slowest one. Reported for 100,000 texts of 512 tokens on one A100: {reported.figure_3()}."
    )
    return ["## Figure 3: efficiency", text, table(head, _timed_rows(efficiency, with_memory=on_gpu))]


def _timed_rows(efficiency: EfficiencyReport, *, with_memory: bool) -> Iterable[list[str]]:
    for protocol, encoders in efficiency.protocols.items():
        for encoder, points in encoders.items():
            for number, point in enumerate(points):
                fastest = min(of_one[number].mean_seconds for of_one in encoders.values())
                yield [
                    PROTOCOLS[protocol], encoder, efficiency.tokenizers[protocol][encoder], f"{point.texts:,}",
                    f"{point.tokens / point.texts:.0f}",
                    f"{point.mean_seconds:,.2f} ({min(point.seconds):,.2f} to {max(point.seconds):,.2f})",
                    f"{point.tokenizing_seconds:,.2f}", f"{point.mean_seconds / fastest:.2f}",
                    f"{point.texts_per_second:,.1f}", f"{point.tokens_per_second:,.0f}",
                    *([f"{(point.memory_bytes or 0) / 2**30:.2f}"] if with_memory else []),
                ]  # fmt: skip
