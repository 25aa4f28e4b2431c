"""Shared by the encode rows: real notes cut to given lengths, one model, and its peers, all in one process with the same threads.

Every side gets strings and gives normalised vectors in the order of the strings: tokenising is timed too. sentence-transformers
sorts by length itself; transformers, ONNX Runtime and OpenVINO are given texts sorted by length. ONNX Runtime runs the graph
that ``torch.onnx.export`` makes of the model, OpenVINO its own conversion, whose attention is one operator: from the ONNX graph
it would hold whole score matrices. Each peer uses the batch size that was fastest in a trial. There are two classes: float32, in
which all vectors are equal, and the best precision, in which OpenVINO multiplies as it does by default and ours in bfloat16.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from clinical_modernbert.encoder import Encoder, load_encoder, load_export
from clinical_modernbert.encoder.bfloat16 import neighbour_overlap
from clinical_modernbert.encoder.forward import is_packed
from clinical_modernbert.encoder.linear import fastest_from, onednn, packed_copy
from clinical_modernbert.recipe.vocabulary import Pooling
from numpy.typing import NDArray
from transformers import AutoModel, PreTrainedModel

from benchmarks.harness import Row
from benchmarks.kits.pretraining import Texts, build_bench_model, read_texts, return_memory

Vectors = NDArray[np.float32]

PEERS = Path("build/peers/encode")
PINS = {"sentence-transformers": "6.2.0", "onnxruntime": "1.32.0", "openvino": "2026.4.1", "onnx": "1.22.0"}
# What those import and the project does not have.
_NEEDED = ("openvino-telemetry==2025.2.0", "flatbuffers==25.12.19", "protobuf==7.36.2", "ml_dtypes==0.6.0")


def install_peers() -> None:
    """Install the peers next to the project's environment, which provides the packages that both need."""
    if not (PEERS / "openvino").is_dir():
        pins = [f"{name}=={version}" for name, version in PINS.items()]
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(PEERS)]
        subprocess.run([*command, *pins, *_NEEDED], check=True)
    sys.path.append(str(PEERS.resolve()))


@dataclass(frozen=True, slots=True)
class Problem:
    """An exported model and texts for it."""

    encoder: Encoder
    folder: Path
    texts: list[str]
    num_tokens: int
    pooling: Pooling


def make_problem(scratch: Path, *, num_layers: int, lengths: list[int], pooling: Pooling) -> Problem:
    """Cut the documents' stream into texts of ``lengths`` tokens, to a few, and export a model with fresh weights."""
    found = read_texts()
    folder = scratch / "model"
    build_bench_model(found, num_layers=num_layers).save_pretrained(folder)
    found.tokenizer.model_max_length = 8192
    found.tokenizer.save_pretrained(folder)
    encoder = load_encoder(folder)
    texts = _cut(found, lengths)
    num_tokens = sum(len(ids) for ids in encoder.tokenize(texts))
    return Problem(encoder, folder, texts, num_tokens, pooling)


def _cut(found: Texts, lengths: list[int]) -> list[str]:
    """Decode stretches of narrative documents; decoding and tokenising again may move a length by a token or two."""
    stream = [i for ids in found.documents if len(ids) > 200 for i in ids]
    ends = np.cumsum([length - 2 for length in lengths])
    return [
        found.tokenizer.decode(stream[end - length + 2 : end]).strip()
        for end, length in zip(ends, lengths, strict=True)
    ]


def ours(problem: Problem, encoder: Encoder | None = None) -> Vectors:
    """Return our vectors, normalised; ``encoder`` replaces the problem's."""
    encoder = encoder or problem.encoder
    return encoder.embed(encoder.tokenize(problem.texts), pooling=problem.pooling, normalize=True)


def _pool(hidden_BLD: Vectors, mask_BL: NDArray[np.int64], pooling: Pooling) -> Vectors:
    mean_BD = (hidden_BLD * mask_BL[:, :, None]).sum(1) / mask_BL.sum(1, keepdims=True)
    pooled = hidden_BLD[:, 0] if pooling == "cls" else mean_BD
    return np.asarray(pooled / np.linalg.norm(pooled, axis=1, keepdims=True), dtype=np.float32)


