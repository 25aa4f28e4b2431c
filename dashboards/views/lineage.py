"""What is in the store, and what each artifact was made from, down to the raw sources."""

import streamlit as st
from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.artifacts.layout import KINDS

from views.reading import list_kind, origins, show_problems, store_or_stop, synthetic_sources


def page() -> None:
    """List every finished artifact; the one chosen shows where it comes from, its recipe and its files."""
    st.title("Lineage")
    store = store_or_stop()
    listings = [list_kind(store, kind) for kind in KINDS]
    for listing in listings:
        show_problems(listing.problems)
    artifacts = [artifact for listing in listings for artifact in listing.artifacts]
    if not artifacts:
        st.info(f"There is nothing finished in {store.uri} yet.", icon=":material/inbox:")
        return
    st.caption(f"{len(artifacts)} finished artifacts in {store.uri}")
    st.dataframe([_line(artifact) for artifact in artifacts], hide_index=True)
    by_id = {_name(artifact): artifact for artifact in artifacts}
    chosen = by_id[st.selectbox("Artifact", list(by_id), index=_newest_map(artifacts), key="artifact")]
    _show(chosen)


def _newest_map(artifacts: list[Artifact]) -> int:
    kinds = [artifact.manifest.kind for artifact in artifacts]
    return kinds.index("map") if "map" in kinds else 0


def _name(artifact: Artifact) -> str:
    return f"{artifact.manifest.kind}/{artifact.manifest.id}"


def _line(artifact: Artifact) -> dict[str, str | float]:
    manifest = artifact.manifest
    return {
        "kind": manifest.kind,
        "id": manifest.id,
        "made": manifest.created_at,
        "code version": manifest.code_version,
        "files": len(manifest.files),
        "MB": round(sum(entry.size_bytes for entry in manifest.files) / 1e6, 1),
    }


def _show(artifact: Artifact) -> None:
    st.subheader(f"Where {_name(artifact)} comes from")
    generated = synthetic_sources(artifact)
    if generated:
        st.warning(f"Goes back in part to synthetic text: {', '.join(generated)}.", icon=":material/smart_toy:")
    chain = [{"step": "↳ " * origin.depth + origin.id, "state": origin.note} for origin in origins(artifact)]
    if chain:
        st.dataframe(chain, hide_index=True)
    else:
        st.info("Made from nothing else than its recipe.", icon=":material/info:")
    manifest = artifact.manifest
    left, right = st.columns(2)
    with left:
        st.markdown("**Figures**")
        st.json(manifest.summary, expanded=1)
    with right:
        st.markdown("**Recipe**")
        st.json(manifest.recipe, expanded=1)
    with st.expander(f"Files ({len(manifest.files)})"):
        st.dataframe([entry.model_dump() for entry in manifest.files], hide_index=True)
    st.caption(f"{artifact.uri} · fingerprint `{manifest.fingerprint}` · content sha256 `{manifest.digest}`")


if __name__ == "__main__":
    page()
