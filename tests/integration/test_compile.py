"""torch.compile on the feed-forward layers, with a real C++ compiler."""

import shutil
from collections.abc import Callable

import pytest
import torch
from clinical_modernbert.encoder import SegmentLayout, compile_feed_forward, encode_packed
from transformers import ModernBertForMaskedLM

from tests.helpers.tiny_encoder import make_model, random_ids  # noqa: F401  # a fixture


@pytest.mark.slow
def test_compiled_feed_forward_layers_change_nothing_but_rounding(
    make_model: Callable[..., ModernBertForMaskedLM],  # noqa: F811 - the fixture itself
) -> None:
    if shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler and there is none")
    plain, compiled = make_model(), make_model()
    compile_feed_forward(compiled)
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    for lengths in ([30, 7], [12, 99, 3]):
        ids_T, layout = random_ids(lengths), SegmentLayout.build(lengths)
        found, expected = (encode_packed(m.model, ids_T, layout) for m in (compiled, plain))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
