"""A store with a small synthetic code map, published through the real functions; the app as a user starts it."""

import sys
from pathlib import Path

import pytest
import streamlit as st
from clinical_modernbert.artifacts import Store, open_store
from streamlit.testing.v1 import AppTest

from tests.helpers.explorer_browser import address, axe, chromium, watched
from tests.helpers.explorer_maps import map_publisher
from tests.helpers.explorer_page import DASHBOARDS, PublishMap

__all__ = ["address", "axe", "chromium", "watched"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"file://{tmp_path}/store")


@pytest.fixture
def publish_map(store: Store, tmp_path: Path) -> PublishMap:
    """What publishes maps into the test's store."""
    return map_publisher(store, tmp_path)


@pytest.fixture
def app(store: Store, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The explorer, started as ``streamlit run dashboards/explorer.py -- --root URI``; not run yet."""
    st.cache_resource.clear()
    st.cache_data.clear()
    monkeypatch.setattr(sys, "argv", ["dashboards/explorer.py", "--root", store.uri])
    return AppTest.from_file(str(DASHBOARDS / "explorer.py"), default_timeout=30)
