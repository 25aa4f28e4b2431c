"""The endpoint that turns typed text into vectors: ``ENDPOINT_URL`` and, where it needs a key, ``ENDPOINT_KEY``.

Typed text is sent to the endpoint only: it is in no log, no address and no cache.
"""

import os
from dataclasses import replace
from typing import Any

import numpy as np
import streamlit as st
from clinical_modernbert.serving.client import Client, EndpointError
from numpy.typing import NDArray

_TIMEOUT_S = 20.0
_INFO_TIMEOUT_S = 3.0
_INFO_CACHED_S = 20


Info = dict[str, Any]
"""The endpoint's answer to ``/info``, as JSON."""


class EndpointUnusableError(Exception):
    """The reason why there is no vector, in words for the page."""


def open_endpoint() -> Client | None:
    """Return the endpoint that the environment names, or None."""
    url = os.environ.get("ENDPOINT_URL")
    key = os.environ.get("ENDPOINT_KEY") or None
    # Two attempts: a user is waiting.
    return Client(url, key=key, timeout_s=_TIMEOUT_S, max_attempts=2) if url else None


def embed_phrase(client: Client, phrase: str, *, model: str, pooling: str) -> NDArray[np.float32]:
    """Return the vector [D] of ``phrase``; raises ``EndpointUnusableError`` if the endpoint serves another model or pooling."""
    try:
        info = client.info()
        if (info["model"], info["pooling"]) != (model, pooling):
            raise EndpointUnusableError(
                f"The endpoint serves {info['model']} with {info['pooling']} pooling; this map is of {model} with {pooling}. "
                "Vectors of two models cannot be compared."
            )
        return client.embed([phrase], model=model)[0]
    except EndpointError as error:
        raise EndpointUnusableError(f"The endpoint returned no vector: {error.code or 'it does not answer'}.") from None


def served_info(client: Client) -> Info:
    """Return the endpoint's ``/info``, cached for seconds, so that no page waits long for it. Raises ``EndpointError``."""
    return _info(client, client.url)


@st.cache_data(ttl=_INFO_CACHED_S, max_entries=4, show_spinner=False)
def _info(_client: Client, url: str) -> Info:
    return replace(_client, timeout_s=_INFO_TIMEOUT_S, max_attempts=1).info()
