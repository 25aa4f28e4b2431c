"""Figures 2 and 3 as PNG, drawn off screen by matplotlib."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.evaluation.report.schema import TimedPoint

# Figure 3's protocols -> their names in reports and on pages.
PROTOCOLS = {
    "as_its_code": "as the paper's code",
    "as_its_text": "as the paper's text",
    "fair": "fair, each encoder at its best",
}


def draw_code_maps(path: Path, maps: dict[str, NDArray[np.float32]], chapters: list[str]) -> None:
    """Draw each encoder's map, side by side, coloured by chapter with one legend."""
    figure = _figure(width=6 * len(maps) + 5, height=6)
    names = sorted(set(chapters))
    colours = _colours(len(names))
    groups = np.array([names.index(chapter) for chapter in chapters])
    for number, (encoder, xy_N2) in enumerate(maps.items(), start=1):
        axes = figure.add_subplot(1, len(maps), number)
        for group, name in enumerate(names):
            chosen_N = groups == group
            axes.scatter(xy_N2[chosen_N, 0], xy_N2[chosen_N, 1], s=3, color=colours[group], label=name, linewidths=0)
        axes.set(title=encoder, xticks=[], yticks=[])
    handles, labels = figure.axes[0].get_legend_handles_labels()
    labels = [label if len(label) <= 50 else f"{label[:47]}..." for label in labels]
    figure.legend(handles, labels, loc="center right", fontsize=7, markerscale=4, frameon=False)
    figure.subplots_adjust(left=0.01, right=1 - 4.2 / (6 * len(maps) + 5), wspace=0.03, top=0.93, bottom=0.02)
    figure.savefig(path, dpi=110)


def draw_efficiency(path: Path, protocols: dict[str, dict[str, list[TimedPoint]]]) -> None:
    """Draw seconds over number of texts: one panel a protocol; a line through the means of each encoder, a point a round."""
    figure = _figure(width=5 * len(protocols), height=4.5)
    for number, (protocol, encoders) in enumerate(protocols.items(), start=1):
        axes = figure.add_subplot(1, len(protocols), number)
        for colour, (encoder, points) in zip(_colours(len(encoders)), encoders.items(), strict=True):
            sizes = [point.texts for point in points]
            axes.plot(sizes, [point.mean_seconds for point in points], color=colour, label=encoder)
            for point in points:
                axes.plot([point.texts] * len(point.seconds), point.seconds, "o", color=colour, markersize=3)
        axes.set(title=PROTOCOLS[protocol], xlabel="texts", ylabel="seconds")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def _figure(*, width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def _colours(count: int) -> Any:
    import matplotlib as mpl

    # tab20 alternates strong and pale colours: few lines take the strong ones alone.
    name = "tab10" if count <= 10 else "tab20"
    return [mpl.colormaps[name](number % 20) for number in range(count)]
