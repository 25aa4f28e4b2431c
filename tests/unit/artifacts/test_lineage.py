"""Generated sources in the making of an artifact: stated, found through its inputs, or no longer known."""

import pytest
from clinical_modernbert.artifacts import InputEntry, Manifest, Store, open_store, synthetic_sources, write_manifest
from clinical_modernbert.artifacts.artifact import artifact_at


@pytest.fixture
def store(tmp_path) -> Store:
    return open_store(str(tmp_path))


def publish(store: Store, kind: str, *inputs: tuple[str, str], **summary: object) -> str:
    manifest = Manifest(
        kind=kind, id=f"{kind}-1", fingerprint="1", format_version=1, recipe={}, summary=summary, files=(),
        inputs=tuple(InputEntry(name="x", id=of, digest=digest) for of, digest in inputs),
    )  # fmt: skip
    return write_manifest(store, f"{kind}/{kind}-1", manifest).digest


def found(store: Store, kind: str) -> list[str] | None:
    artifact = artifact_at(store, f"{kind}/{kind}-1")
    assert artifact
    return synthetic_sources(artifact)


def test_sources_are_found_through_the_chain_of_inputs(store: Store) -> None:
    corpus = publish(store, "corpus", ("notes", "0" * 64), synthetic_sources=["notes", "abstracts"])
    model = publish(store, "model", ("corpus/corpus-1", corpus))
    publish(store, "map", ("model/model-1", model))
    assert found(store, "map") == ["abstracts", "notes"]
    publish(store, "corpus", synthetic_sources=[])
    assert found(store, "map") == []


def test_a_broken_chain_is_unknown_and_not_none_at_all(store: Store) -> None:
    model = publish(store, "model", ("corpus/corpus-1", "a" * 64))
    publish(store, "map", ("model/model-1", model))
    assert found(store, "map") is None
    publish(store, "corpus", synthetic_sources=[])
    # Its content is not what was used.
    assert found(store, "map") is None


def test_what_an_artifact_states_needs_no_inputs(store: Store) -> None:
    publish(store, "map", ("model/model-1", "a" * 64), synthetic_sources=["notes"])
    assert found(store, "map") == ["notes"]


def test_what_one_input_names_is_told_even_if_another_is_gone(store: Store) -> None:
    corpus = publish(store, "corpus", synthetic_sources=["notes"])
    publish(store, "map", ("corpus/corpus-1", corpus), ("model/gone-1", "b" * 64))
    assert found(store, "map") == ["notes"]


def test_a_state_leads_to_its_run(store: Store) -> None:
    corpus = publish(store, "corpus", synthetic_sources=["notes"])
    publish(store, "model", ("corpus/corpus-1", corpus))
    # The digest is that of the checkpoint.
    publish(store, "map", ("model/model-1@400", "c" * 64))
    assert found(store, "map") == ["notes"]
