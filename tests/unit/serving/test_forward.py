"""One batch of tasks of all kinds, for an architecture that runs padded, against transformers on each text alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from clinical_modernbert.encoder import load_export
from clinical_modernbert.serving.forward import EncodeTask, run_batch
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

from tests.helpers.encoders import encoder_folders  # noqa: F401  # a fixture

IDS = [[1, *range(10, 40), 2], [1, 7, 8, 2], [1, *range(50, 63), 2], [1, 2]]


@pytest.mark.parametrize(
    ("kind", "auto"),
    [("classify", AutoModelForSequenceClassification), ("label", AutoModelForTokenClassification)],
)
def test_heads_vectors_and_states_of_a_bert_travel_together(
    kind: str,
    auto: type,
    encoder_folders: dict[str, Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    auto.from_pretrained(encoder_folders["bert"], num_labels=3).save_pretrained(tmp_path)  # type: ignore[attr-defined]
    AutoTokenizer.from_pretrained(encoder_folders["bert"]).save_pretrained(tmp_path)
    model = load_export(tmp_path).model
    kinds = [kind, "vector", "tokens"]
    tasks = [EncodeTask(ids, kind=one) for ids in IDS for one in kinds]  # type: ignore[arg-type]
    answers = run_batch(model, tasks, pooling="mean")
    peer = auto.from_pretrained(tmp_path, attn_implementation="eager").eval()  # type: ignore[attr-defined]
    with torch.inference_mode():
        for i, ids in enumerate(IDS):
            batch = {"input_ids": torch.tensor([ids])}
            states_TD = peer.base_model(**batch).last_hidden_state[0]
            expected = [peer(**batch).logits[0], states_TD.mean(0), states_TD]
            for found, wanted in zip(answers[3 * i : 3 * i + 3], expected, strict=True):
                assert found.dtype == np.float32 and found.base is None
                np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)
