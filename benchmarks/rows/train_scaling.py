"""Growth of a training step's time: two workers against one on the same global batch, and seconds at 1, 4, 16 times the size.

The ratio is that of two workers of one thread to one such worker, gradients exchanged by gloo and the optimizer's step included;
the bound is the same micro-batches on two workers that exchange nothing. The check reports the growth: CPU seconds of
forward and backward, and their useful operations a second. Models grow by width (4 layers): each stage has four times the weights
in a layer.
"""

import time
from functools import partial
from pathlib import Path
from typing import Any

from clinical_modernbert.corpus.shards import RowBatch
from clinical_modernbert.training.meter import step_flops

from benchmarks.harness import Row
from benchmarks.kits.pretraining import Ours, Texts, build_bench_model, packed_rows, read_texts
from benchmarks.kits.workers import Workers

LAYERS, WORKERS_SCALE, WORKERS_ROWS = 4, 0.5, 32


def build(scratch: Path) -> Row:
    """Return the row."""
    texts = read_texts()
    rows = packed_rows(texts, num_rows=WORKERS_ROWS)
    one, two, apart = (_Workers(texts, rows, num=num, exchange=exchange) for num, exchange in _SIDES)
    return Row(
        name="train-scaling",
        unit="real tokens",
        peer="one worker",
        check=lambda: {**_same_step(one, two), **_growth(texts)},
        ours=two.step,
        other=one.step,
        bound=apart.step,
        target="two workers near twice one; seconds in proportion to useful operations",
    )


_SIDES = ((1, True), (2, True), (2, False))


class _Workers:
    """Processes of one thread that hold the same model and share a global batch's rows."""

    def __init__(self, texts: Texts, rows: RowBatch, *, num: int, exchange: bool) -> None:
        self._tokens = int(rows.valid_RL.sum())
        self._workers = Workers(partial(_Worker, texts, rows, num), num=num, exchange=exchange)

    def step(self) -> int:
        """One step of the global batch; returns its real tokens."""
        self.norms()
        return self._tokens

    def norms(self) -> list[float]:
        """One step; returns each worker's global gradient norm."""
        return self._workers.call("step")


class _Worker:
    def __init__(self, texts: Texts, rows: RowBatch, num: int, rank: int) -> None:
        model = build_bench_model(texts, num_layers=LAYERS, scale=WORKERS_SCALE)
        self._ours = Ours(texts, model, rows, share=(rank, num))

    def step(self) -> float:
        self._ours.run()
        return self._ours.engine.step(learning_rate=0.0)


def _same_step(one: _Workers, two: _Workers) -> dict[str, float]:
    """Both numbers of workers see the same global gradient."""
    alone, *shared = one.norms() + two.norms()
    if max(abs(norm - alone) for norm in shared) > 1e-5 * alone:
        raise AssertionError(f"gradient norms {alone} of one worker, {shared} of two")
    return {"gradient_norm": alone, "gradient_norm_of_two": shared[0]}


def _growth(texts: Texts) -> dict[str, Any]:
    """Seconds a step over model and batch, each 1, 4 and 16 times."""
    found = {}
    for name, sizes in (
        ("model", [(0.25, 8), (0.5, 8), (1.0, 8)]),
        ("batch", [(0.5, 2), (0.5, 8), (0.5, 32)]),
    ):
        for times, (scale, num_rows) in zip((1, 4, 16), sizes, strict=True):
            model = build_bench_model(texts, num_layers=LAYERS, scale=scale)
            ours = Ours(texts, model, packed_rows(texts, num_rows=num_rows))
            ours.run()
            seconds = min(_processor_seconds(ours) for _ in range(3))
            masked = len(ours.batch().labels_N)
            flops = step_flops(model.config, ours.rows.lengths_S, num_masked=masked)
            found[f"{name} x {times}"] = {
                "width": model.config.hidden_size,
                "rows": num_rows,
                "processor_s": seconds,
                "useful_gigaflops_per_s": flops / seconds / 1e9,
            }
    return found


def _processor_seconds(ours: Ours) -> float:
    start = time.process_time()
    ours.run()
    return time.process_time() - start
