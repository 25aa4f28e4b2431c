"""Curves of training runs, read from the store and thinned to what a screen can show.

A finished run has ``history.json``, a running one its progress in its work area (``training.run_progress``). Both hold the same
list of points: figures of steps, held-out figures, and notes of (re)starts and rollbacks.
"""

import bisect
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import streamlit as st
from clinical_modernbert.artifacts import Artifact, Store, join_key
from clinical_modernbert.artifacts.layout import MANIFEST_NAME, artifact_prefix, work_prefix
from clinical_modernbert.errors import ArtifactError
from clinical_modernbert.training.records import PROGRESS_NAME, Records
from clinical_modernbert.training.run_progress import ProgressReader
from store import where

MOST_POINTS = 400
SO_FAR = ("step", "tokens_so_far", "hours_so_far")
"""What a curve can be drawn over. Hours are those of the training steps, without evaluations and checkpoints."""
_LIVE_S = 4

Point = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Curve:
    """The points of one run, by kind."""

    run: str
    steps: tuple[Point, ...]
    """At most ``MOST_POINTS``: means of the recorded steps in an interval; ``SO_FAR`` is that of its last step."""
    last: Point
    """The last recorded step as it is; empty before the first."""
    held_out: tuple[Point, ...]
    """``step`` with figures such as ``uniform_loss``, over the corpora of the phase."""
    corpora: tuple[Point, ...]
    """The same figures for each ``corpus`` of the run, over all of it (``source`` None) and for each of its sources."""
    borders: tuple[Point, ...]
    """Where each phase begins but the first recorded one: ``SO_FAR`` at its first recorded step."""
    notes: tuple[Point, ...]
    """Starts (``started``) and rollbacks (``rolled_back_to``, ``reason``)."""


@dataclass(frozen=True, slots=True)
class Running:
    """A run that has not published its model: it trains, waits, or was stopped."""

    run: str
    step: int
    num_steps: int
    curve: Curve


