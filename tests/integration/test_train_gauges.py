"""What a training worker shows on Ray's Prometheus endpoint: every figure of its curve, by run."""

import json
import time
import urllib.request
from pathlib import Path

import pytest
import ray
from clinical_modernbert.artifacts import open_store
from clinical_modernbert.training.launch import pretrain_in_process
from clinical_modernbert.training.state import history_from_json
from clinical_modernbert.training.trackers import figures_of, ray_gauges

from tests.helpers.own_ray import own_ray
from tests.helpers.tiny import publish_tiny_corpus, tiny_pretrain_plan

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_ray_s_prometheus_endpoint_shows_every_figure_of_the_curve_by_run(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    publish_tiny_corpus(store)
    model = pretrain_in_process(tiny_pretrain_plan(store, "training.num_steps=3"))
    points = history_from_json(json.loads(model.file("history.json").read_text()))
    figures = {name for point in points for name in figures_of(point)}
    assert {"train/loss", "train/mask_rate", "held_out/uniform_loss"} <= figures
    wanted = {f"ray_cm_{name.replace('/', '_')}" for name in ("train/step", *figures)}

    with own_ray(num_cpus=1):
        observe = ray_gauges("tiny-run")
        for point in points:
            observe(point)
        url = f"http://127.0.0.1:{ray.nodes()[0]['MetricsExportPort']}/metrics"
        deadline, missing, page = time.monotonic() + 60, wanted, ""
        while missing and time.monotonic() < deadline:
            time.sleep(1)
            with urllib.request.urlopen(url, timeout=10) as answer:
                page = answer.read().decode()
            missing = {name for name in wanted if f"\n{name}{{" not in page}
    assert missing == set()
    assert 'run="tiny-run"' in next(line for line in page.splitlines() if line.startswith("ray_cm_train_loss{")).lower()
