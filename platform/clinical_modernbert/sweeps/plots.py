"""Held-out curves by arm, in the form of the paper's Figure 4: loss and top-k over steps."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from clinical_modernbert.sweeps.kinds import TrialKind
from clinical_modernbert.sweeps.results import ArmCurve

matplotlib.use("agg")  # a job has no display

# Okabe and Ito's palette, which people with any colour vision can tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")


def plot_curves(curves: Mapping[str, ArmCurve], path: Path, *, kind: TrialKind) -> None:
    """Write a PNG from model -> curve: a row for each mask, a column a metric, a colour an arm, a line a seed."""
    parts, metrics = kind.curve_parts, kind.curve_metrics
    arms = list(dict.fromkeys(curve.arm for curve in curves.values()))
    figure = Figure(figsize=(max(3.4 * len(metrics), 6.8), 3.2 * len(parts)), layout="constrained")
    axes = figure.subplots(len(parts), len(metrics), sharex=True, squeeze=False)
    for row, (part, where) in enumerate(parts.items()):
        for column, (metric, title) in enumerate(metrics.items()):
            axis, key, named = axes[row][column], f"{part}_{metric}", set()
            for curve in curves.values():
                points = [(point.step + 1, point.held_out[key]) for point in curve.points if key in point.held_out]
                if points:
                    steps, values = zip(*points, strict=True)
                    colour = _COLOURS[arms.index(curve.arm) % len(_COLOURS)]
                    # One legend entry an arm: its other seeds have the same colour.
                    name = None if curve.arm in named else curve.arm
                    named.add(curve.arm)
                    axis.plot(steps, values, color=colour, linewidth=1.2, marker=".", markersize=4, label=name)
            axis.set_title(f"{title}, {where}", fontsize=9)
            axis.grid(alpha=0.3)
            axis.tick_params(labelsize=8)
            if row == len(parts) - 1:
                axis.set_xlabel("optimizer step", fontsize=9)
    handles, names = axes[0][0].get_legend_handles_labels()
    if names:
        figure.legend(handles, names, loc="outside lower center", ncols=min(4, len(names)), fontsize=8)
    figure.savefig(path, dpi=110)
