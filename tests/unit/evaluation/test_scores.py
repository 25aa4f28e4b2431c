"""Every metric equals its reference implementation on random cases; intervals and paired tests have their known ends."""

import json
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval
from clinical_modernbert.errors import ModelError
from clinical_modernbert.evaluation.report.paired_tests import paired_tests
from clinical_modernbert.evaluation.scores import Resampled, Scored, group_numbers, interval, paired_test, resample
from clinical_modernbert.evaluation.tasks import entities, text_labels
from clinical_modernbert.evaluation.tasks.examples import WordExample
from clinical_modernbert.evaluation.tasks.ranking import cosines, first_ranks, rank, retrieval_metrics, tied
from clinical_modernbert.evaluation.tasks.spans import tag_counts
from clinical_modernbert.recipe.tasks import DispositionTask, Mode, SentenceRolesTask
from sklearn import metrics as sk


def classified(seed: int, *, num: int = 80, classes: int = 2) -> Scored:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(classes), size=num).round(2)  # rounded: ties must count half
    values = {"labels": rng.integers(classes, size=num).astype(float), "probabilities": probabilities}
    return Scored(np.arange(num) // 4, values, text_labels.measure)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("classes", [2, 5])
def test_classification_equals_scikit_learn_with_any_weights(seed: int, classes: int) -> None:
    scored = classified(seed, classes=classes)
    labels, probabilities = scored.values["labels"].astype(int), scored.values["probabilities"]
    guess = probabilities.argmax(1)
    for weights in (None, np.random.default_rng(seed).integers(1, 4, size=len(labels)).astype(float)):
        figures = scored.figures(weights)
        assert figures["accuracy"] == pytest.approx(sk.accuracy_score(labels, guess, sample_weight=weights))
        for average in ("macro", "weighted"):
            expected = sk.f1_score(labels, guess, average=average, sample_weight=weights)
            assert figures[f"f1_{average}"] == pytest.approx(expected)
        if classes == 2:
            expected = sk.roc_auc_score(labels, probabilities[:, 1], sample_weight=weights)
            assert figures["auroc"] == pytest.approx(expected)
        else:
            assert "auroc" not in figures


def test_a_class_that_nobody_named_is_none_of_the_sample() -> None:
    labels, probabilities = np.array([0.0, 0, 1]), np.eye(3)[[0, 1, 1]]
    figures = text_labels.measure({"labels": labels, "probabilities": probabilities}, np.ones(3))
    assert figures["f1_macro"] == pytest.approx(sk.f1_score([0, 0, 1], [0, 1, 1], average="macro"))


def test_spans_equal_seqeval(repository: Path) -> None:
    cases = json.loads((repository / "tests/golden/seqeval.json").read_text())
    assert len(cases) == 60
    for case in cases:
        gold, predicted = ([row.split() for row in case[side]] for side in ("gold", "predicted"))
        examples = [WordExample("", "", "", (), tuple(row)) for row in gold]
        counts = tag_counts(examples, predicted)
        figures = entities.measure({"counts": counts}, np.ones(len(counts)))
        for name in ("f1", "precision", "recall"):
            assert figures[name] == pytest.approx(case[name]), case


@pytest.mark.parametrize(
    ("gold", "predicted", "default", "strict", "overlap"),
    [
        ("B-D I-D O", "O I-D O", 0, 0, 1),
        ("B-D I-D O", "I-D I-D O", 1, 0, 1),
        ("B-D I-D O", "B-D I-D B-D", 2 / 3, 2 / 3, 2 / 3),
        ("B-D I-D O", "B-X I-X O", 0, 0, 0),
        ("B-D B-D O", "B-D I-D O", 0, 0, 1),
        ("O O O", "O O O", 0, 0, 0),
    ],
)
def test_entities_are_counted_strictly_and_by_overlap_too(
    gold: str, predicted: str, default: float, strict: float, overlap: float
) -> None:
    counts = tag_counts([WordExample("", "", "", (), tuple(gold.split()))], [predicted.split()])
    found = entities.measure({"counts": counts}, np.ones(1))
    assert [found[name] for name in ("f1", "f1_strict", "f1_overlap")] == pytest.approx([default, strict, overlap])


def test_words_in_any_entity_are_those_that_are_hidden() -> None:
    rng = np.random.default_rng(0)
    tags = np.array(["O", "B-DATE", "I-DATE", "B-NAME"])
    gold, predicted = (tags[rng.integers(0, 4, 200)] for _ in range(2))
    found = entities.measure(
        {"counts": tag_counts([WordExample("", "", "", (), tuple(gold))], [list(predicted)])}, np.ones(1)
    )
    sides = gold != "O", predicted != "O"
    assert found["token_recall"] == pytest.approx(sk.recall_score(*sides))
    assert found["token_precision"] == pytest.approx(sk.precision_score(*sides))
    assert found["token_f2"] == pytest.approx(sk.fbeta_score(*sides, beta=2))


def test_retrieval_equals_trec_eval_by_hand_and_by_rank() -> None:
    rng = np.random.default_rng(0)
    documents = rng.normal(size=(40, 8)).astype(np.float32)
    queries = rng.normal(size=(6, 8)).astype(np.float32)
    ids, names = [f"q{i}" for i in range(6)], [f"d{i}" for i in range(40)]
    qrels = {q: {names[d]: int(rng.integers(1, 3)) for d in rng.choice(40, size=3, replace=False)} for q in ids}
    found = rank(cosines(queries, documents), query_ids=ids, document_ids=names, drop_identical_ids=False)
    metrics = retrieval_metrics(qrels, found, ids)
    unit = documents / np.linalg.norm(documents, axis=1, keepdims=True)
    for row, query in enumerate(ids):
        ranking = [names[d] for d in np.argsort(-(unit @ queries[row]))]
        gains = [qrels[query].get(d, 0) for d in ranking]
        discounts = 1 / np.log2(np.arange(2, 12))
        ideal = sorted(gains, reverse=True)[:10]
        assert metrics[row, 0] == pytest.approx(np.dot(gains[:10], discounts) / np.dot(ideal, discounts))
        hits = np.array(gains) > 0
        assert metrics[row, 1] == pytest.approx(hits[:10].mean())
        assert metrics[row, 2] == pytest.approx(hits[:10].sum() / 3)
        assert metrics[row, 3] == pytest.approx(np.mean([hits[: r + 1].mean() for r in np.flatnonzero(hits)]))
    assert pytrec_eval.supported_measures  # the reference itself


def test_the_interval_is_of_groups_not_of_examples() -> None:
    """40 copies of each of 10 groups: resampling examples would pretend to 400 observations."""
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.integers(2, size=10), 40).astype(float)
    probabilities = np.repeat(rng.dirichlet([1, 1], size=10), 40, axis=0)
    values = {"labels": labels, "probabilities": probabilities}
    clustered = Scored(np.repeat(np.arange(10), 40), values, text_labels.measure)
    independent = Scored(np.arange(400), values, text_labels.measure)
    widths = []
    for scored in (clustered, independent):
        mean, low, high = interval(resample([scored], num_resamples=300), "accuracy")
        assert low <= mean <= high
        widths.append(high - low)
    assert widths[0] > 3 * widths[1]


