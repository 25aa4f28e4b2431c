"""Which encoder is ahead: tests over seeds and groups within each mode, and against the best trivial baseline.

The own model is compared with every other encoder. Without one, the best encoder of the mode is. Because the figures chose it,
the correction then counts all pairs of the mode, of which only these are shown. The p of a t test has no floor, unlike a count of
permutations, so any number of comparisons can reach significance.
"""

from collections.abc import Mapping

from clinical_modernbert.evaluation.report.schema import PairedTest, Verdict
from clinical_modernbert.evaluation.scores import Difference, Resampled, paired_test
from clinical_modernbert.evaluation.tasks import KINDS, main_metric
from clinical_modernbert.recipe.tasks import Mode, Task
from clinical_modernbert.statistics import holm

MIN_SEEDS = 5
"""Seeds of a trained encoder below which no verdict is given: their spread is then hardly known."""
LEVEL = 0.05


def paired_tests(
    task: Task,
    encoders: Mapping[tuple[Mode, str], Resampled],
    *,
    own: str | None,
    baselines: Mapping[str, Resampled],
) -> list[PairedTest]:
    """Return the tests of every mode on the task's main metric: between encoders, then of each with the best baseline."""
    tests: list[PairedTest] = []
    trains = KINDS[task.type].trains
    for mode in dict.fromkeys(mode for mode, _ in encoders):
        of_mode = {name: found for (its_mode, name), found in encoders.items() if its_mode == mode}
        metric = main_metric(task.type, next(iter(of_mode.values())).defined())
        first = own if own in of_mode else max(of_mode, key=lambda name: of_mode[name].metrics[metric].mean)
        pairs = [(first, name) for name in of_mode if name != first]
        num_pairs = len(pairs) if own in of_mode else len(of_mode) * (len(of_mode) - 1) // 2
        trivial = {name: found for name, found in baselines.items() if metric in found.defined()}
        best = max(trivial, key=lambda name: trivial[name].metrics[metric].mean, default=None)
        families = [(pairs, num_pairs), ([(name, best) for name in of_mode] if best else [], len(of_mode))]
        for family, num_tests in families:
            found = {(a, b): paired_test(of_mode[a], (of_mode | trivial)[b], metric) for a, b in family}
            corrected = holm([test.p for test in found.values()], num_tests=num_tests)
            for (pair, test), p_holm in zip(found.items(), corrected, strict=True):
                few = trains(task, mode) and any(
                    name in of_mode and len(of_mode[name].metrics[metric].figures_S) < MIN_SEEDS for name in pair
                )
                verdict = "too few seeds" if few else _verdict(test, p_holm)
                tests.append(_paired_test(mode, metric, pair, test, p_holm, verdict))
    return tests


def _verdict(test: Difference, p_holm: float) -> Verdict:
    if p_holm >= LEVEL:
        return "undecided"
    return "ahead" if test.value > 0 else "behind"


def _paired_test(
    mode: Mode, metric: str, pair: tuple[str, str], test: Difference, p_holm: float, verdict: Verdict
) -> PairedTest:
    return PairedTest(
        mode=mode,
        first=pair[0],
        second=pair[1],
        metric=metric,
        difference=test.value,
        low=test.low,
        high=test.high,
        p=test.p,
        p_holm=p_holm,
        detectable=test.detectable,
        verdict=verdict,
    )
