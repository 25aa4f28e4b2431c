"""The report as Markdown: our figures in the form of the paper's tables, the paper's own beside them as "reported"."""

from typing import Any

from clinical_modernbert.evaluation.report import reported
from clinical_modernbert.evaluation.report.plots import PROTOCOLS
from clinical_modernbert.evaluation.report.tables import cell, table, table_4, tables_6_to_8


def render(report: dict[str, Any]) -> str:
    """Return the whole report."""
    parts = ["# Evaluation", *_preface(report), *table_4(report), *_statistics(report)]
    for title, tables, names in tables_6_to_8(report):
        parts += [f"## {title}", *tables]
        for name in names:
            parts += _task(name, report)
    parts += _codes(report) + _efficiency(report)
    return "\n\n".join(parts) + "\n"


def _preface(report: dict[str, Any]) -> list[str]:
    rows = [
        [name, facts["origin"], facts["architecture"], facts["max_tokens"], facts["pooling"]]
        for name, facts in report["encoders"].items()
    ]
    parts = [table(["encoder", "origin", "architecture", "limit, tokens", "pooling"], rows)]
    parts.append(
        f"Figures are means over seeds {', '.join(map(str, report['seeds']))}; in brackets a 95 % bootstrap interval over groups "
        f"(patients, abstracts, documents; {report['num_resamples']} resamples). p: paired permutation test by group, Holm's "
        'correction over the comparisons of a task. "Reported" figures are the paper\'s, on its own data and splits.'
    )
    kinds = ("encoders", "artifacts", "tasks")
    skipped = [f"- {name}: {why}" for kind in kinds for name, why in report["skipped"].get(kind, {}).items()]
    return [*parts, "Skipped:\n\n" + "\n".join(skipped)] if skipped else parts


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
    return ["## Table 3: the data sets", table(head, rows)]


def _task(name: str, report: dict[str, Any]) -> list[str]:
    """Return what stands behind a task's figures."""
    if name not in report["tasks"]:
        return []
    task = report["tasks"][name]
    parts = [f"### {name}: details", *([task["note"]] if task["note"] else [])]
    counts = {
        f"{r['mode'].replace('_', '-')}: " + ", ".join(f"{count:,} {part}" for part, count in r["counts"].items())
        for r in task["results"]
        if r["num_train"] is None
    }
    parts.append("Examples, " + "; ".join(sorted(counts)) + ".")
    curve = [r for r in task["results"] if r["num_train"] is not None]
    if curve:
        rows = [
            # A small set may have fewer than were asked for.
            [
                r["encoder"],
                r["mode"].replace("_", "-"),
                r["counts"].get("train", r["num_train"]),
                cell(r["metrics"][r["main_metric"]]),
            ]
            for r in curve
        ]
        parts += ["Few-shot:", table(["encoder", "mode", "training examples", curve[0]["main_metric"]], rows)]
    if task["paired_tests"]:
        rows = [
            [t["mode"].replace("_", "-"), f"{t['first']} - {t['second']}", t["metric"], f"{t['difference']:+.4f}",
             f"{t['p']:.4f}", f"{t['p_holm']:.4f}"]
            for t in task["paired_tests"]
        ]  # fmt: skip
        parts.append(table(["mode", "comparison", "metric", "difference", "p", "p (Holm)"], rows))
    for result in task["results"]:
        if "calibration" in result and result["num_train"] is None:
            figures = result["calibration"]
            parts.append(
                f"Calibration of {result['encoder']} ({result['mode'].replace('_', '-')}): Brier {_ranged(figures, 'brier')}, "
                f"expected calibration error {_ranged(figures, 'expected_calibration_error')}"
            )
    facts = [
        f"- {fact.replace('_', ' ')}: {'; '.join(values)}"
        for fact, values in task["facts"].items()
        if fact != "max_tokens"
    ]
    return [*parts, *_errors(task), "\n".join(facts)] if facts else [*parts, *_errors(task)]


def _ranged(figures: dict[str, Any], name: str) -> str:
    low, high = figures["intervals"][name]
    return cell({"mean": figures[name], "low": low, "high": high})


def _errors(task: dict[str, Any]) -> list[str]:
    lines = []
    for mode, encoders in task.get("errors", {}).items():
        for encoder, found in encoders.items():
            words = [
                f"{p['gold']} taken for {p['predicted']} ({p['examples']:.3g})"
                for p in found.get("label_pairs", [])[:3]
            ]
            rarity = [
                f"{key} {row['recall']:.3f} [{row['low']:.3f}, {row['high']:.3f}] of {row['gold']:,}"
                for key, row in found.get("recall_by_rarity", {}).items()
            ]
            words += [f"recall of entities by their number in training: {', '.join(rarity)}"] if rarity else []
            for name, figure in (("by_length", "accuracy"), ("by_document_words", "f1"), ("by_query_words", "ndcg@10")):
                parts = [f"{row['words'][0]}-{row['words'][1]} {row[figure]:.3f}" for row in found.get(name, [])]
                words += [f"{figure} by words of the text: {', '.join(parts)}"] if parts else []
            parts = [
                f"{key}: {row['ndcg@10']:.3f} of {row['queries']:,}"
                for key, row in found.get("by_relevant_documents", {}).items()
            ]
            words += [f"ndcg@10 by number of relevant documents: {', '.join(parts)}"] if parts else []
            ranks = [f"{key}: {count:g}" for key, count in found.get("first_relevant_rank", {}).items()]
            words += [f"queries by the rank of their first relevant document: {', '.join(ranks)}"] if ranks else []
            if words:
                lines.append(f"- {encoder} ({mode.replace('_', '-')}): {'; '.join(words)}")
    return ["Errors over all seeds (more in the JSON):\n\n" + "\n".join(lines)] if lines else []


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
    head = [
        "vectors",
        "codes",
        f"chapter purity@{codes['k']}",
        "nearest neighbour agrees",
        "silhouette",
        "permutation of each, 95 % range",
    ]
    text = (
        "Measured in the original space; the map (figure2.png) only shows. Intervals: bootstrap over code categories."
    )
    return ["## Figure 2: ICD-9 codes", text, table(head, rows)]


def _code_row(label: str, row: dict[str, Any]) -> list[Any]:
    names = ("purity", "neighbour_agreement", "silhouette")
    metrics = [cell(row[name]) for name in names]
    chance = ["{mean:.3f} [{low:.3f}, {high:.3f}]".format(**row["permutations"][name]) for name in names]
    return [label, f"{row['codes']:,}", *metrics, " / ".join(chance)]


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
    return ["## Figure 3: efficiency", text, table(head, rows)]
