"""The endpoint: OpenAI's embeddings API over one scheduler a replica.

Only ``app`` knows Ray; the rest runs on any ASGI server.
"""

from clinical_modernbert.serving.api import build_api
from clinical_modernbert.serving.engine import Engine, load_engine
from clinical_modernbert.serving.scheduler import Scheduler
from clinical_modernbert.serving.service import EmbeddingService

__all__ = ["EmbeddingService", "Engine", "Scheduler", "build_api", "load_engine"]
