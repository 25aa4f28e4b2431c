"""The endpoint that turns typed text into a vector: ``ENDPOINT_URL`` and, where it asks for one, ``ENDPOINT_KEY``.

Text goes there and nowhere else: it is in no log, no address and no cache.
"""

import os

import numpy as np
from clinical_modernbert.serving.client import Client, EndpointError
from numpy.typing import NDArray

_TIMEOUT_S = 20.0


class EndpointUnusableError(Exception):
    """Why there is no vector, in words for the page."""


def open_endpoint() -> Client | None:
    """Return the endpoint that the environment names, or None."""
    url = os.environ.get("ENDPOINT_URL")
    key = os.environ.get("ENDPOINT_KEY") or None
    # Two attempts: someone waits in front of the screen.
    return Client(url, key=key, timeout_s=_TIMEOUT_S, max_attempts=2) if url else None


def embed_phrase(client: Client, phrase: str, *, model: str, pooling: str) -> NDArray[np.float32]:
    """Return the vector [D] of ``phrase``; raises ``EndpointUnusableError`` where it is another model's or pooled otherwise."""
    try:
        info = client.info()
        if (info["model"], info["pooling"]) != (model, pooling):
            raise EndpointUnusableError(
                f"The endpoint serves {info['model']} with {info['pooling']} pooling; this map is of {model} with {pooling}. "
                "Vectors of two models cannot be compared."
            )
        return client.embed([phrase], model=model)[0]
    except EndpointError as error:
        raise EndpointUnusableError(f"The endpoint gives no vector: {error.code or 'it does not answer'}.") from None
