"""Seconds until the pages Runs and Lineage are whole, with 1,500 models on an S3 service that takes 150 ms a request.

The service is SeaweedFS behind a proxy that holds each request back; the pages run under Streamlit's AppTest, without a browser.
A page is opened in a process that has read nothing, and again after the names of the store are due. The table
of runs is then filtered by a word. The row has no peer.
``EXPLORER_MODELS=200`` measures another number.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import streamlit as st
from clinical_modernbert.artifacts import Manifest, Store, open_store, upload, write_manifest
from clinical_modernbert.artifacts.layout import FORMAT_VERSION
from clinical_modernbert.recipe import PretrainRecipe
from streamlit.testing.v1 import AppTest

from benchmarks.kits.tests import helper_of_tests

_EXPLORER = Path(__file__).resolve().parents[2] / "dashboards" / "explorer.py"
_DELAY_MS = 150
_DUE_S = 11
_TIMEOUT_S = 1200


def score() -> str:
    """Print the seconds of each page and return the closing line."""
    count = int(os.environ.get("EXPLORER_MODELS", "1500"))
    with (
        tempfile.TemporaryDirectory() as folder,
        helper_of_tests("s3_server").running_s3_server(Path(folder)) as server,
    ):
        os.environ |= server.environment()
        history = Path(folder) / "history.json"
        history.write_text("[]")
        publish(open_store(f"s3://{server.bucket}/store"), count, history)
        host, _, port = server.endpoint.removeprefix("http://").partition(":")
        command = [sys.executable, "-m", "benchmarks.kits.distance", host, port, str(_DELAY_MS)]
        proxy = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert proxy.stdout
            os.environ["S3_ENDPOINT_URL"] = f"http://127.0.0.1:{proxy.stdout.readline().strip()}"
            found = [f"{name}={seconds:.1f}" for name, seconds in _measure(f"s3://{server.bucket}/store")]
        finally:
            proxy.kill()
    return f"explorer-store models={count} delay_ms={_DELAY_MS} {' '.join(found)}"


def publish(store: Store, count: int, history: Path) -> None:
    """Publish ``count`` models: the recipe and figures of pretraining, ``history``, no weights."""
    recipe = PretrainRecipe.model_validate({"name": "m", "corpus": "c-1"}).model_dump(mode="json")
    for number in range(count):
        artifact_id = f"m{number}-{number:012x}"
        manifest = Manifest(
            kind="model",
            id=artifact_id,
            fingerprint=f"{number:012x}",
            format_version=FORMAT_VERSION["model"],
            recipe=recipe,
            inputs=(),
            summary={"num_steps": 100, "held_out": {"uniform_loss": 2.0}},
            files=(upload(store, f"model/{artifact_id}", "history.json", history),),
        )
        write_manifest(store, f"model/{artifact_id}", manifest)


def _measure(uri: str) -> list[tuple[str, float]]:
    found = []
    for page in ("runs", "lineage"):
        st.cache_resource.clear()
        sys.argv = ["explorer.py", "--root", uri]
        app = AppTest.from_file(str(_EXPLORER), default_timeout=_TIMEOUT_S)
        app.session_state["mode"] = "researcher"
        app.run()
        for name in (page, f"{page}_again"):
            started = time.perf_counter()
            app.switch_page(f"views/{page}.py").run()
            found.append((name, time.perf_counter() - started))
            time.sleep(_DUE_S)
        if page == "runs":
            started = time.perf_counter()
            app.text_input(key="run-filter").set_value("m1").run()
            found.append(("runs_filtered", time.perf_counter() - started))
    return found