def _sorted_batches(problem: Problem, forward: Callable[[Any, Any], Any], size: int) -> Vectors:
    """Tokenise, sort by length, pad each batch to its longest, and pool what ``forward`` gives."""
    encoded = problem.encoder.tokenize(problem.texts)
    order = sorted(range(len(encoded)), key=lambda i: -len(encoded[i]))
    vectors = np.empty((len(encoded), problem.encoder.hidden_size), dtype=np.float32)
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        width = max(len(encoded[i]) for i in chosen)
        ids_BL = np.zeros((len(chosen), width), dtype=np.int64)
        mask_BL = np.zeros_like(ids_BL)
        for row, i in enumerate(chosen):
            ids_BL[row, : len(encoded[i])], mask_BL[row, : len(encoded[i])] = encoded[i], 1
        vectors[chosen] = _pool(forward(ids_BL, mask_BL), mask_BL, problem.pooling)
    return vectors


class _Hidden(torch.nn.Module):
    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return states


def _example() -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask [2, 200] of two texts of different lengths."""
    ids_BL = torch.randint(5, 1000, (2, 200))
    mask_BL = torch.ones_like(ids_BL)
    mask_BL[1, 100:] = 0
    return ids_BL, mask_BL


def _export_onnx(hidden: torch.nn.Module, path: Path, example: tuple[torch.Tensor, torch.Tensor]) -> None:
    axes = {0: "batch", 1: "length"}
    with torch.no_grad():
        torch.onnx.export(
            hidden,
            example,
            str(path),
            input_names=["input_ids", "attention_mask"],
            output_names=["hidden"],
            dynamic_axes={"input_ids": axes, "attention_mask": axes, "hidden": axes},
            opset_version=18,
            dynamo=False,
        )


DEFAULT_PRECISION = "its default precision"


def peers(problem: Problem, scratch: Path, *, sizes: tuple[int, ...]) -> dict[str, Callable[[], Vectors]]:
    """Return what makes vectors, by the peer's name and version; ``sizes`` are the batch sizes tried.

    All in float32 but the one whose name ends in ``DEFAULT_PRECISION``.
    """
    install_peers()
    import onnxruntime
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling as PoolingLayer
    from sentence_transformers.models import Transformer

    threads = torch.get_num_threads()
    model = AutoModel.from_pretrained(problem.folder, attn_implementation="sdpa", dtype=torch.float32).eval()
    hidden, path = _Hidden(model), scratch / "model.onnx"
    example = _example()
    _export_onnx(hidden, path, example)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    # Its arena grows to 16 GB with the scores of a text of 8,000 tokens, and would stay allocated while the other peers run.
    shrinking = onnxruntime.RunOptions()
    shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    by_openvino, by_openvino_default = _openvino(hidden, example, threads=threads)
    transformer = Transformer(str(problem.folder), max_seq_length=problem.encoder.max_tokens)
    pooling = PoolingLayer(problem.encoder.hidden_size, pooling_mode=problem.pooling)
    sentences = SentenceTransformer(modules=[transformer, pooling], device="cpu")

    def by_torch(ids_BL: Any, mask_BL: Any) -> Any:
        with torch.inference_mode():
            return hidden(torch.from_numpy(ids_BL), torch.from_numpy(mask_BL)).numpy()

    def by_onnx(ids_BL: Any, mask_BL: Any) -> Any:
        return session.run(None, {"input_ids": ids_BL, "attention_mask": mask_BL})[0]

    def onnx(size: int) -> Vectors:
        vectors = _sorted_batches(problem, by_onnx, size)
        shortest = dict(zip(("input_ids", "attention_mask"), (tensor[:1].numpy() for tensor in example), strict=True))
        session.run(None, shortest, shrinking)
        return vectors

    def by_sentences(size: int) -> Vectors:
        return np.asarray(sentences.encode(problem.texts, batch_size=size, normalize_embeddings=True))

    found: dict[str, Callable[[], Vectors]] = {}
    for name, run in {
        f"sentence-transformers {PINS['sentence-transformers']}": by_sentences,
        f"transformers {transformers.__version__}, sorted by length": partial(_sorted_batches, problem, by_torch),
        f"onnxruntime {PINS['onnxruntime']}": onnx,
        f"openvino {PINS['openvino']}": partial(_sorted_batches, problem, by_openvino),
        f"openvino {PINS['openvino']}, {DEFAULT_PRECISION}": partial(_sorted_batches, problem, by_openvino_default),
    }.items():
        trials = {size: partial(run, size) for size in sizes}
        size = min(trials, key=lambda size: _seconds(trials[size]))
        label, default, _ = name.partition(f", {DEFAULT_PRECISION}")
        found[f"{label}, batches of {size}{default}"] = trials[size]
    return found


def _openvino(
    hidden: torch.nn.Module, example: tuple[torch.Tensor, torch.Tensor], *, threads: int
) -> tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]:
    """Return OpenVINO's forward pass in float32, and by default: in bfloat16 where the hardware has it."""
    import openvino

    with torch.no_grad():
        converted = openvino.convert_model(hidden, example_input=example)
    options = {"INFERENCE_NUM_THREADS": threads}
    exact = openvino.Core().compile_model(converted, "CPU", {**options, "INFERENCE_PRECISION_HINT": "f32"})
    default = openvino.Core().compile_model(converted, "CPU", options)
    return (lambda ids, mask: exact([ids, mask])[0]), (lambda ids, mask: default([ids, mask])[0])


