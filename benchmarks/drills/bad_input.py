"""Raw files that are damaged, and records that cannot be read, in nine formats: each is refused or quarantined by rule.

Files are parsed one by one as a build parses them. Nine of ten hold records that cannot be read among good ones: the good ones
must all be documents, the others all quarantined. The tenth is damaged: it must be refused by name, or be read where no rule is
against it (ten times as long; Windows-1252 in code tables). Then one build reads all files but the damaged ones, at a limit that
admits it and at the default one.

``lost`` counts good records that are no documents, ``wrong`` outcomes by no rule, messages or lists with text of the input, and
files that take over ten seconds or let the process grow by over 500 MB.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml
from clinical_modernbert.artifacts import resolve
from clinical_modernbert.artifacts.open import open_store
from clinical_modernbert.artifacts.work_area import WorkArea
from clinical_modernbert.corpus.documents import parse_unit, quarantine_name
from clinical_modernbert.corpus.refusals import refuse_bad_input
from clinical_modernbert.corpus.results import Parsed
from clinical_modernbert.errors import CorpusError, SourceError
from clinical_modernbert.recipe import CorpusRecipe, build_recipe
from clinical_modernbert.sources import list_units

from benchmarks.drill import Outcome
from benchmarks.kits.bad_files import CANARY, DAMAGES, FORMATS, Damage
from benchmarks.kits.training_runs import start_script

_RECORDS = 50
_SLOWEST_S, _MOST_MEMORY_MB = 10.0, 500
_FILTERS = {"filters": {"min_characters": 10, "languages": None}, "dedup": {"near": False}}
_READ: dict[Damage, tuple[str, ...]] = {"tenfold": tuple(FORMATS), "not_utf8": ("codes",), "truncated": ("codes",)}
"""Damage that no rule is against, and the formats in which it is read: a list of codes may end within a description."""


@dataclass(slots=True)
class _Counts:
    outcomes: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    poison: int = 0
    quarantined: int = 0
    wrong: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    memory_mb: int = 0


@dataclass(frozen=True, slots=True)
class _File:
    number: int
    kind: str
    damage: Damage | None
    poison: int

    @property
    def records(self) -> range:
        return range(self.number * _RECORDS, (self.number + 1) * _RECORDS)

    def write(self, folder: Path) -> Path:
        form = FORMATS[self.kind]
        path = folder / self.kind / form.name.format(self.number)
        if self.damage == "bomb" and path.suffix in (".csv", ".txt", ".ndjson"):
            path = path.with_name(f"{path.name}.gz")
        path.parent.mkdir(parents=True, exist_ok=True)
        records = [*self.records]
        poison = [10**6 + n for n in range(self.number * 10, self.number * 10 + self.poison)]
        path.write_bytes(form.damaged(self.damage, records) if self.damage else form.write(records, poison))
        return path


def run(scratch: Path, seed: int, *, num_files: int = 400, num_bad: int = 40, num_poison: int = 1000) -> Outcome:
    """Parse the files one by one, then build a corpus of those that are not damaged."""
    counts = inject(scratch, num_files=num_files, num_bad=num_bad, num_poison=num_poison)
    _build(scratch, counts)
    return outcome(counts, num_bad)


def inject(scratch: Path, *, num_files: int, num_bad: int, num_poison: int) -> _Counts:
    """Write the files below ``scratch`` and parse each."""
    counts = _Counts()
    for file in _files(num_files, num_bad, num_poison):
        path = file.write(scratch)
        began = time.monotonic()
        with _measured_memory(counts):
            _parse(file, path, scratch, counts)
        seconds = time.monotonic() - began
        counts.slowest_s = max(counts.slowest_s, seconds)
        if seconds > _SLOWEST_S:
            counts.wrong.append(f"{file.kind} {file.damage or 'poison'}: {seconds:.1f} s")
        if file.damage:
            path.unlink()
    return counts


def outcome(counts: _Counts, num_bad: int) -> Outcome:
    """Return what became of the damaged files and of the records that cannot be read."""
    handled = sum(counts.outcomes.values())
    return Outcome(
        injected=num_bad + counts.poison,
        recovered=handled + counts.quarantined,
        lost=counts.lost,
        wrong=len(counts.wrong) + (counts.memory_mb > _MOST_MEMORY_MB),
        facts={
            "damaged_files": dict(counts.outcomes),
            "poison_records": counts.poison,
            "wrong": counts.wrong[:20],
            "slowest_file_s": round(counts.slowest_s, 2),
            "most_memory_of_a_file_mb": counts.memory_mb,
        },
    )


def _files(num_files: int, num_bad: int, num_poison: int) -> Iterator[_File]:
    """Damage and formats take turns, so that each pair comes once before any comes twice."""
    kinds, good = tuple(FORMATS), num_files - num_bad
    for number in range(num_bad):
        yield _File(
            number, kinds[number % len(kinds)], DAMAGES[(number % len(kinds) + number // len(kinds)) % len(DAMAGES)], 0
        )
    for number in range(good):
        poison = num_poison * (number + 1) // good - num_poison * number // good
        yield _File(num_bad + number, kinds[number % len(kinds)], None, poison)


@contextmanager
def _measured_memory(counts: _Counts) -> Iterator[None]:
    """Note by how much the process grows at most while the block runs (Linux resets its record on request)."""
    Path("/proc/self/clear_refs").write_text("5")
    before = psutil.Process().memory_info().rss
    yield
    (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    counts.memory_mb = max(counts.memory_mb, (int(peak.split()[1]) * 1024 - before) >> 20)


def _parse(file: _File, path: Path, scratch: Path, counts: _Counts) -> None:
    area = WorkArea(f"file://{scratch / 'areas'}", f"work/corpus/{file.number}")
    name = f"{file.kind} {file.damage or 'poison'}"
    source = {"name": "s", "path": str(path), **FORMATS[file.kind].source}
    recipe = build_recipe(
        CorpusRecipe, {"kind": "corpus", "name": "c", "sources": [source], **_FILTERS}, origin="drill"
    )
    try:
        (unit,) = list_units(recipe.sources[0])
        parsed = parse_unit(area, recipe, unit, number=0)
        if file.damage:
            refuse_bad_input(recipe, [parsed])
    except (SourceError, CorpusError) as error:
        counts.outcomes[f"{file.damage}: refused"] += 1
        by_rule = file.damage is not None and file.kind not in _READ.get(file.damage, ())
        if CANARY in str(error) or path.name not in str(error) or not by_rule:
            counts.wrong.append(f"{name}: {str(error)[:200]}")
        return
    except Exception as error:  # noqa: BLE001 - a drill counts what no rule foresees
        counts.wrong.append(f"{name}: {type(error).__name__}")
        return
    _check_counts(file, parsed, name, counts)
    if parsed.count("quarantined") and CANARY in _quarantine(area):
        counts.wrong.append(f"{name}: text in the list of quarantined records")


def _check_counts(file: _File, parsed: Parsed, name: str, counts: _Counts) -> None:
    read, quarantined = parsed.count("read"), parsed.count("quarantined")
    if parsed.count("records") != read + quarantined + sum(parsed.dropped.values()):
        counts.wrong.append(f"{name}: {parsed.counts} do not balance")
    if file.damage is None:
        counts.poison += file.poison
        counts.quarantined += min(quarantined, file.poison)
        counts.lost += max(_RECORDS - read, 0)
        if read > _RECORDS:
            counts.wrong.append(f"{name}: {read} of {_RECORDS} records read")
        if quarantined != file.poison:
            counts.wrong.append(f"{name}: {quarantined} of {file.poison} quarantined")
    elif file.kind in _READ.get(file.damage, ()):
        counts.outcomes[f"{file.damage}: read"] += 1
        counts.lost += max({"tenfold": 10 * _RECORDS, "not_utf8": _RECORDS}.get(file.damage, 0) - read, 0)
    else:
        counts.wrong.append(f"{name}: read")


def _quarantine(area: WorkArea) -> str:
    return area.store().read_bytes(f"{area.prefix}/{quarantine_name(0)}").decode()


def _build(scratch: Path, counts: _Counts) -> None:
    """Build one corpus of all files as a user does; each table and each list of codes is a source of its own."""
    sources: list[dict[str, Any]] = []
    for kind, form in FORMATS.items():
        folder = scratch / kind
        if form.source["type"] in ("table", "codes"):
            sources += [
                {"name": path.name.partition(".")[0] + kind, "path": str(path), **form.source}
                for path in sorted(folder.iterdir())
            ]
        else:
            sources.append({"name": kind, "path": str(folder), **form.source})
    values = {"kind": "corpus", "name": "drill", "sources": sources, **_FILTERS, "max_quarantined_fraction": 0.5}
    values["tokenizer"] = {"base": "train", "vocabulary_size": 1024, "num_clinical_tokens": 0, "training_megabytes": 1}
    recipe = scratch / "corpus.yaml"
    recipe.write_text(yaml.safe_dump(values))
    store = open_store(str(scratch / "store"))
    for overrides, wanted in ((("max_quarantined_fraction=0.01",), 2), ((), 0)):
        job = start_script("build_corpus", recipe, store, *overrides)
        output = "".join(job.communicate(timeout=500))
        if job.returncode != wanted or (wanted and "had to be quarantined" not in output):
            counts.wrong.append(f"the build ended with {job.returncode}, not {wanted}: {output[-300:]}")
            return
        if CANARY in output:
            counts.wrong.append("the build printed text of the input")
    corpus = resolve(store, "corpus", "drill")
    quarantined = sum(account["quarantined"] for account in corpus.summary["sources"].values())
    if quarantined != counts.poison:
        counts.wrong.append(f"the build quarantined {quarantined} of {counts.poison} records")
    for name in ("quarantine.jsonl", "card.json", "card.md", "manifest.json"):
        if CANARY.encode() in store.read_bytes(f"{corpus.prefix}/{name}"):
            counts.wrong.append(f"text of the input in {name}")
