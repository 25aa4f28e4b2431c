"""Which files a source names, and their bytes up to the first damage."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from clinical_modernbert.errors import SourceError
from clinical_modernbert.sources.files import NULLS_REASON, Progress, find_files, numbered_texts, read_chunks
from clinical_modernbert.sources.inflate import DamagedFileError

CONTENT = b"".join(b"line %d of a file that compresses somewhat\n" % number for number in range(60_000))


def _read(path: Path) -> tuple[bytes, DamagedFileError | None]:
    output = []
    chunks: Iterator[bytes] = read_chunks(path)
    try:
        for chunk in chunks:
            assert len(chunk) <= 1 << 18
            output.append(chunk)
    except DamagedFileError as error:
        return b"".join(output), error
    return b"".join(output), None


@pytest.mark.parametrize(
    "packed",
    [
        CONTENT,
        gzip.compress(CONTENT),
        gzip.compress(CONTENT[:100_000]) + gzip.compress(CONTENT[100_000:]),
        gzip.compress(CONTENT) + b"\0" * 200_000,
        gzip.compress(CONTENT[:9]) + b"\0" * 100_000 + gzip.compress(CONTENT[9:]),
    ],
    ids=["plain", "gzip", "two members", "padded", "padded between"],
)
def test_whole_content(tmp_path: Path, packed: bytes) -> None:
    path = tmp_path / "any_name"
    path.write_bytes(packed)
    assert _read(path) == (CONTENT, None)


@pytest.mark.parametrize("share", [0.0003, 0.3, 0.999])
def test_truncated_gzip_gives_what_came_before(tmp_path: Path, share: float) -> None:
    packed = gzip.compress(CONTENT)
    path = tmp_path / "cut.gz"
    path.write_bytes(packed[: int(len(packed) * share)])
    output, damage = _read(path)
    assert CONTENT.startswith(output)
    assert len(output) >= (share - 0.1) * len(CONTENT)
    assert damage is not None and "truncated" in damage.reason
    assert damage.position == f"byte {int(len(packed) * share)}"


def test_flipped_bytes_give_what_came_before_and_their_place(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(CONTENT))
    middle = len(packed) // 2
    packed[middle : middle + 40] = b"\xff" * 40
    path = tmp_path / "flipped.gz"
    path.write_bytes(packed)
    output, damage = _read(path)
    assert damage is not None and "broken" in damage.reason
    # The reference inflates byte by byte: not one readable byte may be lost.
    member, expected = zlib.decompressobj(wbits=31), []
    with pytest.raises(zlib.error):
        for byte in packed:
            expected.append(member.decompress(bytes([byte])))
    assert output == b"".join(expected) and len(output) > 0.4 * len(CONTENT)
    assert int(damage.position.removeprefix("byte ")) >= middle


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert _read(tmp_path / "empty") == (b"", None)


def test_files_are_found_below_and_named_relative(tmp_path: Path) -> None:
    for name in ("b.xml", "a/c.xml.gz", "a/d.txt", ".hidden.xml", "a/._e.xml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    found = find_files(str(tmp_path), field="f", patterns=("*.xml", "*.xml.gz"))
    assert found == [("a/c.xml.gz", str(tmp_path / "a/c.xml.gz")), ("b.xml", str(tmp_path / "b.xml"))]
    path = str(tmp_path / "a/d.txt")
    assert find_files(path, field="f", patterns=("*.xml",)) == [("d.txt", path)]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"sources\[x\]\.path: '.*nowhere' does not exist; expected .*\*\.xml"):
        find_files(str(tmp_path / "nowhere"), field="sources[x].path", patterns=("*.xml",))
    with pytest.raises(SourceError, match=r"no file below .* matches \*\.xml"):
        find_files(str(tmp_path), field="f", patterns=("*.xml",))


def test_a_file_both_plain_and_packed_is_refused(tmp_path: Path) -> None:
    for name in ("a.xml", "a.xml.gz"):
        (tmp_path / name).write_text("")
    with pytest.raises(SourceError, match=r"'a\.xml' .* both plain and as \.gz"):
        find_files(str(tmp_path), field="f", patterns=("*.xml", "*.xml.gz"))


@pytest.mark.parametrize("ending", ["zst", "bz2", "xz", "zip", "Z"])
def test_an_archive_that_is_not_read_stops_the_build(tmp_path: Path, ending: str) -> None:
    for name in ("a.csv", f"b.csv.{ending}", f"c.txt.{ending}", f".d.csv.{ending}"):
        (tmp_path / name).write_bytes(b"id,text\n")
    with pytest.raises(SourceError, match=rf"^paths: 'b\.csv\.{ending}' below .* unpack it"):
        find_files(str(tmp_path), field="paths", patterns=("*.csv", "*.csv.gz"))
    found = find_files(str(tmp_path), field="paths", patterns=("*.csv",), chosen=lambda name: name.startswith("a"))
    assert [name for name, _ in found] == ["a.csv"]


def test_parquet_is_not_read_as_gzip(tmp_path: Path) -> None:
    (tmp_path / "0.parquet.gz").touch()
    with pytest.raises(SourceError, match=r"'0\.parquet\.gz' below"):
        find_files(str(tmp_path), field="paths", patterns=("*.parquet",), required=False)


@pytest.mark.parametrize("place", ["content", "check sum"])
def test_all_of_a_member_counts_as_lost_if_its_check_sum_is_wrong(tmp_path: Path, place: str) -> None:
    """A flipped bit may change what comes before the byte at which inflating fails."""
    good, other = gzip.compress(CONTENT[:300_000]), bytearray(gzip.compress(CONTENT[300_000:]))
    other[len(other) // 2 if place == "content" else -7] ^= 0x55
    (tmp_path / "a.gz").write_bytes(good + other)
    progress = Progress()
    with pytest.raises(DamagedFileError):
        list(read_chunks(tmp_path / "a.gz", progress))
    assert progress.unread_bytes == pytest.approx(len(other), rel=0.05)


def test_null_bytes_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(CONTENT[:30_000] + bytes(10_000) + CONTENT[40_000:50_000])
    progress = Progress()
    list(read_chunks(tmp_path / "a.csv", progress))
    assert progress.unread_bytes == 10_000


def test_lines_of_an_old_mac_and_a_block_of_null_bytes() -> None:
    content = b"one\rtwo\r\nthree\nfo" + bytes(512) + b"x\nfive\0\n"
    found = [(number, getattr(line, "reason", line)) for number, line in numbered_texts([content], file="f")]
    assert found == [(1, "one"), (2, "two"), (3, "three"), (4, NULLS_REASON), (5, "five\0")]
