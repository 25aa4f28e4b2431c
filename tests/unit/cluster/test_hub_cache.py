"""A Hugging Face cache goes through the store, and the real library finds it offline."""

from pathlib import Path

import pytest
from clinical_modernbert.artifacts import open_store
from clinical_modernbert.cluster.hub_cache import pull, push
from clinical_modernbert.errors import ArtifactError
from huggingface_hub import hf_hub_download

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache of one model as the library lays it out: a blob, and a link to it in the snapshot."""
    model = tmp_path / "hub" / "models--org--tiny"
    for name in ("refs", "blobs", f"snapshots/{COMMIT}"):
        (model / name).mkdir(parents=True)
    (model / "refs" / "main").write_text(COMMIT)
    (model / "blobs" / "abc").write_text('{"hidden_size": 64}')
    (model / "snapshots" / COMMIT / "config.json").symlink_to(Path("../../blobs/abc"))
    return tmp_path / "hub"


def test_the_library_finds_what_was_pulled(cache: Path, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    pushed = push(store, cache)
    num_files = pull(store, tmp_path / "pod" / "hub")
    found = hf_hub_download("org/tiny", "config.json", cache_dir=tmp_path / "pod" / "hub", local_files_only=True)

    assert Path(found).read_text() == '{"hidden_size": 64}'
    assert pushed.summary["repositories"] == ["models--org--tiny"]
    assert num_files == 2  # the reference and the file, its blob not again
    assert [path.name for path in (tmp_path / "pod").iterdir()] == ["hub"]


def test_pulling_again_writes_nothing(cache: Path, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    push(store, cache)
    pull(store, tmp_path / "pod")
    (file,) = (tmp_path / "pod").rglob("config.json")
    before = file.stat().st_mtime_ns
    pull(store, tmp_path / "pod")

    assert file.stat().st_mtime_ns == before


def test_a_file_that_was_replaced_in_the_store_is_refused(cache: Path, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    push(store, cache)
    store.write_bytes(f"hub/models--org--tiny/snapshots/{COMMIT}/config.json", b'{"hidden_size": 65}')

    with pytest.raises(ArtifactError, match="differs from its manifest"):
        pull(store, tmp_path / "pod")


def test_a_folder_that_is_not_a_cache_is_refused(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    (tmp_path / "empty").mkdir()

    with pytest.raises(ArtifactError, match="name the folder hub"):
        push(store, tmp_path / "empty")
    with pytest.raises(ArtifactError, match="no hub cache in"):
        pull(store, tmp_path / "pod")
