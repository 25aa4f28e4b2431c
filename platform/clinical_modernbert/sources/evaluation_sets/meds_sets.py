"""MEDS data sets as evaluation sets: subjects one at a time, and the data set's own split.

A data set is a folder with shards below ``data/`` next to ``metadata/``, or one file of it. It must be whole: what a corpus
leaves out is refused here with file and row.
"""

from collections.abc import Iterator
from pathlib import Path

from clinical_modernbert.errors import SourceError
from clinical_modernbert.sources.notes.meds import BrokenEventsError, Event, subject_events

MEDS_SPLITS = ("train", "tuning", "held_out")


def group_of_subject(subject: int) -> str:
    """Return the group of a subject's examples."""
    return f"subject_id:{subject}"


def read_subjects(path: Path) -> Iterator[tuple[int, list[Event]]]:
    """Yield each subject with its events in the file's order. A subject in two shards is refused: its events would be torn."""
    shards: dict[int, str] = {}
    for file in meds_files(path):
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name
        try:
            for subject, events in subject_events(file, whole=True):
                if subject in shards:
                    raise SourceError(
                        f"{name}: a subject is in {shards[subject]} too; a MEDS shard holds whole subjects"
                    )
                shards[subject] = name
                yield subject, events
        except BrokenEventsError as error:
            raise SourceError(f"{name}, {error.position}: {error.reason}") from None


def meds_files(path: Path) -> list[Path]:
    """Return the shards of a MEDS data set, below ``data/`` next to its ``metadata/``, or the file itself."""
    if not path.is_dir():
        return [path]
    below = path / "data" if (path / "data").is_dir() else path
    files = sorted(file for file in below.rglob("*.parquet") if file.parent.name != "metadata")
    if not files:
        raise SourceError(f"{path.name}: no .parquet below it; expected a MEDS data set with data/**/*.parquet")
    return files


def read_meds_splits(path: Path) -> dict[str, str]:
    """Return group -> ``train``, ``tuning`` or ``held_out`` as the data set's ``metadata/subject_splits.parquet`` says.

    Empty where it has no such file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = path / "metadata" / "subject_splits.parquet"
    if not file.is_file():
        return {}
    try:
        rows = pq.read_table(file, columns=["subject_id", "split"]).to_pydict()
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(
            f"{file.name}: no readable Parquet with subject_id and split ({type(error).__name__})"
        ) from None
    found: dict[str, str] = {}
    for row, (subject, split) in enumerate(zip(rows["subject_id"], rows["split"], strict=True), start=1):
        if subject is None or split not in MEDS_SPLITS or group_of_subject(subject) in found:
            raise SourceError(
                f"{file.name}, row {row}: expected a subject that no other row has, and one of {', '.join(MEDS_SPLITS)}"
            )
        found[group_of_subject(subject)] = split
    return found