def test_a_paired_test_tells_a_real_difference_from_none() -> None:
    labels = np.tile([0.0, 1.0], 60)
    good, poor = np.eye(2)[labels.astype(int)] * 0.8 + 0.1, np.full((120, 2), 0.5)
    poor[:, 0] += 0.01
    good_, poor_, same = (
        resample(
            [Scored(np.arange(120), {"labels": labels, "probabilities": p}, text_labels.measure)], num_resamples=200
        )
        for p in (good, poor, good)
    )
    test = paired_test(good_, poor_, "accuracy")
    assert test.value == pytest.approx(0.5) and test.p < 1e-6 and 0 < test.low < 0.5 < test.high < 1
    none = paired_test(good_, same, "accuracy")
    assert (none.value, none.p) == (0.0, 1.0)
    with pytest.raises(ValueError, match="same examples"):
        paired_test(good_, resample([classified(0)], num_resamples=10), "accuracy")


def test_eight_baselines_in_two_modes_can_be_told_apart() -> None:
    """72 pairs: a count of 1,000 permutations could not have gone below 72/1001."""
    labels_N = np.arange(400) % 2
    encoders: dict[tuple[Mode, str], Resampled] = {}
    for mode in ("fine_tuned", "frozen"):
        for n in range(9):
            wrong_N = np.random.default_rng(n).random((5, 400)) < 0.1 * n
            runs = []
            for wrong in wrong_N:
                probabilities = np.eye(2)[np.where(wrong, 1 - labels_N, labels_N)]
                values = {"labels": labels_N.astype(float), "probabilities": probabilities}
                runs.append(Scored(np.arange(400), values, text_labels.measure))
            encoders[mode, f"e{n}"] = resample(runs, num_resamples=100)
    task = SentenceRolesTask(name="t", type="sentence_roles", train="t")
    tests = paired_tests(task, encoders, own=None, baselines={})
    assert [(test.first, test.second) for test in tests[:8]] == [("e0", f"e{n}") for n in range(1, 9)]
    assert {test.verdict for test in tests} == {"ahead"} and len(tests) == 16
    own = paired_tests(task, encoders, own="e4", baselines={"majority": encoders["frozen", "e8"]})
    verdicts = {(test.mode, test.second): test.verdict for test in own if test.first == "e4"}
    assert verdicts["frozen", "e0"] == "behind" and verdicts["frozen", "e8"] == "ahead"
    assert verdicts["frozen", "majority"] == "ahead"


