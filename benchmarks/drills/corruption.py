"""Damage files of published artifacts and of checkpoints: each is refused on read, by name, and none is loaded.

A corpus, its model and a checkpoint of an unfinished run are made once. Each fault flips a bit, cuts a file, deletes it or swaps
two files; then the artifact is read through a fresh cache, and the fault is undone. ``recovered`` counts faults that were refused
with the file's name; ``wrong`` counts reads that succeeded.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from clinical_modernbert.artifacts import Artifact, Store, artifact_at
from clinical_modernbert.errors import ArtifactError

from benchmarks.drill import Outcome
from benchmarks.kits.training_runs import (
    TWO_WORKERS,
    finish,
    kill_all,
    start_job,
    tiny_plan,
    tiny_store,
    wait_for_checkpoint,
)

_KINDS = ("bit", "cut", "deleted", "swapped")


def run(scratch: Path, seed: int, *, num_faults: int = 50) -> Outcome:
    """Inject ``num_faults`` faults into a corpus, a model and a checkpoint."""
    store = tiny_store(scratch / "store")
    return inject(store, [*_published(store, scratch), _checkpoint(store, scratch)], seed, num_faults=num_faults)


def inject(store: Store, prefixes: Sequence[str], seed: int, *, num_faults: int) -> Outcome:
    """Damage the artifacts at ``prefixes``, one fault at a time; after each one they are whole again."""
    rng = np.random.default_rng(seed)
    refused, wrong, unnamed = Counter[str](), Counter[str](), 0
    for _ in range(num_faults):
        prefix, kind = prefixes[int(rng.integers(len(prefixes)))], _KINDS[int(rng.integers(len(_KINDS)))]
        artifact = _read(store, prefix)
        names = [entry.path for entry in artifact.manifest.files if entry.size_bytes]
        damaged, undo = _damage(store, prefix, names, kind, rng)
        try:
            with tempfile.TemporaryDirectory() as cache:
                _read(store, prefix).folder(cache_path=Path(cache))
        except ArtifactError as error:
            refused[kind] += 1
            unnamed += not any(name in str(error) for name in damaged)
        else:
            wrong[kind] += 1
        undo()
    for prefix in prefixes:
        _read(store, prefix).folder()
    return Outcome(
        injected=num_faults,
        recovered=refused.total() - unnamed,
        lost=0,
        wrong=wrong.total(),
        facts={"refused": dict(refused), "read": dict(wrong), "not_named": unnamed, "artifacts": list(prefixes)},
    )


def _published(store: Store, scratch: Path) -> list[str]:
    overrides = (*TWO_WORKERS, "training.num_steps=5")
    model = finish(start_job(store, scratch, *overrides), tiny_plan(store, *overrides))
    corpus = tiny_plan(store).artifacts["corpus"]
    return [model.prefix, corpus.prefix]


def _checkpoint(store: Store, scratch: Path) -> str:
    """Return the folder of a checkpoint of a run that was killed."""
    overrides = (*TWO_WORKERS, "training.num_steps=100000", "name=killed")
    job = start_job(store, scratch, *overrides)
    prefix = wait_for_checkpoint(tiny_plan(store, *overrides))
    kill_all(job)
    return prefix


def _read(store: Store, prefix: str) -> Artifact:
    artifact = artifact_at(store, prefix)
    assert artifact is not None, prefix
    return artifact


def _damage(
    store: Store, prefix: str, names: list[str], kind: str, rng: np.random.Generator
) -> tuple[list[str], Callable[[], None]]:
    """Damage one file, or swap two; return the names of the damaged files and what undoes it."""
    chosen = [str(name) for name in rng.choice(names, size=2 if kind == "swapped" else 1, replace=False)]
    contents = {name: store.read_bytes(f"{prefix}/{name}") for name in chosen}
    if kind == "swapped" and len(set(contents.values())) == 1:
        return _damage(store, prefix, names, "bit", rng)
    data = bytearray(contents[chosen[0]])
    if kind == "bit":
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        store.write_bytes(f"{prefix}/{chosen[0]}", bytes(data))
    elif kind == "cut":
        store.write_bytes(f"{prefix}/{chosen[0]}", bytes(data[: int(rng.integers(len(data)))]))
    elif kind == "deleted":
        store.delete(f"{prefix}/{chosen[0]}")
    else:
        for name, other in (chosen, chosen[::-1]):
            store.write_bytes(f"{prefix}/{name}", contents[other])

    def undo() -> None:
        for name, content in contents.items():
            store.write_bytes(f"{prefix}/{name}", content)

    return chosen, undo
