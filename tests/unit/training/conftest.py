"""A store with a tiny corpus for the tests of a module; tests that change the store make their own."""

import pytest
from clinical_modernbert.artifacts import Store, open_store

from tests.helpers.tiny import publish_tiny_corpus


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = open_store(str(tmp_path_factory.mktemp("store")))
    publish_tiny_corpus(store)
    return store
