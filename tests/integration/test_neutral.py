"""Fine-tuning is neutral: the same examples give the weights that a plain transformers Trainer gives, step for step.

With the whole training part as one batch the order of examples does not matter, so that loss, its normalisation, clipping,
schedule, decay groups and optimizer are compared exactly. Dropout is off: the two draw from different streams.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from clinical_modernbert.encoder.forward import logits as run_head
from clinical_modernbert.evaluation.encoders import resolve_encoder
from clinical_modernbert.evaluation.heads import load_head
from clinical_modernbert.evaluation.tasks.examples import WordExample
from clinical_modernbert.evaluation.tasks.windows import encode_words
from clinical_modernbert.evaluation.tuning import Problem, tune
from clinical_modernbert.recipe.tasks import EncoderSection, TuningSection
from clinical_modernbert.tokenizer import load_tokenizer
from transformers import AutoModelForTokenClassification, DataCollatorForTokenClassification, Trainer, TrainingArguments

from benchmarks.kits.neutral import verdict
from tests.helpers.encoders import encoder_folders  # noqa: F401  # a fixture
from tests.helpers.tiny import DRUGS, tiny_texts

TAGS = ["O", "B-Drug"]
SECTION = TuningSection(num_epochs=6, batch_size=32, learning_rate=2e-3, warmup_fraction=0.34, weight_decay=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_the_weights_are_those_of_a_plain_trainer(
    architecture: str,
    encoder_folders: dict[str, Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(encoder_folders[architecture], folder)
    config = json.loads((folder / "config.json").read_text())
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "attention_dropout": 0.0}
    (folder / "config.json").write_text(json.dumps({**config, **none}))
    encoder = resolve_encoder(EncoderSection(name="tiny", source=str(folder)))
    tokenizer = load_tokenizer(folder)
    sentences = [text.split(".")[0] for text in tiny_texts(20)]
    examples = []
    for number, text in enumerate(sentences):
        ends = np.cumsum([len(word) + 1 for word in text.split()])
        words = tuple((int(end) - len(word) - 1, int(end) - 1) for end, word in zip(ends, text.split(), strict=True))
        tags = tuple("B-Drug" if word in DRUGS else "O" for word in text.split())
        examples.append(WordExample(str(number), str(number), text, words, tags))
    windows = encode_words(tokenizer, examples, max_tokens=64, stride=0.5)
    labels = [[TAGS.index(examples[w.example].tags[word]) for word in w.words] for w in windows]
    model = load_head(encoder, "token", labels=TAGS, seed=0)
    start = tmp_path / "start"
    model.save_pretrained(start)

    def loss_sum(members: list[int]) -> torch.Tensor:
        logits = run_head(model, [windows[i].ids for i in members])
        begins = np.cumsum([0, *(len(windows[i].ids) for i in members)])
        at = [int(begins[n]) + p for n, i in enumerate(members) for p in windows[i].positions]
        wanted = torch.tensor([label for i in members for label in labels[i]])
        return torch.nn.functional.cross_entropy(logits[at], wanted, reduction="sum")

    figures = iter(range(10))  # every epoch is better: the last is kept
    lengths, targets = [len(w.ids) for w in windows], [len(w.words) for w in windows]
    problem = Problem(lengths, targets, loss_sum, lambda: float(next(figures)))  # type: ignore[arg-type]
    # A small budget: the step is cut into several forward passes, which must not show.
    tune(model, problem, section=SECTION, seed=0, max_batch_tokens=100)

    plain = AutoModelForTokenClassification.from_pretrained(start, attn_implementation="eager")
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    items = []
    for window, wanted in zip(windows, labels, strict=True):
        full = [-100] * len(window.ids)
        for position, label in zip(window.positions, wanted, strict=True):
            full[position] = label
        items.append({"input_ids": window.ids, "attention_mask": [1] * len(window.ids), "labels": full})
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "out"),
        learning_rate=SECTION.learning_rate,
        per_device_train_batch_size=SECTION.batch_size,
        num_train_epochs=SECTION.num_epochs,
        weight_decay=SECTION.weight_decay,
        warmup_steps=SECTION.warmup_fraction,
        max_grad_norm=SECTION.max_gradient_norm,
        lr_scheduler_type="linear",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    collator = DataCollatorForTokenClassification(tokenizer)
    Trainer(model=plain, args=arguments, train_dataset=items, data_collator=collator).train()

    moved = 0.0
    for name, value in plain.state_dict().items():
        moved = max(moved, float((value - before[name]).abs().max()))
        assert torch.allclose(model.state_dict()[name], value, atol=2e-5), name
    assert moved > 1e-3


def test_a_large_difference_is_no_neutrality_however_far_apart_the_seeds_lie() -> None:
    plain = [0.6, 0.6, 0.6]
    assert verdict([0.62, 0.59, 0.61], plain, limit=0.05).endswith(
        "difference=+0.0067 limit=0.05 standard_error=0.0088 pass"
    )
    assert verdict([0.81, 0.55, 0.65], plain, limit=0.05).endswith(
        "difference=+0.0700 limit=0.05 standard_error=0.0757 fail"
    )
    # Small, and yet more than chance.
    assert verdict([0.63, 0.631, 0.629], plain, limit=0.05).endswith(
        "difference=+0.0300 limit=0.05 standard_error=0.0006 fail"
    )
