"""What pages read from the artifact store, and what they show where it is empty, damaged or out of reach."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import streamlit as st
from audit import record, user_name
from clinical_modernbert.artifacts import Artifact, Store, synthetic_sources
from clinical_modernbert.artifacts.layout import FORMAT_VERSION, KINDS
from clinical_modernbert.artifacts.lineage import find_input
from clinical_modernbert.errors import ArtifactError, StoreError
from clinical_modernbert.job import open_root
from manifests import Listing, Manifests, Progress

# What S3 services answer where a key is wrong or may not read.
_NO_RIGHTS = ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "Permission denied")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Origin:
    """One input of an artifact, and its distance in the chain of inputs."""

    depth: int
    id: str
    artifact: Artifact | None
    note: str
    intact: bool = False
    """Whether the store still holds the content that was used."""


def store_or_stop() -> Store:
    """Return the store that the command line or the environment names. Where it cannot be opened, say so and end the page."""
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("--root", default=None)
    try:
        return _opened(parser.parse_known_args(sys.argv[1:])[0].root)
    except StoreError as error:
        show_store_error(error)
        st.stop()


def show_store_error(error: StoreError | PermissionError) -> None:
    """Say that the store refuses access, or that it does not answer."""
    if any(word in str(error) for word in _NO_RIGHTS):
        st.error("The explorer may not read this.", icon=":material/lock:")
        st.markdown("Its credentials are invalid, expired, or lack read access. Ask your administrator:")
    else:
        st.error("The artifact store cannot be opened or does not answer.", icon=":material/cloud_off:")
    st.code(str(error), language=None, wrap_lines=True)


@st.cache_resource(show_spinner=False, max_entries=8)
def _opened(root: str | None) -> Store:
    return open_root(root)


def list_kinds(store: Store, kinds: Sequence[str]) -> list[Listing]:
    """Return a listing of each kind. While the store is read, the page says how far it is."""
    place, began = st.empty(), time.monotonic()

    def tell(progress: Progress) -> None:
        seconds = f"{time.monotonic() - began:.0f} s"
        if progress.total is None:
            place.caption(f"Asking the store for its artifacts: {seconds}")
        else:
            place.caption(f"Reading artifacts: {progress.done:,} of {progress.total:,}, {seconds}")

    listings = _manifests(store.uri, store).list_kinds(kinds, tell=tell)
    place.empty()
    return listings


def list_kind(store: Store, kind: str) -> Listing:
    """Return the artifacts of one kind. A damaged artifact is reported and hides none of the others."""
    return list_kinds(store, [kind])[0]


def find(store: Store, kind: str, artifact_id: str) -> Artifact | None:
    """Return an artifact of the store, at most two minutes old; None where it is not finished."""
    return _manifests(store.uri, store).find(kind, artifact_id)


def each(store: Store, read: Callable[[str], T], names: Sequence[str]) -> list[T]:
    """Return what ``read`` returns for each name; reads of the store run side by side."""
    return _manifests(store.uri, store).each(read, names)


def where(store: Store, test: Callable[[str], bool], names: Sequence[str]) -> list[str]:
    """Return the names that pass a test which reads the store."""
    return [name for name, passed in zip(names, each(store, test, names), strict=True) if passed]


def opened(artifact: Artifact) -> Artifact:
    """Return the artifact that a page opens. The page starts again if it was rebuilt since it was listed."""
    found = find(artifact.store, artifact.manifest.kind, artifact.manifest.id)
    if found is not None and found.manifest != artifact.manifest:
        st.rerun()
    return artifact


@st.cache_resource(show_spinner=False, max_entries=8)
def _manifests(uri: str, _store: Store) -> Manifests:
    return Manifests(_store)


def show_problems(problems: tuple[str, ...]) -> None:
    """Name each damaged artifact and its file."""
    for problem in problems:
        st.error("An artifact is damaged and is not shown.", icon=":material/broken_image:")
        st.code(problem, language=None, wrap_lines=True)


def readable(artifacts: Sequence[Artifact]) -> list[Artifact]:
    """Return the artifacts of this format version, and name the others: their figures may have another meaning."""
    of_version: dict[bool, list[Artifact]] = {True: [], False: []}
    for one in artifacts:
        of_version[one.manifest.format_version == FORMAT_VERSION[one.manifest.kind]].append(one)
    others = sorted(one.manifest.id for one in of_version[False])
    if others:
        st.info(
            f"Not shown, because another version of the platform wrote them: {', '.join(others)}. Build them again to see them.",
            icon=":material/history:",
        )
    return of_version[True]


def origins(artifact: Artifact, *, depth: int = 1) -> Iterator[Origin]:
    """Yield the inputs of ``artifact``, then theirs. Raw files are counted by source."""
    raw: dict[str, int] = {}
    for entry in artifact.manifest.inputs:
        if "/" not in entry.id:
            raw[entry.id] = raw.get(entry.id, 0) + 1
            continue
        if entry.id.partition("/")[0] not in KINDS:
            yield Origin(depth, entry.id, None, "from outside this store")
            continue
        try:
            found, same = find_input(entry, artifact.store, find=find)
        except ArtifactError as error:
            yield Origin(depth, entry.id, None, str(error))
            continue
        if found is None:
            yield Origin(depth, entry.id, None, "deleted from the store")
        elif not same:
            yield Origin(depth, entry.id, found, "its content was replaced after it was used")
        else:
            yield Origin(depth, entry.id, found, "its content is what was used", intact=True)
        if found is not None:
            yield from origins(found, depth=depth + 1)
    for source, count in sorted(raw.items()):
        yield Origin(depth, source, None, f"raw source, {count} file(s)", intact=True)


def synthetic_note(artifact: Artifact) -> str | None:
    """Return what a page must say about generated text in the making of ``artifact``; None where there was none."""
    found = synthetic_sources(artifact, find=find)
    if found is None:
        return "what it was trained on is no longer in the store, so synthetic text cannot be ruled out"
    return f"trained in part on synthetic text ({', '.join(found)})" if found else None


def reveal(
    resource: str, load: Callable[[], str], *, label: str = "Show the text", hide: str = "Hide the text"
) -> None:
    """Offer a document's text. It is loaded and shown only after a click, which writes one audit line.

    ``resource`` names the document by ids alone, as ``embeddings/notes-1a2b/row 17``; the line holds them and never the text.
    The text stays on the page until it is hidden or the session ends.
    """
    shown: set[str] = st.session_state.setdefault("revealed", set())
    if resource in shown:
        st.text(load())
        st.button(hide, key=f"hide {resource}", on_click=shown.discard, args=(resource,))
        return
    who = user_name(st.context.headers)
    if who is None:
        st.info("Text is shown only to logged-in users, and the login proxy sent no user name.", icon=":material/lock:")
        return
    st.button(
        label,
        key=f"reveal {resource}",
        on_click=_reveal,
        args=(resource, who),
        help="The audit log records your name, the text that you open, and the time.",
    )


def _reveal(resource: str, who: str) -> None:
    record("reveal", who=who, what=resource)
    st.session_state["revealed"].add(resource)
