"""The artifacts in the store, what each was made from, down to the raw sources, and what was made from it."""

from collections.abc import Sequence

import streamlit as st
from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.artifacts.layout import KINDS
from clinical_modernbert.serving.client import EndpointError
from endpoint import open_endpoint, served_info
from mode import is_researcher
from panels.charts import Row
from panels.counts import withheld_figures
from panels.kept import keep, say_absent_link, wanted
from store import Origin, list_kinds, opened, origins, show_problems, store_or_stop, synthetic_note

_KINDS = {
    "corpus": "the texts that a model is trained on",
    "model": "the trained model",
    "sweep": "models with different settings, compared",
    "evaluation": "how well a model performs",
    "map": "a map of codes or documents",
    "pairs": "pairs of terms that mean the same",
    "embeddings": "vectors of a table of texts",
    "spans": "what a model labelled in a table of texts",
}

# Their figures count people's records, and a summary of the first two lists the records that could not be read, with their ids.
_OF_RECORDS = ("embeddings", "spans", "pairs")


def page() -> None:
    """List every finished artifact. For the chosen one show its inputs, its recipe and its files."""
    st.title("Lineage")
    store = store_or_stop()
    listings = list_kinds(store, KINDS)
    for listing in listings:
        show_problems(listing.problems)
    artifacts = [artifact for listing in listings for artifact in listing.artifacts]
    if not artifacts:
        st.info(f"There is nothing finished in {store.uri} yet.", icon=":material/inbox:")
        return
    by_id = {_name(artifact): artifact for artifact in artifacts}
    _offer_served(by_id)
    st.caption(f"{len(artifacts)} finished artifacts in {store.uri}")
    st.dataframe([_line(artifact) for artifact in artifacts], hide_index=True)
    names = list(by_id)
    say_absent_link("artifact", by_id)
    asked = wanted("artifact", by_id)
    index = names.index(asked) if asked else _newest_map(artifacts)
    chosen = st.selectbox("Artifact", names, index=index, key="artifact")
    keep("artifact", chosen)
    _show(opened(by_id[chosen]), artifacts)


def _offer_served(by_id: dict[str, Artifact]) -> None:
    """Say which model the endpoint serves and whether it equals the store's, and link to its lineage."""
    client = open_endpoint()
    if client is None:
        return
    try:
        info = served_info(client)
    except EndpointError as error:
        st.info(
            f"The endpoint did not say which model it serves ({error.code or 'no answer'}).",
            icon=":material/cloud_off:",
        )
        return
    name = f"model/{info['model']}"
    found = by_id.get(name)
    if found is None:
        st.warning(f"The endpoint serves {name}, which is not in this store.", icon=":material/link_off:")
    elif found.manifest.digest != info["digest"]:
        st.warning(
            f"The endpoint serves {name}, but its content differs from this store's: one of them was replaced.",
            icon=":material/difference:",
        )
    else:
        left, right = st.columns([4, 1])
        left.success(f"The endpoint serves {name}, with the content of this store.", icon=":material/verified:")
        right.button("Show its lineage", on_click=_choose, args=(name,))


def _choose(name: str) -> None:
    st.session_state["artifact"] = name


def _newest_map(artifacts: Sequence[Artifact]) -> int:
    kinds = [artifact.manifest.kind for artifact in artifacts]
    return kinds.index("map") if "map" in kinds else 0


def _name(artifact: Artifact) -> str:
    return f"{artifact.manifest.kind}/{artifact.manifest.id}"


def _line(artifact: Artifact) -> Row:
    manifest = artifact.manifest
    line: Row = {
        "kind": manifest.kind,
        "id": manifest.id,
        "made": manifest.created_at[:19].replace("T", " "),
    }
    if not is_researcher():
        return {**line, "what it is": _KINDS[manifest.kind]}
    return {
        **line,
        "code version": manifest.code_version,
        "files": len(manifest.files),
        "MB": round(sum(entry.size_bytes for entry in manifest.files) / 1e6, 1),
    }


def _show(artifact: Artifact, artifacts: Sequence[Artifact]) -> None:
    st.header(f"Lineage of {_name(artifact)}")
    note = synthetic_note(artifact)
    if note:
        st.warning(f"{note[0].upper()}{note[1:]}.", icon=":material/smart_toy:")
    chain = list(origins(artifact))
    if chain:
        st.graphviz_chart(graph(artifact, chain), width="content")
        st.dataframe(
            [{"step": "↳ " * origin.depth + origin.id, "state": origin.note} for origin in chain], hide_index=True
        )
    else:
        st.info("It has no inputs but its recipe.", icon=":material/info:")
    _show_made_of_it(artifact, artifacts)
    if is_researcher():
        _show_details(artifact)
    manifest = artifact.manifest
    st.caption(f"{artifact.uri} · fingerprint `{manifest.fingerprint}` · content sha256 `{manifest.digest}`")


def graph(artifact: Artifact, chain: Sequence[Origin]) -> str:
    """Return the chain as a graph in DOT, raw sources on the left. Absent and replaced artifacts are dashed and labelled."""
    path = [_name(artifact)]
    lines = [f"{_quoted(path[0])} [penwidth=2];"]
    for origin in chain:
        del path[origin.depth :]
        shape = "box" if "/" in origin.id else "ellipse"
        state = "" if origin.intact else "\nreplaced since" if origin.artifact else "\nnot in the store"
        style = "" if origin.intact else ", style=dashed"
        lines.append(f"{_quoted(origin.id)} [shape={shape}, label={_quoted(origin.id + state)}{style}];")
        lines.append(f"{_quoted(origin.id)} -> {_quoted(path[-1])};")
        path.append(origin.id)
    body = "\n".join(dict.fromkeys(lines))
    return f'digraph {{ rankdir=LR; node [shape=box, fontname="sans-serif", fontsize=11];\n{body}\n}}'


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _show_made_of_it(artifact: Artifact, artifacts: Sequence[Artifact]) -> None:
    name = _name(artifact)
    made = [
        {
            "artifact": _name(other),
            "when": other.manifest.created_at[:10],
            "from": "this content" if same else "other content",
        }
        for other in artifacts
        for entry in other.manifest.inputs
        if entry.id.partition("@")[0] == name  # a run, or one of its states
        for same in ["@" in entry.id or entry.digest == artifact.manifest.digest]
    ]
    if made:
        st.markdown("**Made from it**")
        st.dataframe(made, hide_index=True)


def _show_details(artifact: Artifact) -> None:
    manifest = artifact.manifest
    left, right = st.columns(2)
    with left:
        st.markdown("**Figures**")
        # These two hold counts of records; their pages withhold the small ones.
        if manifest.kind in ("corpus", "evaluation"):
            st.markdown(f"See the page {manifest.kind.capitalize()}.")
        elif manifest.kind in _OF_RECORDS:
            st.json(withheld_figures(manifest.summary), expanded=1)
        else:
            st.json(manifest.summary, expanded=1)
    with right:
        st.markdown("**Recipe**")
        st.json(manifest.recipe, expanded=1)
    with st.expander(f"Files ({len(manifest.files)})"):
        st.dataframe([entry.model_dump() for entry in manifest.files], hide_index=True)


if __name__ == "__main__":
    page()
