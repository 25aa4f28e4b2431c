"""A plan: what a recipe makes, from which inputs, under which fingerprint. Loads neither torch nor ray.

fingerprint = sha256(canonical recipe without scaling, logging and checkpointing + input digests + format_version)[:12].
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from clinical_modernbert.artifacts.artifact import Artifact, find_artifact, is_there, resolve
from clinical_modernbert.artifacts.initial_model import find_model
from clinical_modernbert.artifacts.layout import ARTIFACT_KIND_OF_RECIPE, FORMAT_VERSION, artifact_prefix, work_prefix
from clinical_modernbert.artifacts.manifest import FileEntry, InputEntry, Manifest, upload_folder, write_manifest
from clinical_modernbert.artifacts.states import find_state
from clinical_modernbert.artifacts.store import Store, join_key
from clinical_modernbert.recipe import Recipe

_logger = logging.getLogger(__name__)

R = TypeVar("R", bound=Recipe)
R_co = TypeVar("R_co", bound=Recipe, covariant=True)


@dataclass(frozen=True, slots=True)
class Plan(Generic[R_co]):
    """A recipe together with its resolved inputs and its place in the store."""

    recipe: R_co
    store: Store
    kind: str
    fingerprint: str
    artifacts: dict[str, Artifact]
    """Recipe field -> the artifact it refers to; optional artifacts that the store lacks are left out."""
    inputs: tuple[InputEntry, ...]

    @property
    def id(self) -> str:
        """``<name>-<fingerprint>``."""
        return f"{self.recipe.name}-{self.fingerprint}"

    @property
    def prefix(self) -> str:
        """Folder of the output in the store."""
        return artifact_prefix(self.kind, self.id)

    @property
    def uri(self) -> str:
        """Address of the output."""
        return f"{self.store.uri}/{self.prefix}"

    def existing(self) -> Artifact | None:
        """Return the output where an earlier run made it, else None."""
        return find_artifact(self.store, self.kind, self.id)

    def check_writable(self) -> None:
        """Raise ``StoreError`` where the output, or what its job keeps between its steps, may not be written."""
        for folder in (self.prefix, work_prefix(self.kind, self.id)):
            self.store.check_writable(join_key(folder, "write-check"))

    def publish(self, files: list[FileEntry], *, summary: Mapping[str, Any]) -> Artifact:
        """Write the manifest over files that were already uploaded, and return the finished artifact."""
        manifest = write_manifest(
            self.store,
            self.prefix,
            Manifest(
                kind=self.kind,
                id=self.id,
                fingerprint=self.fingerprint,
                format_version=FORMAT_VERSION[self.kind],
                recipe=self.recipe.model_dump(mode="json"),
                inputs=self.inputs,
                summary=dict(summary),
                files=tuple(files),
            ),
        )
        return Artifact(store=self.store, manifest=manifest, prefix=self.prefix)

    def publish_folder(
        self, folder: Path, *, summary: Mapping[str, Any], uploaded: Sequence[FileEntry] = ()
    ) -> Artifact:
        """Upload every file of ``folder`` and publish them with what is ``uploaded`` already.

        Where another job of the same recipe has finished meanwhile, its artifact stays as it is and is returned: files of both
        would fit no manifest.
        """
        finished = self.existing()
        if finished:
            _logger.info("%s was finished by another job meanwhile", finished.uri)
            return finished
        return self.publish([*uploaded, *upload_folder(self.store, self.prefix, folder)], summary=summary)


def make_plan(recipe: R, store: Store, *, raw_inputs: tuple[InputEntry, ...] = ()) -> Plan[R]:
    """Resolve the references of ``recipe`` and compute the address of its output."""
    kind = ARTIFACT_KIND_OF_RECIPE[recipe.kind]  # type: ignore[attr-defined]  # every concrete recipe declares its kind
    artifacts = {
        field: resolve(store, of_kind, ref)
        for field, (of_kind, ref) in recipe.references().items()
        if not (recipe.does_without(field) and not is_there(store, of_kind, ref))
    }
    upstream = tuple(
        InputEntry(name=field, id=f"{a.manifest.kind}/{a.manifest.id}", digest=a.manifest.digest)
        for field, a in sorted(artifacts.items())
    )
    models = tuple(find_model(source, store, field=field) for field, source in recipe.model_sources().items())
    states = tuple(find_state(source, store, field=field) for field, source in recipe.state_sources().items())
    inputs = upstream + models + states + raw_inputs
    payload = {
        "recipe": recipe.identity(),
        "inputs": [[entry.name, entry.digest] for entry in inputs],
        "format_version": FORMAT_VERSION[kind],
    }
    canonical = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    fingerprint = hashlib.sha256(canonical.encode()).hexdigest()[:12]
    return Plan(recipe=recipe, store=store, kind=kind, fingerprint=fingerprint, artifacts=artifacts, inputs=inputs)
