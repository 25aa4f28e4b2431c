"""Which model the endpoint serves: asked with little patience and remembered for a while, so that no page waits for it long."""

from dataclasses import replace
from typing import Any

import streamlit as st
from clinical_modernbert.serving.client import Client

_PATIENCE_S = 3.0
_REMEMBERED_S = 20


def served_info(client: Client) -> dict[str, Any]:
    """Return the endpoint's ``/info``, at most seconds old; raises ``EndpointError``."""
    return _info(client, client.url)


@st.cache_data(ttl=_REMEMBERED_S, max_entries=4, show_spinner=False)
def _info(_client: Client, url: str) -> dict[str, Any]:
    return replace(_client, timeout_s=_PATIENCE_S, max_attempts=1).info()
