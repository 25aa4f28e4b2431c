"""Successive halving of a search: at each rung (a number of steps) a trial stops unless it is among the best so far.

The rule is ours and not a scheduler's of Tune: a trial that lags requests its own run to stop, as SIGTERM would, so that its
workers end in order and free their resources. The board keeps what each trial reached, so a killed sweep does not train its
stopped trials again. As in ASHA no trial waits for another: the first to reach a rung is compared with few, and when trials run
at the same time the order of arrival matters too.

Example: three trials of 8 steps, rungs at 2 and 4 steps, reduction factor 2. Of n trials that reached a rung, the best
max(1, n // 2) continue; the first of each rung always does::

    time   trial   reaches   loss   compared with   rank   continues?
    1      A       rung 2    5.0    nothing         1/1    yes
    2      B       rung 2    4.0    A 5.0           1/2    yes
    3      A       rung 4    4.5    nothing         1/1    yes, although B is ahead: B has not reached rung 4
    4      C       rung 2    4.5    A 5.0, B 4.0    2/3    no: only 1 of 3 continues; C stops after 2 steps
    5      B       rung 4    3.0    A 4.5           1/2    yes
    6      A, B    the end                                 both are trained models
"""

import json
import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, wait

from clinical_modernbert.artifacts import Artifact, Plan
from clinical_modernbert.errors import ModelError, RunStopped, UserError
from clinical_modernbert.recipe.sweep import HalvingSection
from clinical_modernbert.sweeps.board import Board, Curve, Reached, held_out_curve
from clinical_modernbert.sweeps.kinds import TrialKind, TrialRecipe
from clinical_modernbert.training.checkpoint import delete_checkpoints
from clinical_modernbert.training.launch import launch
from clinical_modernbert.training.records import Records, Stopped
from clinical_modernbert.training.run_progress import ProgressReader
from clinical_modernbert.training.state import history_from_json
from clinical_modernbert.training.stop_signal import stop_key

_POLL_S = 1.0


def rungs(section: HalvingSection, *, num_steps: int) -> list[int]:
    """Return the steps at which a trial of ``num_steps`` is judged; the last step is not a rung."""
    steps, step = [], section.grace_steps
    while step < num_steps:
        steps.append(step)
        step *= section.reduction_factor
    return steps


def lags(cost: float, others: Iterable[float | None], *, factor: int) -> bool:
    """Return whether a trial is not among the best 1 in ``factor`` at a rung; the very best one never lags.

    ``others`` are the costs of the other trials at the rung, None for those that have not reached it; a low cost is good.
    """
    measured = [other for other in others if other is not None]
    num_better = sum(other < cost for other in measured)
    return not math.isfinite(cost) or num_better >= max(1, (len(measured) + 1) // factor)


def train_while_it_keeps_up(
    plan: Plan[TrialRecipe], section: HalvingSection, board: Board, kind: TrialKind
) -> float | None:
    """Train the trial unless it is trained or stopped already; return its held-out figure, the last one if it was stopped."""
    # 1. A trial of an earlier launch is final: its model is there, or the board says that halving stopped it.
    earlier, artifact = board.read(plan.id), plan.existing()
    if artifact is None and earlier and earlier.stopped_after is not None:
        _forget(plan)  # a sweep that was killed may have left its state
        return earlier.last_value(kind.metric)
    # 2. Train to the end or to a lost rung.
    lost_rung = None
    if artifact is None:
        artifact, lost_rung = _climb(plan, section, board, kind, earlier=earlier or Reached(()))
    # 3. A trained trial stays on the board with its whole curve, for those that reach its rungs later.
    if artifact is not None:
        history = json.loads(artifact.file(kind.history_name).read_text(encoding="utf-8"))
        board.write(plan.id, Reached(held_out_curve(history_from_json(history))))
        return held_out_value(artifact, kind)
    # 4. A stopped trial is put on the board before its state is deleted: it never resumes.
    result = Records(plan.store, plan.id).result()
    stopped_after = result.stopped_after if isinstance(result, Stopped) else None
    reached = Reached(_curve_so_far(plan), lost_rung=lost_rung, stopped_after=stopped_after)
    board.write(plan.id, reached)
    _forget(plan)
    return reached.last_value(kind.metric)


def _forget(plan: Plan[TrialRecipe]) -> None:
    """Delete the state of a stopped trial."""
    delete_checkpoints(plan.store, plan.id)
    Records(plan.store, plan.id).clear()


def held_out_value(model: Artifact, kind: TrialKind) -> float:
    """Return the held-out figure of a trained trial; raise ``ModelError`` if its data hold out nothing."""
    held_out: dict[str, float] = model.summary["held_out"]
    if kind.metric not in held_out:
        raise ModelError(f"{model.manifest.id} has no held-out {kind.metric}: its {kind.data} holds out nothing")
    return held_out[kind.metric]


def _climb(
    plan: Plan[TrialRecipe], section: HalvingSection, board: Board, kind: TrialKind, *, earlier: Reached
) -> tuple[Artifact | None, int | None]:
    """Return the trained model, or None and the rung at which the trial lagged."""
    # A rung that the trial passed before the sweep was killed stays passed, also if other trials have reached it since.
    all_rungs, lost_rung = rungs(section, num_steps=plan.recipe.training.total_steps), None
    ahead = [rung for rung in all_rungs if earlier.value_after(rung, kind.metric) is None]
    with ThreadPoolExecutor(max_workers=1) as pool:
        training = pool.submit(launch, plan)
        while not wait([training], timeout=_POLL_S).done:
            # 1. Publish this trial's curve, so that others can be compared with it.
            reached = Reached(_curve_so_far(plan))
            board.write(plan.id, reached)
            # 2. At each rung that it has reached since the last look, compare its figure with those of the others there.
            while lost_rung is None and ahead and (value := reached.value_after(ahead[0], kind.metric)) is not None:
                rung = ahead.pop(0)
                at_rung = [other.value_after(rung, kind.metric) for other in board.others(plan.id)]
                others = [None if other is None else kind.cost(other) for other in at_rung]
                lost_rung = rung if lags(kind.cost(value), others, factor=section.reduction_factor) else None
            # 3. A lost rung stops the run. Repeated at each look, because a run that starts clears earlier requests.
            if lost_rung is not None:
                plan.store.write_bytes(stop_key(plan.id), b"")
    try:
        return training.result(), None
    except RunStopped:
        if lost_rung is None:
            raise  # the request came from elsewhere
        return None, lost_rung
    except UserError:
        board.write(plan.id, Reached(()))  # no trial is compared with one that failed
        raise
    finally:
        plan.store.delete(stop_key(plan.id))


def _curve_so_far(plan: Plan[TrialRecipe]) -> Curve:
    return held_out_curve(ProgressReader(Records(plan.store, plan.id)).read().history)