def make_curve(run: str, history: list[Point]) -> Curve:
    """Return the curve of a recorded history."""
    steps = summed([point for point in history if "loss" in point])
    evaluated = [point for point in history if "held_out" in point]
    evaluated = evaluated[:: max(len(evaluated) // MOST_POINTS, 1)]
    notes = [point for point in history if "started" in point or "rolled_back_to" in point]
    return Curve(
        run=run,
        steps=tuple(thinned(steps)),
        last=dict(steps[-1]) if steps else {},
        held_out=tuple(at_steps([{"step": point["step"], **point["held_out"]} for point in evaluated], steps)),
        corpora=tuple(at_steps([row for point in evaluated for row in _of_corpora(point)], steps)),
        borders=tuple(
            {**{name: early[name] for name in SO_FAR}, "step": late["step"]}
            for early, late in pairwise(steps)
            if early.get("phase") != late.get("phase")
        ),
        notes=tuple(notes),
    )


def _of_corpora(point: Point) -> list[Point]:
    found: list[Point] = []
    for corpus, figures in point.get("corpora", {}).items():
        for source, values in {None: figures["overall"], **figures["by_source"]}.items():
            found.append({"step": point["step"], "corpus": corpus, "source": source, **values})
    return found


def summed(steps: list[Point]) -> list[Point]:
    """Return the recorded steps with the tokens and hours up to each. A step that is not recorded counts like the next one."""
    known = [point["tokens_per_second"] for point in steps if point.get("tokens_per_second")]
    speed, tokens, hours, before = (known[0] if known else None), 0, 0.0, -1
    found = []
    for point in steps:
        speed = point.get("tokens_per_second") or speed
        read = max(point["step"] - before, 0) * (point.get("tokens") or 0)
        tokens, before = tokens + read, point["step"]
        hours += read / speed / 3600 if speed else 0.0
        found.append({**point, "tokens_so_far": tokens, "hours_so_far": hours if speed else None})
    return found


def at_steps(points: list[Point], steps: list[Point]) -> list[Point]:
    """Return points with the tokens and hours of the last recorded step at or before theirs."""
    places = [point["step"] for point in steps]
    found = []
    for point in points:
        at = bisect.bisect_right(places, point["step"]) - 1
        sums = {name: steps[at][name] if at >= 0 else 0 for name in SO_FAR[1:]}
        found.append({**point, **sums})
    return found


def smooth(values: Sequence[float], weight: float) -> list[float]:
    """Return running means in which each earlier value weighs ``weight`` times as much as the next; 0 changes nothing.

    The start is corrected for the values that are missing before it (as in Adam, Kingma and Ba 2015).
    """
    total, weights, found = 0.0, 0.0, []
    for value in values:
        total, weights = weight * total + value, weight * weights + 1
        found.append(total / weights)
    return found


def thinned(points: list[Point], *, most: int = MOST_POINTS) -> list[Point]:
    """Return at most ``most`` points. Each holds the mean of every number over an interval, None where nothing was measured.

    ``SO_FAR`` is that of the interval's last step, so that no figure is drawn before it was measured.
    """
    stretch = -(-len(points) // most) if points else 1
    return [_mean(points[start : start + stretch]) for start in range(0, len(points), stretch)]


def _mean(points: list[Point]) -> Point:
    found: Point = {}
    for name in points[-1]:
        values = [point[name] for point in points if isinstance(point.get(name), int | float)]
        found[name] = sum(values) / len(values) if values else None
    return {**found, **{name: points[-1][name] for name in SO_FAR if name in points[-1]}}


def has_curve(model: Artifact) -> bool:
    """Return whether the model has a pretraining curve; fine-tuned models have none."""
    return any(entry.path == "history.json" for entry in model.manifest.files)


def finished_curve(model: Artifact) -> Curve:
    """Return the curve of a finished model, checked against its manifest; raises ``ArtifactError``."""
    return _finished_curve(model, model.uri, model.manifest.digest)


@st.cache_resource(max_entries=24, show_spinner="Reading the curve")
def _finished_curve(_model: Artifact, uri: str, digest: str) -> Curve:
    try:
        history = json.loads(_model.file("history.json").read_bytes())
        if not isinstance(history, list):
            raise TypeError("it is not a list of points")
        return make_curve(_model.manifest.id, history)
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{uri}/history.json does not hold a run's history: {type(error).__name__}: {error}"
        ) from None


def running_ids(store: Store) -> list[str]:
    """Return the runs that have recorded a step and have not published a model."""
    return _running_ids(store, store.uri)


@st.cache_resource(ttl=_LIVE_S, max_entries=8, show_spinner=False)
def _running_ids(_store: Store, uri: str) -> list[str]:
    names = _store.names(work_prefix("model", ""))
    recorded = where(_store, lambda name: PROGRESS_NAME in _store.names(work_prefix("model", name)), names)
    return where(_store, lambda name: not _published(_store, name), recorded)


def running(store: Store, run: str) -> Running | None:
    """Return the state of a run, at most a few seconds old; None after it has published or was deleted."""
    return _running(store, store.uri, run)


@st.cache_resource(ttl=_LIVE_S, max_entries=8, show_spinner=False)
def _running(_store: Store, uri: str, run: str) -> Running | None:
    try:
        found = ProgressReader(Records(_store, run)).read_json()
        if not found["num_steps"] or _published(_store, run):
            return None
        return Running(run, int(found["step"]), int(found["num_steps"]), make_curve(run, found["history"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{uri}/{work_prefix('model', run)}/{PROGRESS_NAME} does not hold a run's progress: {type(error).__name__}"
        ) from None


def _published(store: Store, run: str) -> bool:
    try:
        store.read_bytes(join_key(artifact_prefix("model", run), MANIFEST_NAME))
    except KeyError:
        return False
    return True
