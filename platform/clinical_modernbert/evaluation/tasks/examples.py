"""Examples with their group, and splits in which no group is on two sides.

A group is what must never be split: a patient, an abstract, a document. Which groups are carved off or kept is a function of
(seed, group) alone.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, Self, TypeVar

import numpy as np

from clinical_modernbert.errors import SourceError
from clinical_modernbert.evaluation.results import Facts
from clinical_modernbert.recipe.tasks import SplitSection
from clinical_modernbert.sources.evaluation_sets.meds_sets import MEDS_SPLITS


class TaskData(Protocol):
    """What a task kind loads from its files."""

    @property
    def facts(self) -> Facts:
        """What a reader of the figures must know: counts of what was left out, and why."""

    def texts(self) -> list[str]:
        """Return all texts, for the statistics of the data set."""

    def few(self, num_train: int, *, seed: int) -> Self:
        """Return a few-shot copy: ``num_train`` training examples drawn by ``seed``, and no more development examples."""


class Grouped(Protocol):
    """Something with a group."""

    @property
    def group(self) -> str: ...


class Example(Grouped, Protocol):
    """A text with its group."""

    @property
    def text(self) -> str: ...


@dataclass(frozen=True, slots=True)
class TextExample:
    """A text, or a pair of texts, with one label."""

    id: str
    group: str
    text: str
    """Of a pair both texts, for counts of words."""
    label: str
    pair: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """Two texts with the score that people gave them."""

    id: str
    group: str
    first: str
    second: str
    score: float

    @property
    def text(self) -> str:
        """Both texts, for counts of words."""
        return f"{self.first}\n{self.second}"


@dataclass(frozen=True, slots=True)
class LabelSetExample:
    """A text with any number of labels."""

    id: str
    group: str
    text: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WordExample:
    """A text whose words carry one IOB2 tag each."""

    id: str
    group: str
    text: str
    words: tuple[tuple[int, int], ...]
    """(start, end) of each word in characters; the end is exclusive."""
    tags: tuple[str, ...]


E = TypeVar("E", bound=Example)
G = TypeVar("G", bound=Grouped)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Splits(Generic[E]):
    """The three parts of a data set."""

    train: list[E]
    development: list[E]
    """Decides when to stop; never reported."""
    test: list[E]
    """Reported; never seen in training."""
    facts: Facts = field(default_factory=dict)
    """What a reader of the figures must know: counts of what was left out, and why."""

    def parts(self) -> dict[str, list[E]]:
        """Return the three parts by name."""
        return {"train": self.train, "development": self.development, "test": self.test}

    def texts(self) -> list[str]:
        """Return the texts of all parts."""
        return [example.text for part in self.parts().values() for example in part]

    def few(self, num_train: int, *, seed: int) -> Self:
        """Return a few-shot copy: ``num_train`` training examples drawn by ``seed``, and no more development examples."""
        train, development = (drawn(part, num_train, seed=seed) for part in (self.train, self.development))
        return replace(self, train=train, development=development)


def make_splits(
    train: Sequence[E],
    development: Sequence[E] | None,
    test: Sequence[E] | None,
    *,
    section: SplitSection,
    facts: Facts,
) -> Splits[E]:
    """Carve off the parts that have no file, and drop the groups of development and test from training."""
    if test is None:
        train, test = carve(train, section.test_fraction, salt=f"test {section.seed}")
    reported = {example.group for example in test}
    kept = [example for example in train if example.group not in reported]
    if development is None:
        overlap = len(train) - len(kept)
        kept, development = carve(kept, section.development_fraction, salt=f"development {section.seed}")
    else:
        development = [example for example in development if example.group not in reported]
        judging = {example.group for example in development}
        kept = [example for example in kept if example.group not in judging]
        overlap = len(train) - len(kept)
    facts = {**facts, **({"left_out_of_training_for_their_group": overlap} if overlap else {})}
    splits = Splits(train=list(kept), development=list(development), test=list(test), facts=facts)
    for name, part in (("train", splits.train), ("development", splits.development), ("test", splits.test)):
        if not part:
            raise SourceError(f"the {name} part is empty: the data set has too few groups for its split fractions")
    return splits


def subject_splits(
    examples: Sequence[E], split_of_group: Mapping[str, str], *, section: SplitSection, facts: Facts, name: str
) -> Splits[E]:
    """Split as a MEDS data set's own split says; where it has none, by group. ``name`` is what an example is called in facts."""
    if not split_of_group:
        return make_splits(examples, None, None, section=section, facts=facts)
    train, tuning, held_out = (
        [example for example in examples if split_of_group.get(example.group) == part] for part in MEDS_SPLITS
    )
    if not train or not held_out:
        raise SourceError(f"subject_splits.parquet: no {name} of a train or of a held_out subject")
    facts = {**facts, "split": "metadata/subject_splits.parquet"}
    num_left_out = len(examples) - len(train) - len(tuning) - len(held_out)
    if num_left_out:
        facts[f"{name}s_of_no_split"] = num_left_out
    return make_splits(train, tuning or None, held_out, section=section, facts=facts)


def carve(examples: Sequence[G], fraction: float, *, salt: str) -> tuple[list[G], list[G]]:
    """Return (remaining, carved): whole groups, the first ``fraction`` of them in the order of their hashes."""
    groups = sorted({example.group for example in examples}, key=lambda group: _hash(group, salt))
    carved = set(groups[: max(round(len(groups) * fraction), 1)])
    remaining = [example for example in examples if example.group not in carved]
    return remaining, [example for example in examples if example.group in carved]


def limited(splits: Splits[E], *, max_train: int | None, max_test: int | None) -> Splits[E]:
    """Keep whole groups, in the order of their hashes, until a part has ``max_train`` or ``max_test`` examples."""
    facts = dict(splits.facts)
    for name, count, part in (("train", max_train, splits.train), ("test", max_test, splits.test)):
        if count is not None and count < len(part):
            facts[f"{name}_part"] = f"{count} of {len(part)} examples, whole groups"
    # Development shrinks with training: early stopping on a set larger than the training set would save nothing.
    development = _first_groups(splits.development, max_train and max(max_train // 4, 8))
    return replace(
        splits,
        train=_first_groups(splits.train, max_train),
        development=development,
        test=_first_groups(splits.test, max_test),
        facts=facts,
    )


def drawn(part: Sequence[T], count: int, *, seed: int) -> list[T]:
    """Return ``count`` members drawn by ``seed``, in the part's order."""
    members = np.random.default_rng(seed).permutation(len(part))[:count]
    return [part[i] for i in sorted(members.tolist())]


def _first_groups(examples: list[E], count: int | None) -> list[E]:
    if count is None or count >= len(examples):
        return examples
    sizes: dict[str, int] = {}
    for example in examples:
        sizes[example.group] = sizes.get(example.group, 0) + 1
    kept: set[str] = set()
    total = 0
    for group in sorted(sizes, key=lambda group: _hash(group, "limit")):
        if total >= count:
            break
        kept.add(group)
        total += sizes[group]
    return [example for example in examples if example.group in kept]


def _hash(group: str, salt: str) -> bytes:
    return hashlib.blake2b(f"{salt}\0{group}".encode(), digest_size=8).digest()