def encode_row(
    scratch: Path,
    *,
    name: str,
    num_layers: int,
    lengths: list[int],
    pooling: Pooling,
    sizes: tuple[int, ...],
    target: str,
) -> Row:
    """Return a row over texts of ``lengths`` tokens."""
    problem = make_problem(scratch, num_layers=num_layers, lengths=lengths, pooling=pooling)
    return two_classes(problem, peers(problem, scratch, sizes=sizes), name=name, target=target)


def two_classes(problem: Problem, others: dict[str, Callable[[], Vectors]], *, name: str, target: str) -> Row:
    """Return the row in float32, which also measures the best precision where this CPU has one."""

    def counted(run: Callable[[], object]) -> Callable[[], int]:
        def side() -> int:
            run()
            return problem.num_tokens

        return side

    exact = {label: run for label, run in others.items() if not label.endswith(DEFAULT_PRECISION)}
    sides = {label: counted(lambda run=run: _as_users_run_it(run)) for label, run in others.items()}
    first, *more = exact
    float32 = Row(
        name=name,
        unit="tokens",
        peer=first,
        check=lambda: check(problem, exact),
        ours=counted(lambda: ours(problem)),
        other=sides[first],
        other_peers={label: sides[label] for label in more},
        bound=(lambda: gemm_bound(problem)) if is_packed(problem.encoder.model) else None,
        target=target,
    )
    narrow = load_export(problem.folder, precision="auto", pooling=problem.pooling)
    if narrow.precision == "float32":
        return float32
    (rival,) = set(others) - set(exact)
    best = Row(
        name=f"{name}-best-precision",
        unit="tokens",
        peer=rival,
        check=lambda: check_rounded(problem, {"ours": lambda: ours(problem, narrow), rival: others[rival]}),
        ours=counted(lambda: ours(problem, narrow)),
        other=sides[rival],
        variants={"ours, float32": counted(lambda: ours(problem))},
        target=target,
        figure="overlap",
    )
    return replace(float32, also=best)


def _seconds(run: Callable[[], object]) -> float:
    """Processor seconds of one run."""
    start = time.process_time()
    run()
    return time.process_time() - start


def _as_users_run_it(run: Callable[[], object]) -> None:
    """Run a peer with malloc's own rule, under which freed blocks go back."""
    with return_memory():
        run()


