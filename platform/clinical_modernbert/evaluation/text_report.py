"""The report as Markdown: our figures in the form of the paper's tables, the paper's own beside them as "reported"."""

from collections.abc import Iterable, Sequence
from typing import Any

from clinical_modernbert.evaluation import reported
from clinical_modernbert.evaluation.figures import PROTOCOLS

_SHORT = {"ehr", "pubmed-nct", "medner"}
# Metrics that a kind of task shows, in this order.
_SHOWN = {
    "sentence_roles": ("accuracy", "f1_macro", "f1_weighted"),
    "entities": ("f1", "token_accuracy"),
    "disposition": ("auroc", "accuracy"),
    "retrieval": ("ndcg@10", "precision@10", "recall@10", "map"),
}


def render(report: dict[str, Any]) -> str:
    """Return the whole report."""
    parts = ["# Evaluation", *_preface(report), *_table_4(report), *_statistics(report)]
    for title, names in _tables(report):
        parts.append(f"## {title}")
        for name in names:
            parts += _task(name, report)
    parts += _codes(report) + _efficiency(report)
    return "\n\n".join(parts) + "\n"


def _tables(report: dict[str, Any]) -> Iterable[tuple[str, list[str]]]:
    tasks = {**report["tasks"], **report["skipped"]["tasks"]}
    paper = {task for task, _, _ in reported.TABLES_6_TO_8}
    for title, member in (
        ("Table 6: short context", lambda name: name in _SHORT),
        ("Table 7: retrieval", lambda name: name == "pmc-patients"),
        ("Table 8: long context", lambda name: name.startswith("i2b2-")),
        ("Further sets", lambda name: name not in paper),
    ):
        names = [name for name in tasks if member(name)]
        if names:
            yield title, names


def _preface(report: dict[str, Any]) -> list[str]:
    rows = [
        [name, facts["origin"], facts["architecture"], facts["max_tokens"], facts["pooling"]]
        for name, facts in report["encoders"].items()
    ]
    parts = [_table(["encoder", "origin", "architecture", "limit, tokens", "pooling"], rows)]
    parts.append(
        f"Figures are means over seeds {', '.join(map(str, report['seeds']))}; in brackets a 95 % bootstrap interval over groups "
        f"(patients, abstracts, documents; {report['num_resamples']} resamples). p: paired permutation test by group, Holm's "
        'correction over the comparisons of a task. "Reported" figures are the paper\'s, on its own data and splits.'
    )
    skipped = [f"- {name}: {why}" for kind in ("encoders", "tasks") for name, why in report["skipped"][kind].items()]
    return [*parts, "Skipped:\n\n" + "\n".join(skipped)] if skipped else parts


def _table_4(report: dict[str, Any]) -> list[str]:
    if "masks" not in report:
        return []
    rows = []
    for mask, figures in report["masks"].items():
        for who in [key for key in figures if isinstance(figures[key], dict) and "1" in figures[key]]:
            rows.append([f"{who}, {mask} mask", *(f"{figures[who][str(k)]:.2%}" for k in report["top_k"])])
    rows.append(
        ["reported (its own mask)", *(f"{reported.TABLE_4.get(str(k), float('nan')):.2f}%" for k in report["top_k"])]
    )
    return ["## Table 4: masked tokens", _table(["", *(f"top-{k}" for k in report["top_k"])], rows)]


def _statistics(report: dict[str, Any]) -> list[str]:
    rows = []
    for name, s in report["statistics"].items():
        words = f"{s['mean_words']:.1f} / {s['most_words']:,}"
        paper = reported.TABLE_3.get(name)
        beside = f"{paper[0]:,}; {paper[1]:,} / {paper[2]:,}" if paper else ""
        rows.append([name, f"{s['samples']:,}", words, f"{s['mean_tokens']:.1f} / {s['most_tokens']:,}", beside])
    if not rows:
        return []
    tokens_of = next(iter(report["statistics"].values()))["tokens_of"]
    head = ["set", "samples", "words, mean / most", f"tokens of {tokens_of}, mean / most", "reported"]
    return ["## Table 3: the data sets", _table(head, rows)]


def _task(name: str, report: dict[str, Any]) -> list[str]:
    if name not in report["tasks"]:
        parts = [f"### {name}", f"Skipped: {report['skipped']['tasks'][name]}."]
        return [*parts, *_reported_only(name)]
    task = report["tasks"][name]
    shown = _SHOWN[task["type"]]
    rows = []
    for result in task["results"]:
        if result["num_train"] is None:
            cells = [_cell(result["metrics"][metric]) for metric in shown]
            counts = ", ".join(f"{count:,} {part}" for part, count in result["counts"].items())
            rows.append([result["encoder"], result["mode"].replace("_", "-"), *cells, counts])
    parts = [f"### {name}", *([task["note"]] if task["note"] else [])]
    parts += [_table(["encoder", "mode", *shown, "examples"], rows), *_reported_only(name)]
    for mode, encoder, sample in [
        (r["mode"], r["encoder"], r["paper_queries"]) for r in task["results"] if "paper_queries" in r
    ]:
        figures = ", ".join(f"{metric} {sample[metric]:.4f}" for metric in shown)
        parts.append(f"{encoder} ({mode.replace('_', '-')}) over a sample of {sample['queries']} queries: {figures}")
    curve = [r for r in task["results"] if r["num_train"] is not None]
    if curve:
        rows = [
            [r["encoder"], r["mode"].replace("_", "-"), r["num_train"], _cell(r["metrics"][r["main_metric"]])]
            for r in curve
        ]
        parts += ["Few-shot:", _table(["encoder", "mode", "training examples", curve[0]["main_metric"]], rows)]
    if task["paired_tests"]:
        rows = [
            [t["mode"].replace("_", "-"), f"{t['first']} - {t['second']}", t["metric"], f"{t['difference']:+.4f}",
             f"{t['p']:.4f}", f"{t['p_holm']:.4f}"]
            for t in task["paired_tests"]
        ]  # fmt: skip
        parts.append(_table(["mode", "comparison", "metric", "difference", "p", "p (Holm)"], rows))
    for result in task["results"]:
        if "calibration" in result and result["num_train"] is None:
            figures = result["calibration"]
            parts.append(
                f"Calibration of {result['encoder']} ({result['mode'].replace('_', '-')}, first seed): "
                f"Brier {figures['brier']:.4f}, expected calibration error {figures['expected_calibration_error']:.4f}"
            )
    facts = [
        f"- {fact.replace('_', ' ')}: {'; '.join(values)}"
        for fact, values in task["facts"].items()
        if fact != "max_tokens"
    ]
    return [*parts, *_errors(task), "\n".join(facts)] if facts else [*parts, *_errors(task)]


