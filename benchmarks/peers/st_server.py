"""FastAPI over sentence-transformers, as its users write it: one call of ``encode`` a request, one at a time.

Calls at the same time would fight for the cores, so one thread computes; the event loop stays free. Run in the peer's venv.
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvicorn
from fastapi import FastAPI
from sentence_transformers import SentenceTransformer

app = FastAPI()
model = SentenceTransformer(sys.argv[1], device="cpu")
worker = ThreadPoolExecutor(max_workers=1)


@app.post("/v1/embeddings")
async def embeddings(body: dict[str, Any]) -> dict[str, Any]:
    """Answer as OpenAI's endpoint does."""
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    found = await asyncio.get_running_loop().run_in_executor(
        worker, lambda: model.encode(texts, normalize_embeddings=True, show_progress_bar=False).tolist()
    )
    return {"data": [{"index": i, "embedding": vector} for i, vector in enumerate(found)]}


uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", access_log=False)
