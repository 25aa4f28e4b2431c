"""Named entities: one IOB2 tag a word, documents of any length in windows, span F1 and token accuracy.

Legend: T tokens, W words, C tags.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from clinical_modernbert.evaluation.encoders import LocalEncoder
from clinical_modernbert.evaluation.heads import (
    hidden_states,
    load_base,
    load_head,
    load_tokenizer,
    mixed_precision,
    token_logits,
)
from clinical_modernbert.evaluation.outcome import Outcome
from clinical_modernbert.evaluation.scores import Scored, group_numbers, measure
from clinical_modernbert.evaluation.spans import span_counts
from clinical_modernbert.evaluation.tasks.examples import Splits, WordExample
from clinical_modernbert.evaluation.tasks.windows import Window, complete_tags, encode_words
from clinical_modernbert.evaluation.tuning import Problem, by_length, linear_probe, tune
from clinical_modernbert.recipe import FineTuneRecipe, ProbeRecipe


def tag_words(recipe: FineTuneRecipe | ProbeRecipe, encoder: LocalEncoder, splits: Splits[WordExample]) -> Outcome:
    """Train on the splits and score the test part."""
    tags = _tag_set(splits)
    tokenizer = load_tokenizer(encoder.folder)
    parts = (splits.train, splits.development, splits.test)
    windows = [
        encode_words(tokenizer, part, max_tokens=encoder.max_tokens, stride=recipe.tuning.window_stride)
        for part in parts
    ]
    counts = dict(zip(("train", "development", "test"), map(len, parts), strict=True))
    counts["windows"] = sum(map(len, windows))
    facts: dict[str, int | str] = {}
    documents_beyond = sum(len(w) for w in windows) - sum(len(p) for p in parts)
    if documents_beyond:
        facts["windows_beyond_one_a_document"] = documents_beyond
    budget = recipe.scaling.max_batch_tokens
    wanted = [_labels(windows[n], parts[n], tags) for n in (0, 1)]

    def outcome(predicted: list[list[str]], **rest: Any) -> Outcome:
        scored = Scored(
            "entities", group_numbers([e.group for e in splits.test]), {"counts": tag_counts(splits.test, predicted)}
        )
        flat = np.array([tags.index(tag) if tag in tags else 0 for example in predicted for tag in example])
        return Outcome(scored, counts, facts, tags, extra={"predicted": flat}, **rest)

    if isinstance(recipe, ProbeRecipe):
        base = load_base(encoder, attention=recipe.scaling.attention)
        vectors = [_word_vectors(base, part, max_batch_tokens=budget) for part in windows]

        def figure(logits_WC: torch.Tensor) -> float:
            return _f1(splits.development, _by_example(windows[1], logits_WC.argmax(1).tolist(), parts[1], tags))

        probe = linear_probe(
            vectors[0],
            torch.cat([torch.tensor(w) for w in wanted[0]]),
            vectors[1],
            num_labels=len(tags),
            figure=figure,
            seed=recipe.seed,
        )
        with torch.inference_mode():
            return outcome(_by_example(windows[2], probe(vectors[2]).argmax(1).tolist(), parts[2], tags))
    model = load_head(
        encoder, "token_classification", labels=tags, seed=recipe.seed, attention=recipe.scaling.attention
    )

    def loss_sum(members: Sequence[int]) -> torch.Tensor:
        batch = [windows[0][i] for i in members]
        logits_TC = token_logits(model, [window.ids for window in batch]).float()
        at = torch.tensor(_flat_positions(batch), device=logits_TC.device)
        labels = torch.tensor([label for i in members for label in wanted[0][i]], device=logits_TC.device)
        return torch.nn.functional.cross_entropy(logits_TC[at], labels, reduction="sum")

    def predict(number: int) -> list[list[str]]:
        found = _predict(model, windows[number], max_batch_tokens=budget)
        return _by_example(windows[number], found, parts[number], tags)

    problem = Problem(
        lengths=[len(window.ids) for window in windows[0]],
        targets=[len(window.words) for window in windows[0]],
        loss_sum=loss_sum,
        development_figure=lambda: _f1(splits.development, predict(1)),
    )
    epochs, best = tune(model, problem, section=recipe.tuning, seed=recipe.seed, max_batch_tokens=budget)
    head = {"kind": "token_classification", "labels": tags, "max_tokens": encoder.max_tokens, "scheme": "IOB2"}
    return outcome(predict(2), epochs=epochs, best_epoch=best, model=model, head=head)


def tag_counts(examples: Sequence[WordExample], predicted: Sequence[Sequence[str]]) -> np.ndarray[Any, Any]:
    """Return [N, 5]: right, predicted and gold spans; right and all words."""
    rows = [
        (*span_counts(e.tags, tags), sum(a == b for a, b in zip(e.tags, tags, strict=True)), len(tags))
        for e, tags in zip(examples, predicted, strict=True)
    ]
    return np.array(rows, dtype=np.float64)


def _tag_set(splits: Splits[WordExample]) -> list[str]:
    kinds = sorted({tag[2:] for p in (splits.train, splits.development) for e in p for tag in e.tags if tag != "O"})
    return ["O", *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI")]


def _labels(windows: Sequence[Window], examples: Sequence[WordExample], tags: list[str]) -> list[list[int]]:
    numbers = {tag: number for number, tag in enumerate(tags)}
    return [[numbers[examples[w.example].tags[word]] for word in w.words] for w in windows]


def _flat_positions(batch: Sequence[Window]) -> list[int]:
    """Return where the judged tokens lie when the windows stand one behind the other."""
    found, start = [], 0
    for window in batch:
        found += [start + position for position in window.positions]
        start += len(window.ids)
    return found


def _predict(model: Any, windows: Sequence[Window], *, max_batch_tokens: int) -> list[int]:
    """Return the most likely tag of every judged word, window by window."""
    model.eval()
    found: list[list[int]] = [[] for _ in windows]
    with torch.inference_mode():
        for part in by_length([len(window.ids) for window in windows], max_batch_tokens=max_batch_tokens):
            batch = [windows[i] for i in part]
            best = token_logits(model, [window.ids for window in batch]).argmax(1)[_flat_positions(batch)].tolist()
            for i, window in zip(part, batch, strict=True):
                found[i], best = best[: len(window.words)], best[len(window.words) :]
    return [tag for window in found for tag in window]


def _word_vectors(base: Any, windows: Sequence[Window], *, max_batch_tokens: int) -> torch.Tensor:
    """Return the frozen states [W, D] of every judged word, window by window."""
    base.eval()
    found: list[torch.Tensor] = [torch.empty(0)] * len(windows)
    with torch.inference_mode(), mixed_precision():
        for part in by_length([len(window.ids) for window in windows], max_batch_tokens=max_batch_tokens):
            batch = [windows[i] for i in part]
            states = hidden_states(base, [window.ids for window in batch])[_flat_positions(batch)].float().cpu()
            for i, piece in zip(part, states.split([len(window.words) for window in batch]), strict=True):
                found[i] = piece
    return torch.cat(found).clone()


def _by_example(
    windows: Sequence[Window], found: Sequence[int], examples: Sequence[WordExample], tags: list[str]
) -> list[list[str]]:
    """Return one tag for every word of every example."""
    by_word: list[list[str | None]] = [[None] * len(example.words) for example in examples]
    at = 0
    for window in windows:
        for word in window.words:
            by_word[window.example][word] = tags[found[at]]
            at += 1
    return [complete_tags(words) for words in by_word]


def _f1(examples: Sequence[WordExample], predicted: Sequence[Sequence[str]]) -> float:
    counts = tag_counts(examples, predicted)
    return measure(Scored("entities", np.arange(len(counts)), {"counts": counts}))["f1"]