def _errors(task: dict[str, Any]) -> list[str]:
    lines = []
    for mode, encoders in task.get("errors", {}).items():
        for encoder, analysis in encoders.items():
            pairs = [f"{p['gold']} taken for {p['predicted']} ({p['examples']})" for p in analysis["label_pairs"][:3]]
            rarity = [
                f"{key} {row['recall']:.3f} of {row['gold']}"
                for key, row in analysis.get("recall_by_rarity", {}).items()
            ]
            words = [*pairs, *([f"recall of entities {'; '.join(rarity)}"] if rarity else [])]
            if words:
                lines.append(f"- {encoder} ({mode.replace('_', '-')}): {'; '.join(words)}")
    return ["Errors of the first seed (more in the JSON):\n\n" + "\n".join(lines)] if lines else []


def _reported_only(name: str) -> list[str]:
    columns = [(metric, figures) for task, metric, figures in reported.TABLES_6_TO_8 if task == name]
    if not columns:
        return []
    rows = [
        [f"{encoder} (reported)", *(f"{figures[number]:.4g}" for _, figures in columns)]
        for number, encoder in enumerate(reported.ENCODERS)
    ]
    return [_table(["encoder", *(metric for metric, _ in columns)], rows)]


def _codes(report: dict[str, Any]) -> list[str]:
    if "codes" not in report:
        return []
    codes = report["codes"]
    rows = []
    for encoder, figures in codes["encoders"].items():
        for label, row in ((encoder, figures), (f"{encoder}, untrained", figures["untrained"])):
            rows.append(_code_row(label, row))
        for part in ("seen", "held_out"):
            if part in figures:
                rows.append(_code_row(f"{encoder}, codes {part.replace('_', ' ')}", figures[part]))
    rows.append(_code_row("TF-IDF", codes["tfidf"]))
    head = ["vectors", "codes", f"chapter purity@{codes['k']}", "nearest neighbour agrees", "silhouette", "permutation"]
    text = (
        "Measured in the original space; the map (figure2.png) only shows. Intervals: bootstrap over code categories."
    )
    return ["## Figure 2: ICD-9 codes", text, _table(head, rows)]


def _code_row(label: str, row: dict[str, Any]) -> list[Any]:
    metrics = [_cell(row[name]) for name in ("purity", "neighbour_agreement", "silhouette")]
    return [label, f"{row['codes']:,}", *metrics, f"{row['permutation']:.4f}"]


def _efficiency(report: dict[str, Any]) -> list[str]:
    if "efficiency" not in report:
        return []
    efficiency = report["efficiency"]
    on_gpu = any(
        point["memory_bytes"] for e in efficiency["protocols"].values() for points in e.values() for point in points
    )
    rows = []
    for protocol, encoders in efficiency["protocols"].items():
        for encoder, points in encoders.items():
            for number, point in enumerate(points):
                fastest = min(of_one[number]["mean_seconds"] for of_one in encoders.values())
                rows.append(
                    [PROTOCOLS[protocol], encoder, efficiency["tokenizers"][protocol][encoder], f"{point['texts']:,}",
                     f"{point['tokens'] / point['texts']:.0f}",
                     f"{point['mean_seconds']:,.2f} ({min(point['seconds']):,.2f} to {max(point['seconds']):,.2f})",
                     f"{point['tokenizing_seconds']:,.2f}", f"{point['mean_seconds'] / fastest:.2f}",
                     f"{point['texts_per_second']:,.1f}", f"{point['tokens_per_second']:,.0f}",
                     *([f"{point['memory_bytes'] / 2**30:.2f}"] if on_gpu else [])]
                )  # fmt: skip
    head = ["protocol", "encoder", "tokenizer", "texts", "tokens a text", "seconds (rounds)", "of which tokenizing",
            "times the fastest", "texts a second", "tokens a second", *(["memory, GiB"] if on_gpu else [])]  # fmt: skip
    arithmetic = "; ".join(f"{name} ({PROTOCOLS[protocol]})" for protocol, name in efficiency["arithmetic"].items())
    text = (
        f"Hardware: {efficiency['hardware']}. Arithmetic: {arithmetic}. Seconds are means over rounds, with the fastest and the "
        f"slowest one. Reported for 100,000 texts of 512 tokens on one A100: {reported.figure_3()}."
    )
    return ["## Figure 3: efficiency", text, _table(head, rows)]


def _cell(figures: dict[str, Any]) -> str:
    return f"{figures['mean']:.4f} [{figures['low']:.4f}, {figures['high']:.4f}]"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |" for line in lines)
