"""Our endpoint as a process: ``python -m benchmarks.peers.our_server ray|uvicorn ROOT PORT [PATH=VALUE ...]``."""

import os
import signal
import sys
import threading
from pathlib import Path

from apps.encoder import ServingArgs, build, recipe_of


def main(server: str, root: str, port: str, *settings: str) -> None:
    """Serve until SIGTERM."""
    chosen = dict(setting.partition("=")[::2] for setting in settings)
    args = ServingArgs.model_validate({"model": "bench", "root": root, **chosen})
    if server == "uvicorn":
        import torch
        import uvicorn
        from clinical_modernbert.serving.api import build_api
        from clinical_modernbert.serving.engine import load_engine
        from clinical_modernbert.serving.service import EmbeddingService

        recipe = recipe_of(args)
        torch.set_num_threads(recipe.scaling.num_threads)
        engine = load_engine(root, recipe).warm_up()
        uvicorn.run(build_api(EmbeddingService(engine)), port=int(port), log_level="warning", access_log=False)
        return
    import ray
    from ray import serve

    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    ray.init(
        "local",
        num_cpus=8,  # logical: replicas share the machine's cores as their threads do
        include_dashboard=False,
        _temp_dir=os.environ["BENCH_RAY_FOLDER"],
        log_to_driver=False,
        object_store_memory=200 << 20,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
    serve.run(build(args), name="encoder")
    Path(os.environ["BENCH_DEPLOYED_FILE"]).touch()
    stopped.wait()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
