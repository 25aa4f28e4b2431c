"""What the pages read from the artifact store, and what they say where there is nothing or something is broken."""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import streamlit as st
from clinical_modernbert.artifacts import Artifact, Store, find_artifact
from clinical_modernbert.errors import ArtifactError, StoreError
from clinical_modernbert.job import open_root

_RELOAD_S = 10


@dataclass(frozen=True, slots=True)
class Listing:
    """The finished artifacts of one kind, newest first, and what is wrong with those that cannot be read."""

    artifacts: tuple[Artifact, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """One thing that an artifact was made from, and how far up the chain it stands."""

    depth: int
    id: str
    artifact: Artifact | None
    note: str


def store_or_stop() -> Store:
    """Return the store that the command line or the environment names; where it cannot be opened, say so and end the page."""
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("--root", default=None)
    try:
        return _opened(parser.parse_known_args(sys.argv[1:])[0].root)
    except StoreError as error:
        st.error("The artifact store cannot be opened.", icon=":material/cloud_off:")
        st.code(str(error), language=None, wrap_lines=True)
        st.stop()


@st.cache_resource(show_spinner=False)
def _opened(root: str | None) -> Store:
    return open_root(root)


def list_kind(store: Store, kind: str) -> Listing:
    """List one kind; a broken artifact is reported beside the others and hides none of them."""
    return _list_kind(store, store.uri, kind)


@st.cache_resource(ttl=_RELOAD_S, show_spinner=False)
def _list_kind(_store: Store, uri: str, kind: str) -> Listing:
    artifacts, problems = [], []
    for artifact_id in _store.names(kind):
        try:
            artifact = find_artifact(_store, kind, artifact_id)
        except ArtifactError as error:
            problems.append(str(error))
        else:
            artifacts += [artifact] if artifact else []
    artifacts.sort(key=lambda artifact: artifact.manifest.created_at, reverse=True)
    return Listing(tuple(artifacts), tuple(problems))


def show_problems(problems: tuple[str, ...]) -> None:
    """Name what is damaged, each by its file."""
    for problem in problems:
        st.error("An artifact is damaged and is not shown.", icon=":material/broken_image:")
        st.code(problem, language=None, wrap_lines=True)


def origins(artifact: Artifact, *, depth: int = 1) -> Iterator[Origin]:
    """Yield what ``artifact`` was made from, then what that was made from; raw files are counted by their source."""
    raw: dict[str, int] = {}
    for entry in artifact.manifest.inputs:
        kind, separator, artifact_id = entry.id.partition("/")
        if not separator:
            raw[entry.id] = raw.get(entry.id, 0) + 1
            continue
        try:
            found = find_artifact(artifact.store, kind, artifact_id)
        except ArtifactError as error:
            yield Origin(depth, entry.id, None, str(error))
            continue
        if found is None:
            yield Origin(depth, entry.id, None, "no longer in the store")
        elif found.manifest.digest != entry.digest:
            yield Origin(depth, entry.id, found, "content is not what was used: it was replaced since")
        else:
            yield Origin(depth, entry.id, found, "content is what was used")
        if found is not None:
            yield from origins(found, depth=depth + 1)
    for source, count in sorted(raw.items()):
        yield Origin(depth, source, None, f"raw source, {count} file(s)")


def synthetic_sources(artifact: Artifact) -> list[str]:
    """Return the names of generated sources in the corpora that ``artifact`` goes back to."""
    corpora = [
        origin.artifact for origin in origins(artifact) if origin.artifact and origin.artifact.manifest.kind == "corpus"
    ]
    sources = [source for corpus in corpora for source in corpus.manifest.recipe.get("sources", [])]
    return sorted({source["name"] for source in sources if source["type"].startswith("synthetic")})
