"""``/health``, ``/ping`` and ``/info``: whether the replica answers, and which model it serves."""

from clinical_modernbert.serving.schemas import Health, Info
from clinical_modernbert.serving.service import EmbeddingService


async def health(_: EmbeddingService) -> Health:
    """Answer once the model is loaded and warm."""
    return Health()


async def info(service: EmbeddingService) -> Info:
    """Return which model is served, what it was made from, and its limits."""
    return service.engine.info()
