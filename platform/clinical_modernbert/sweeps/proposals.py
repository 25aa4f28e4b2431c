"""A sampler's points, kept in the store until the sweep is published: a search that is started again visits them first.

A sampler that learns (TPE) would propose other points the second time, because its proposals depend on the order in which trials
end. The models trained before would then be useless to it.
"""

import json
from dataclasses import dataclass
from typing import Any

from clinical_modernbert.artifacts import join_key, open_store
from clinical_modernbert.artifacts.layout import work_prefix
from clinical_modernbert.recipe import SweepRecipe
from clinical_modernbert.sweeps.trials import Point


@dataclass(frozen=True, slots=True)
class Proposals:
    """The points of one search in the order of their proposal; Tune pickles this, so it holds no open store."""

    store_uri: str
    sweep_id: str

    def read(self) -> list[Point]:
        """Return the points; none before the first."""
        try:
            points: list[Point] = json.loads(open_store(self.store_uri).read_bytes(self._key))
        except KeyError:
            return []
        return points

    def write(self, points: list[Point]) -> None:
        """Set the points."""
        open_store(self.store_uri).write_bytes(self._key, json.dumps(points).encode())

    def clear(self) -> None:
        """Delete the points."""
        open_store(self.store_uri).delete(self._key)

    @property
    def _key(self) -> str:
        return join_key(work_prefix("sweep", self.sweep_id), "points.json")


def searcher(recipe: SweepRecipe, proposals: Proposals, *, metric: str) -> Any:
    """Return Tune's search with the recipe's sampler ``tpe`` or ``random``, which visits kept points first and keeps new ones.

    A point that is proposed again while its trial runs waits until that has ended.
    """
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    class KeepingSearch(OptunaSearch):  # type: ignore[misc]  # Ray is untyped
        def suggest(self, trial_id: str) -> Point | None:
            if repeated:
                asked, point = repeated[0]
                if point in running.values():
                    return None  # Tune asks again when a trial has ended
                del repeated[0]
                self._ot_trials[trial_id] = asked
            else:
                point = super().suggest(trial_id)
                proposed.append(point)
                if len(proposed) > len(known):
                    proposals.write(proposed)
                if point in running.values():
                    repeated.append((self._ot_trials.pop(trial_id), point))
                    return None
            running[trial_id] = point
            return point

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            running.pop(trial_id, None)
            super().on_trial_complete(trial_id, result, error)

    known = proposals.read()
    proposed: list[Point] = []
    running: dict[str, Point] = {}
    # Values of a choice come again. Two trials of one point would train one model at the same time; later, the second finds it.
    repeated: list[tuple[Any, Point]] = []
    samplers = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
    # Kept points draw no random numbers: with the first launch's seed the sampler would propose the same points again.
    sampler = samplers[recipe.sampler](seed=recipe.seed + len(known))
    return KeepingSearch(metric=metric, mode="min", sampler=sampler, points_to_evaluate=known)
