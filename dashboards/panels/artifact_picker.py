"""The choice of the artifact that a page shows, and messages where there is none."""

from collections.abc import Callable

import streamlit as st
from clinical_modernbert.artifacts import Artifact
from store import list_kind, opened, readable, show_problems, store_or_stop, synthetic_note

from panels.kept import keep, say_absent_link, wanted


def artifacts_or_stop(
    kind: str, *, title: str, command: str, wanted: Callable[[Artifact], bool] = lambda artifact: True
) -> list[Artifact]:
    """Return the finished artifacts of a kind, newest first. Without any, say how to make one and end the page.

    Artifacts of another format version are named and left out.
    """
    store = store_or_stop()
    listing = list_kind(store, kind)
    show_problems(listing.problems)
    found = [artifact for artifact in listing.artifacts if wanted(artifact)]
    kept = readable(found)
    if not kept:
        st.info(f"There is no {title} in {store.uri} yet.", icon=":material/inbox:")
        st.code(command, language=None)
        st.stop()
    return kept


def choose(artifacts: list[Artifact], *, label: str, key: str) -> Artifact:
    """Return the newest artifact, or the one chosen among several; the address and other visits of the page keep the choice."""
    by_id = {artifact.manifest.id: artifact for artifact in artifacts}
    ids = list(by_id)
    say_absent_link(key, by_id)
    asked, chosen = wanted(key, by_id), ids[0]
    if len(ids) > 1:
        index = ids.index(asked) if asked else 0
        chosen = st.selectbox(label, ids, index=index, key=key, format_func=lambda id_: _dated(by_id[id_]))
    keep(key, chosen)
    return opened(by_id[chosen])


def show_origin(artifact: Artifact) -> None:
    """Say which artifact the page shows, when it was made, and whether generated text was in its making."""
    manifest = artifact.manifest
    note = synthetic_note(artifact)
    st.caption(
        f"{manifest.kind} `{manifest.id}` · made {manifest.created_at[:10]} · fingerprint `{manifest.fingerprint}`"
        + (f" · **{note}**" if note else "")
    )


def _dated(artifact: Artifact) -> str:
    return f"{artifact.manifest.id} ({artifact.manifest.created_at[:10]})"
