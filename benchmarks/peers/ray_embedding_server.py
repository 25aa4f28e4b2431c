"""ray-embedding's application on a local Ray, with its own defaults for one model on a CPU. Run in the peer's venv."""

import os
import signal
import sys
import threading
from pathlib import Path

import ray
from ray import serve
from ray_embedding import build_app
from ray_embedding.dto import AppConfig

stopped = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stopped.set())
ray.init(
    "local",
    num_cpus=8,
    resources={"head_node": 1},
    include_dashboard=False,
    _temp_dir=os.environ["BENCH_RAY_FOLDER"],
    log_to_driver=False,
    object_store_memory=200 << 20,
    runtime_env={"env_vars": {"OMP_NUM_THREADS": os.environ["OMP_NUM_THREADS"]}},
)
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
model = {
    "model": sys.argv[1],
    "served_model_name": "bench",
    "device": "cpu",
    "deployment": "bench",
    "matryoshka_dim": None,
}
router = {"deployment": "router", "path_prefix": ["api"], "max_concurrency": 64}
# It restarts broken nodes by ssh and does not start without a key; on one machine the key is never used.
key = Path(os.environ["BENCH_RAY_FOLDER"]) / "key.pem"
key.touch()
config = {"model_router": router, "models": [model], "node_recycler": {"ssh_private_key": str(key)}}
serve.run(build_app(AppConfig.model_validate(config)), name="peer")
stopped.wait()
