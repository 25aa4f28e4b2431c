"""What an artifact was made from, as far as the store still holds it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from clinical_modernbert.artifacts.artifact import Artifact, find_artifact
from clinical_modernbert.artifacts.initial_model import at_address, model_name
from clinical_modernbert.artifacts.layout import KINDS
from clinical_modernbert.artifacts.manifest import InputEntry
from clinical_modernbert.artifacts.store import Store
from clinical_modernbert.errors import ArtifactError

Find = Callable[[Store, str, str], Artifact | None]
"""Returns the artifact of a kind and id, or None: ``find_artifact``, or a caller's cache of it."""


def find_input(entry: InputEntry, store: Store, *, find: Find = find_artifact) -> tuple[Artifact | None, bool]:
    """Return the artifact that an input names, or the run that left a state, and whether its content is what was used.

    None: it is not of this store or was deleted. The digest of a state is that of its checkpoint, which is compared when it is
    opened.
    """
    kind, _, name = entry.id.partition("/")
    artifact_id, is_state, _ = name.partition("@")
    found = find(store, kind, artifact_id) if kind in KINDS else None
    return found, found is not None and (bool(is_state) or found.manifest.digest == entry.digest)


def synthetic_sources(artifact: Artifact, *, find: Find = find_artifact) -> list[str] | None:
    """Return the names of the generated sources from which ``artifact`` was made, or None if this is no longer known.

    An artifact that states them in its summary needs no inputs. Otherwise its inputs are asked, and theirs. If one was deleted
    or replaced, only what the others name is known.
    """
    stated = artifact.summary.get("synthetic_sources")
    if stated is not None:
        return sorted(stated)
    names: set[str] = set()
    complete = True
    for entry in artifact.manifest.inputs:
        if "/" not in entry.id:
            continue
        try:
            found, same = find_input(entry, artifact.store, find=find)
        except ArtifactError:
            found, same = None, False
        below = synthetic_sources(found, find=find) if found and same else None
        names |= set(below or ())
        complete = complete and below is not None
    return sorted(names) if names or complete else None


@dataclass(frozen=True, slots=True)
class TrainedOn:
    """The corpora that a model's masked language modelling has read."""

    corpora: tuple[str, ...]
    """Ids, those of the models before it among them."""
    unknown: tuple[str, ...]
    """Names of models before it of which the store knows nothing: of the hub, of a folder, or deleted."""


def trained_on(model: Artifact) -> TrainedOn:
    """Return what ``model`` was trained on: by its own run, by the run that it continues, and by the models it was made from."""
    recipe = model.manifest.recipe
    merged, corpora, unknown = recipe.get("kind") == "merge", dict[str, None](), dict[str, None]()
    if not merged:  # an average is only scored on its corpora
        ids = (entry.id.partition("/") for entry in model.manifest.inputs)
        corpora |= dict.fromkeys(artifact_id for kind, _, artifact_id in ids if kind == "corpus")
        # The account of a run that continues another begins with the phases of that one.
        corpora |= dict.fromkeys(name for phase in model.summary.get("phases", ()) for name in phase["tokens"])
    for entry in model.manifest.inputs:
        if entry.name in ("model.init", "init") or (merged and entry.name.startswith("models.")):
            parent, _ = find_input(entry, model.store)
            below = trained_on(parent) if parent else TrainedOn((), (model_name(entry),))
            corpora |= dict.fromkeys(below.corpora)
            unknown |= dict.fromkeys(below.unknown)
    return TrainedOn(tuple(corpora), tuple(unknown))


@dataclass(frozen=True, slots=True)
class ModelsBefore:
    """The models that a model's weights or similarities come from, through every step."""

    models: tuple[Artifact, ...]
    lost: tuple[str, ...]
    """Names of models of a store that were deleted or replaced."""
    outside: tuple[str, ...]
    """Names of models of the hub, of a package or of a folder."""


def models_before(inputs: Iterable[InputEntry], store: Store) -> ModelsBefore:
    """Return the models among ``inputs`` (start, teacher, continued run, averaged ones) and those that they were made from."""
    found, lost, outside = dict[str, Artifact](), dict[str, None](), dict[str, None]()
    open_ = [(entry, store) for entry in inputs if _is_model(entry)]
    while open_:
        entry, place = open_.pop(0)
        in_store = entry.id.startswith("model/")
        if not in_store and "://" not in entry.id:
            outside[model_name(entry)] = None
            continue
        try:
            model, same = find_input(entry, place) if in_store else (at_address(entry.id), True)
        except ArtifactError:
            model, same = None, False
        if model is None or not same or not (in_store or model.manifest.digest == entry.digest):
            lost[model_name(entry)] = None
        elif model.uri not in found:
            found[model.uri] = model
            open_ += [(below, model.store) for below in model.manifest.inputs if _is_model(below)]
    return ModelsBefore(tuple(found.values()), tuple(lost), tuple(outside))


def _is_model(entry: InputEntry) -> bool:
    start = entry.name in ("init", "model.init", "training.teacher.model") or entry.name.startswith("models.")
    return start or entry.id.startswith("model/")
