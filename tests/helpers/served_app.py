"""The endpoint's app over a small model, for tests that call it in-process, without a server and without Ray."""

from pathlib import Path
from typing import Any

from clinical_modernbert.recipe import ServeRecipe
from clinical_modernbert.serving.api import build_api
from clinical_modernbert.serving.engine import load_engine
from clinical_modernbert.serving.key_ring import KeyRing
from clinical_modernbert.serving.keys import parse_keys
from clinical_modernbert.serving.service import EmbeddingService
from fastapi import FastAPI

from tests.helpers.served_models import publish_model


def publish(root: Path) -> Path:
    """Publish the model ``tiny`` in a store below ``root`` and return the store's folder."""
    publish_model(root / "store", root / "export")
    return root / "store"


def open_app(store: Path, *, keys: str = "", **limits: Any) -> tuple[FastAPI, EmbeddingService]:
    """Return the app with the recipe's ``limits``, and its service; close the service after use."""
    recipe = ServeRecipe.model_validate({"name": "tiny", "model": "tiny", "limits": limits})
    service = EmbeddingService(load_engine(str(store), recipe))
    return build_api(service, keys=KeyRing(parse_keys(keys, origin="test"))), service
