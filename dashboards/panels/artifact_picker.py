"""The choice of the artifact that a page shows, and messages where there is none or another version wrote it."""

from collections.abc import Callable

import streamlit as st
from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.artifacts.layout import FORMAT_VERSION
from store import list_kind, show_problems, store_or_stop


def artifacts_or_stop(
    kind: str, *, title: str, command: str, wanted: Callable[[Artifact], bool] = lambda artifact: True
) -> list[Artifact]:
    """Return the finished artifacts of a kind, newest first. Without any, say how to make one and end the page.

    Artifacts of another format version are named and left out: their figures may have another meaning.
    """
    store = store_or_stop()
    listing = list_kind(store, kind)
    show_problems(listing.problems)
    found = [artifact for artifact in listing.artifacts if wanted(artifact)]
    readable = [artifact for artifact in found if artifact.manifest.format_version == FORMAT_VERSION[kind]]
    if len(readable) < len(found):
        others = sorted(a.manifest.id for a in found if a.manifest.format_version != FORMAT_VERSION[kind])
        st.info(
            f"Not shown, because another version of the platform wrote them: {', '.join(others)}. Build them again to see them.",
            icon=":material/history:",
        )
    if not readable:
        st.info(f"There is no {title} in {store.uri} yet.", icon=":material/inbox:")
        st.code(command, language=None)
        st.stop()
    return readable


def choose(artifacts: list[Artifact], *, label: str, key: str) -> Artifact:
    """Return the newest artifact, or the one chosen among several."""
    if len(artifacts) == 1:
        return artifacts[0]
    by_id = {artifact.manifest.id: artifact for artifact in artifacts}
    return by_id[st.selectbox(label, list(by_id), key=key, format_func=lambda id_: _dated(by_id[id_]))]


def show_origin(artifact: Artifact) -> None:
    """Say which artifact the page shows, and when it was made."""
    manifest = artifact.manifest
    st.caption(
        f"{manifest.kind} `{manifest.id}` · made {manifest.created_at[:10]} · fingerprint `{manifest.fingerprint}`"
    )


def _dated(artifact: Artifact) -> str:
    return f"{artifact.manifest.id} ({artifact.manifest.created_at[:10]})"
