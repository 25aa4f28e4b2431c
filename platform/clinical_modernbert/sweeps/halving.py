"""Successive halving of a search: at each rung (a number of steps) a trial asks whether it keeps up with those that were there.

The rule is ours and not a scheduler's of Tune: a trial that lags asks its own run to stop, as SIGTERM would, so that its
workers end in order and give back what they held. What trials reached is kept in the store until the sweep is published, so a
killed sweep finds its stopped trials decided. As in ASHA nobody waits for the others: who comes to a rung early has little to be
measured against, and side by side the order of arrival decides too.
"""

import json
import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass

from clinical_modernbert.artifacts import Artifact, Plan, Store, join_key
from clinical_modernbert.artifacts.layout import work_prefix
from clinical_modernbert.errors import RunStopped, UserError
from clinical_modernbert.recipe import PretrainRecipe
from clinical_modernbert.recipe.sweep import HalvingSection
from clinical_modernbert.training.checkpoint import History, delete_checkpoints
from clinical_modernbert.training.launch import pretrain, recorded_history, stopped_after
from clinical_modernbert.training.stop_signal import stop_key

_POLL_S = 1.0


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a trial came: its held-out curve and, where halving ended it, the rung that it lost and the steps it got."""

    points: History
    """``{"step", "uniform_loss", ...}``, as in the curves of a report."""
    lost_rung: int | None = None
    stopped_after: int | None = None

    def loss_after(self, num_steps: int) -> float | None:
        """Return the uniform mask's loss after so many steps; None where it was not measured."""
        return next((point.get("uniform_loss") for point in self.points if point["step"] + 1 == num_steps), None)

    @property
    def last_loss(self) -> float:
        """The uniform mask's newest loss; infinite before the first."""
        return float(self.points[-1].get("uniform_loss", math.inf)) if self.points else math.inf


@dataclass(frozen=True, slots=True)
class Board:
    """What the trials of one sweep reached, a key a trial; each writes its own only."""

    store: Store
    sweep_id: str

    def read(self, model_id: str) -> Reached | None:
        """Return what a trial reached, None where it never started."""
        try:
            return Reached(**json.loads(self.store.read_bytes(self._key(model_id))))
        except KeyError:
            return None

    def write(self, model_id: str, reached: Reached) -> None:
        """Set what a trial reached."""
        self.store.write_bytes(self._key(model_id), json.dumps(asdict(reached)).encode())

    def others(self, model_id: str) -> list[Reached]:
        """Return what all trials but this one reached."""
        keys = [item.key for item in self.store.walk(self._prefix) if item.key != self._key(model_id)]
        return [Reached(**json.loads(self.store.read_bytes(key))) for key in keys]

    def clear(self) -> None:
        """Forget all: the sweep is published."""
        self.store.clear(self._prefix)

    @property
    def _prefix(self) -> str:
        return join_key(work_prefix("sweep", self.sweep_id), "trials")

    def _key(self, model_id: str) -> str:
        return join_key(self._prefix, f"{model_id}.json")


def rungs(section: HalvingSection, *, num_steps: int) -> list[int]:
    """Return the steps at which a trial of ``num_steps`` is judged; the end is no rung."""
    found, step = [], section.grace_steps
    while step < num_steps:
        found.append(step)
        step *= section.reduction_factor
    return found


def lags(loss: float, others: Iterable[float | None], *, factor: int) -> bool:
    """Return whether a trial is not among the best 1 in ``factor`` of those that reached a rung, the very best always being."""
    there = [other for other in others if other is not None]
    better = sum(other < loss for other in there)
    return not math.isfinite(loss) or better >= max(1, (len(there) + 1) // factor)


def train_while_it_keeps_up(plan: Plan[PretrainRecipe], section: HalvingSection, board: Board) -> float:
    """Train the trial unless that is done or decided; return its held-out loss, the last one before where it was stopped."""
    known = board.read(plan.id)
    artifact = plan.existing()
    if artifact is None and known and known.stopped_after is not None:
        return known.last_loss
    lost_rung = None
    if artifact is None:
        artifact, lost_rung = _climb(plan, section, board)
    if artifact is None:
        points = held_out_points(recorded_history(plan))
        reached = Reached(points, lost_rung=lost_rung, stopped_after=stopped_after(plan))
    else:
        reached = Reached(held_out_points(json.loads(artifact.file("history.json").read_text(encoding="utf-8"))))
    board.write(plan.id, reached)
    if artifact is None:
        _forget(plan)
        return reached.last_loss
    return float(artifact.summary["held_out"]["uniform_loss"])


def _climb(plan: Plan[PretrainRecipe], section: HalvingSection, board: Board) -> tuple[Artifact | None, int | None]:
    """Return the trained model, or None and the rung at which the trial fell behind."""
    ahead, lost_rung = rungs(section, num_steps=plan.recipe.training.total_steps), None
    with ThreadPoolExecutor(max_workers=1) as pool:
        training = pool.submit(pretrain, plan)
        while not wait([training], timeout=_POLL_S).done:
            reached = Reached(held_out_points(recorded_history(plan)))
            board.write(plan.id, reached)
            while lost_rung is None and ahead and (loss := reached.loss_after(ahead[0])) is not None:
                rung = ahead.pop(0)
                there = [other.loss_after(rung) for other in board.others(plan.id)]
                lost_rung = rung if lags(loss, there, factor=section.reduction_factor) else None
            if lost_rung is not None:
                # Again at each look: a run that is only just starting clears what was asked of the one before it.
                plan.store.write_bytes(stop_key(plan.id), b"")
    try:
        return training.result(), None
    except RunStopped:
        if lost_rung is None:
            raise  # someone else's request
        return None, lost_rung
    except UserError:
        board.write(plan.id, Reached([]))  # nobody is measured against a run that failed later
        raise
    finally:
        plan.store.delete(stop_key(plan.id))


def held_out_points(history: History) -> History:
    """Return the held-out figures of a history as points of a curve."""
    return [{"step": point["step"], **point["held_out"]} for point in history if "held_out" in point]


def _forget(plan: Plan[PretrainRecipe]) -> None:
    """Delete the state that the stopped run kept: nobody goes on from it."""
    delete_checkpoints(plan.store, plan.id)
    plan.store.clear(work_prefix("model", plan.id))