def test_few_seeds_get_a_p_and_no_verdict() -> None:
    two = {("frozen", name): resample([classified(n), classified(n)], num_resamples=50) for n, name in enumerate("ab")}
    task = SentenceRolesTask(name="t", type="sentence_roles", train="t")
    (test,) = paired_tests(task, two, own="a", baselines={})  # type: ignore[arg-type]  # keys are literals
    assert test.verdict == "too few seeds" and 0 < test.p <= 1


def test_a_part_of_one_class_has_no_auroc_and_no_test_of_it() -> None:
    rng = np.random.default_rng(0)
    found = {}
    for name in ("a", "b"):
        values = {"labels": np.zeros(80), "probabilities": rng.dirichlet(np.ones(2), size=80)}
        runs = [Scored(np.arange(80) // 4, values, text_labels.measure)] * 5
        found["fine_tuned", name] = resample(runs, num_resamples=50)
        assert "auroc" not in runs[0].defined() and "auroc" not in found["fine_tuned", name].defined()
    task = DispositionTask(name="t", type="disposition", format="mimic_ed", path="t")
    (test,) = paired_tests(task, found, own="a", baselines={})  # type: ignore[arg-type]  # keys are literals
    assert test.metric == "f1_macro" and np.isfinite(test.p)


def test_vectors_that_are_not_finite_are_not_ranked() -> None:
    documents = np.ones((4, 2), dtype=np.float32)
    documents[2, 0] = np.nan
    with pytest.raises(ModelError, match="1 of 4 document vectors are not finite"):
        list(cosines(np.ones((1, 2), dtype=np.float32), documents))


def test_a_query_does_not_find_itself_and_ties_are_reported() -> None:
    vectors = np.array([[1, 0], [0.9, 0.1], [0.9, 0.1]], dtype=np.float32)
    ranked = {
        dropped: rank(
            cosines(vectors[:1], vectors), query_ids=["a"], document_ids=["a", "b", "c"], drop_identical_ids=dropped
        )
        for dropped in (True, False)
    }
    assert set(ranked[True]["a"]) == {"b", "c"} and max(ranked[False]["a"], key=ranked[False]["a"].__getitem__) == "a"
    assert tied(ranked[True]) == {"queries_with_tied_scores": "1 of 1"}
    assert tied({"q": {"a": 0.3, "b": 0.2}}) == {}


def test_the_first_relevant_rank_is_trec_evals_ties_too() -> None:
    rng = np.random.default_rng(0)
    # Few values: many ties.
    queries, documents = (rng.integers(-1, 2, size=(n, 3)).astype(np.float32) for n in (30, 60))
    ids, names = [f"q{n}" for n in range(30)], [f"d{n}" for n in range(60)]
    qrels = {q: {names[d]: 1 for d in rng.choice(60, size=2, replace=False)} for q in ids}
    found = rank(cosines(queries, documents), query_ids=ids, document_ids=names, drop_identical_ids=False)
    expected = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(found)
    assert first_ranks(qrels, found, ids).tolist() == [round(1 / expected[q]["recip_rank"]) for q in ids]
    assert first_ranks({"q0": {"elsewhere": 1}}, found, ["q0"]).tolist() == [0]


def test_group_numbers_count_from_zero() -> None:
    assert group_numbers(["b", "a", "b"]).tolist() == [1, 0, 1]
