"""What the trials of a sweep reached: one JSON file a trial below the sweep's work prefix, kept until the sweep is published."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from clinical_modernbert.artifacts import Store, join_key
from clinical_modernbert.artifacts.layout import work_prefix
from clinical_modernbert.training.state import HeldOutPoint, History

Curve = tuple[HeldOutPoint, ...]


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a trial came: its held-out curve and, if halving stopped it, the lost rung and the steps done."""

    points: Curve
    lost_rung: int | None = None
    stopped_after: int | None = None

    def value_after(self, num_steps: int, metric: str) -> float | None:
        """Return the held-out figure after ``num_steps`` steps; None if it was not measured there."""
        return next((p.held_out.get(metric) for p in self.points if p.step + 1 == num_steps), None)

    def last_value(self, metric: str) -> float | None:
        """Return the newest held-out figure; None before the first."""
        return self.points[-1].held_out.get(metric) if self.points else None


@dataclass(frozen=True, slots=True)
class Board:
    """The file of each trial of one sweep; a trial writes only its own."""

    store: Store
    sweep_id: str

    def read(self, model_id: str) -> Reached | None:
        """Return what a trial reached; None if it never started."""
        try:
            return _reached(self.store.read_bytes(self._key(model_id)))
        except KeyError:
            return None

    def write(self, model_id: str, reached: Reached) -> None:
        """Set what a trial reached."""
        values = {
            "points": curve_to_json(reached.points),
            "lost_rung": reached.lost_rung,
            "stopped_after": reached.stopped_after,
        }
        self.store.write_bytes(self._key(model_id), json.dumps(values).encode())

    def others(self, model_id: str) -> list[Reached]:
        """Return what every other trial reached."""
        keys = [item.key for item in self.store.walk(self._prefix) if item.key != self._key(model_id)]
        return [_reached(self.store.read_bytes(key)) for key in keys]

    def clear(self) -> None:
        """Delete every trial's file."""
        self.store.clear(self._prefix)

    @property
    def _prefix(self) -> str:
        return join_key(work_prefix("sweep", self.sweep_id), "trials")

    def _key(self, model_id: str) -> str:
        return join_key(self._prefix, f"{model_id}.json")


def held_out_curve(history: History) -> Curve:
    """Return the held-out points of a run's history."""
    return tuple(point for point in history if isinstance(point, HeldOutPoint))


def curve_to_json(points: Curve) -> list[dict[str, Any]]:
    """Return a curve as flat objects: ``{"step", "uniform_loss", ...}`` or ``{"step", "pair_recall1", ...}``."""
    return [{"step": point.step, **point.held_out} for point in points]


def curve_from_json(points: Iterable[Mapping[str, Any]]) -> Curve:
    """Return the curve that ``curve_to_json`` wrote."""
    return tuple(HeldOutPoint(p["step"], {name: p[name] for name in p if name != "step"}) for p in points)


def _reached(data: bytes) -> Reached:
    values = json.loads(data)
    return Reached(curve_from_json(values["points"]), values["lost_rung"], values["stopped_after"])