def check(problem: Problem, others: dict[str, Callable[[], Vectors]]) -> dict[str, Any]:
    """Every peer's vectors are ours within 1e-5."""
    mine = ours(problem)
    worst = {name: float(np.abs(run() - mine).max()) for name, run in others.items()}
    if max(worst.values()) > 1e-5:
        raise AssertionError(f"vectors differ by {worst}")
    apart = np.linalg.norm(mine[:, None] - mine[None], axis=-1) + 10 * np.eye(len(mine))
    if apart.min() < 1e-3:
        raise AssertionError(f"two texts have vectors {apart.min()} apart: equality would prove nothing")
    lengths = sorted(len(ids) for ids in problem.encoder.tokenize(problem.texts))
    return {
        "largest_difference": worst,
        "smallest_distance_of_two_texts": float(apart.min()),
        "tokens": lengths,
        "layers": problem.encoder.model.config.num_hidden_layers,
        "pooling": problem.pooling,
        "threads": torch.get_num_threads(),
    }


def check_rounded(problem: Problem, sides: dict[str, Callable[[], Vectors]]) -> dict[str, Any]:
    """Every side's vectors have a cosine of 0.999 or more with ours in float32; ``overlap`` is that of our ten neighbours."""
    exact = ours(problem)
    found = {name: run() for name, run in sides.items()}
    cosines = {name: float((vectors * exact).sum(1).min()) for name, vectors in found.items()}
    if min(cosines.values()) < 0.999:
        raise AssertionError(f"vectors have cosines of {cosines} with those in float32")
    overlaps = {name: neighbour_overlap(exact, vectors) for name, vectors in found.items()}
    return {"overlap": overlaps["ours"], "overlaps": overlaps, "lowest_cosines": cosines, "texts": len(exact)}


_BUFFERS: dict[tuple[int, ...], torch.Tensor] = {}


def _buffer(*shape: int) -> torch.Tensor:
    return _BUFFERS.setdefault(shape, torch.zeros(shape))


def gemm_bound(problem: Problem) -> int:
    """The matrix products of our side alone, attention's too, local layers in their bands: softmax and all else cost nothing."""
    config = problem.encoder.model.config
    width, inner, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
    lengths = [len(ids) for ids in problem.encoder.tokenize(problem.texts)]
    tokens = sum(lengths)
    for number, kind in enumerate(config.layer_types):
        last = number + 1 == config.num_hidden_layers and problem.pooling == "cls"
        behind = len(lengths) if last else tokens
        for rows, k, n in ((tokens, width, 3 * width), (behind, width, width), (behind, width, 2 * inner)):
            _product(rows, k, n)
        _product(behind, inner, width)
        for length in lengths:
            keys = length if kind == "full_attention" else min(length, 3 * config.sliding_window)
            queries = 1 if last else length
            _attention(heads, queries, keys, width // heads)
    return tokens


def _product(rows: int, k: int, n: int) -> None:
    """One product by the faster library, as in our own layers."""
    fastest = fastest_from(n, k, packed=True, threads=torch.get_num_threads())
    if fastest is None or rows < fastest:
        torch.mm(_buffer(rows, k), _buffer(n, k).t(), out=_buffer(rows, n))
    else:
        onednn(_buffer(rows, k), _packed(n, k))


@cache
def _packed(n: int, k: int) -> torch.Tensor:
    return packed_copy(_buffer(n, k))


def _attention(heads: int, queries: int, keys: int, depth: int) -> None:
    """Both products of attention, at most 512 queries at a time: more scores than that would leave the cache."""
    for start in range(0, queries, 512):
        here = min(512, queries - start)
        scores = _buffer(heads, here, keys)
        torch.bmm(_buffer(heads, here, depth), _buffer(heads, keys, depth).transpose(1, 2), out=scores)
        torch.bmm(scores, _buffer(heads, keys, depth), out=_buffer(heads, here, depth))
