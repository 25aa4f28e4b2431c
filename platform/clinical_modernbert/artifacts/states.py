"""Kept states of training runs: the checkpoints that ``checkpoint.keep_after_export`` leaves, named ``<run>@<step>``.

A state has weights, optimizer and step. Another run continues from it, and models are averaged over several.
"""

from clinical_modernbert.artifacts.artifact import Artifact, artifact_at
from clinical_modernbert.artifacts.layout import checkpoints_prefix
from clinical_modernbert.artifacts.manifest import InputEntry
from clinical_modernbert.artifacts.store import Store, join_key
from clinical_modernbert.errors import ModelError, RecipeError


def find_state(source: str, store: Store, *, field: str) -> InputEntry:
    """Return the state ``<run>@<step>`` as an input; the run is an id, or a name that one run with states has."""
    run, _, step = source.rpartition("@")
    if not run or not step.isdigit():
        raise RecipeError(f"{field}: {source!r} is not <run>@<step>, for example base-1f4d6bea29b5@10000")
    ids = [name for name in store.names(checkpoints_prefix("")) if run in (name, name.rpartition("-")[0])]
    kept = {run_id: states for run_id in ids if (states := _states(run_id, store))}
    if len(kept) != 1:
        problem = f"is ambiguous: name one of {', '.join(kept)}" if kept else "has no states"
        raise RecipeError(
            f"{field}: run {run!r} {problem} in {store.uri}; a run that keeps its states has checkpoint.keep_after_export=true"
        )
    ((run_id, states),) = kept.items()
    if int(step) not in states:
        steps = ", ".join(map(str, states))
        raise RecipeError(f"{field}: {run_id} has no state after step {step}; it has those after: {steps}")
    return InputEntry(name=field, id=f"model/{run_id}@{int(step)}", digest=states[int(step)].manifest.digest)


def open_state(state: InputEntry, store: Store) -> Artifact:
    """Return the checkpoint that ``find_state`` found."""
    run_id, _, step = state.id.removeprefix("model/").partition("@")
    found = _states(run_id, store).get(int(step))
    if found is None or found.manifest.digest != state.digest:
        raise ModelError(f"{state.name}: {state.id} was deleted or replaced after the run was planned")
    return found


def _states(run_id: str, store: Store) -> dict[int, Artifact]:
    """Return the complete states of a run by their step."""
    prefix = checkpoints_prefix(run_id)
    found = (artifact_at(store, join_key(prefix, name), signed=True) for name in sorted(store.names(prefix)))
    return {int(state.summary["step"]): state for state in found if state}
