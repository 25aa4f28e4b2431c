"""The base of every recipe section: frozen, strict, and documented field by field."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

RecipeValues = dict[str, Any]
"""The settings of a recipe as YAML or JSON holds them."""


def below(folder: str, path: str) -> str:
    """Return ``path`` below ``folder``, a folder or an address in S3; an absolute path or an address is returned as it is."""
    if "://" in path or "://" not in folder:
        return path if "://" in path else str(Path(folder) / path)
    return path if path.startswith("/") else f"{folder.rstrip('/')}/{PurePosixPath(path)}"  # without "./"


class Section(BaseModel):
    """A frozen group of settings; unknown keys are refused and each field carries a docstring with its unit.

    A field may have a section with other values than those of the section's class as its default. They are the defaults of that
    field's settings, whether a recipe gives some of them or none.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _complete_from_defaults(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        completed = dict(values)
        for name, info in cls.model_fields.items():
            given, default = values.get(name), info.default
            if isinstance(given, Mapping) and isinstance(default, Section):
                completed[name] = {**default.model_dump(include=default.model_fields_set), **given}
        return completed


class Reference:
    """Marks a field that names an artifact: a recipe name, or ``<name>-<fingerprint>`` where several exist."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


CorpusReference = Annotated[str, Reference("corpus")]
OptionalCorpusReference = Annotated[str | None, Reference("corpus")]
PairsReference = Annotated[str, Reference("pairs")]
OptionalPairsReference = Annotated[str | None, Reference("pairs")]
ModelReference = Annotated[str, Reference("model")]
EmbeddingsReference = Annotated[str, Reference("embeddings")]

# Sections that change how or where a run happens but not its output: left out of the fingerprint.
NOT_IDENTITY = frozenset({"scaling", "logging", "checkpoint"})


class Recipe(Section):
    """The base of every recipe; ``kind`` and the other fields are the subclass's."""

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")
    """Name of the artifact: 1 to 40 lower-case letters, digits and inner dashes; the fingerprint is appended to it."""

    def references(self) -> dict[str, tuple[str, str]]:
        """Return ``field -> (artifact kind, reference)`` for the artifacts that this recipe reads."""
        references = {}
        for field, info in type(self).model_fields.items():
            marks = [m for m in info.metadata if isinstance(m, Reference)]
            if marks and getattr(self, field) is not None:
                references[field] = (marks[0].kind, getattr(self, field))
        return references

    def with_ids(self, ids: Mapping[str, str]) -> Self:
        """Return the recipe with ids of artifacts in place of its references, by field: they stay unambiguous."""
        return self.model_copy(update=dict(ids))

    def model_sources(self) -> dict[str, str]:
        """Return ``field -> source`` for the models that this recipe names by any address; their content is an input."""
        return {}

    def state_sources(self) -> dict[str, str]:
        """Return ``field -> <run>@<step>`` for the kept states that this recipe names; their content is an input."""
        return {}

    def does_without(self, field: str) -> bool:
        """Return whether the recipe can run where the store lacks the artifact of ``field``."""
        return False

    def identity(self) -> RecipeValues:
        """Return the settings that decide the output: all but scaling, logging, checkpointing and the references.

        The digest of the resolved artifact replaces a reference, so that two names of one artifact give one fingerprint.
        """
        return self.model_dump(mode="json", exclude=set(NOT_IDENTITY) | set(self.references()))
