"""The store's client on a network that breaks: a request is sent again, nothing torn is visible, an outage is an error."""

import gzip
import random
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clinical_modernbert import outages
from clinical_modernbert.artifacts import Store, open_store, s3_store
from clinical_modernbert.errors import StoreError, StoreOutage, StoreUnreached
from clinical_modernbert.evaluation.launch import do_runs
from clinical_modernbert.recipe import SweepRecipe, build_recipe
from clinical_modernbert.recipe.sources import TableSource
from clinical_modernbert.sources import list_units, read_unit
from clinical_modernbert.sources.document import Document
from clinical_modernbert.sources.files import read_chunks
from clinical_modernbert.sweeps.run import do_trial
from clinical_modernbert.sweeps.trials import sweep_base

from benchmarks.kits.fault_proxy import Fault, FaultProxy, running_fault_proxy
from tests.helpers.s3_server import S3Server
from tests.helpers.tiny import TINY_PRETRAIN, save_tiny_model

pytestmark = pytest.mark.s3
# More than a part of a multipart upload, so that a fault hits parts, their beginning and their end.
BODY = bytes(range(256)) * 40_000
CONTENT = BODY[:12_345]


@pytest.fixture
def proxy(s3_environment: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy before the server; ``S3_ENDPOINT_URL`` names it, and the client's waits are short."""
    host, _, port = s3_environment.endpoint.removeprefix("http://").partition(":")
    monkeypatch.setattr(outages, "FIRST_WAIT_S", 0.05)
    monkeypatch.setattr(s3_store, "READ_S", 1.0)
    monkeypatch.setattr(s3_store, "PATIENCE_S", 20.0)
    with running_fault_proxy(host, int(port)) as proxy:
        monkeypatch.setenv("S3_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        yield proxy


@pytest.fixture
def store(proxy: FaultProxy, s3_environment: S3Server) -> Store:
    return open_store(f"s3://{s3_environment.bucket}/{uuid.uuid4().hex}")


FAULTS = [
    Fault("cut_request"),
    Fault("cut_request", after_bytes=5_000),
    Fault("cut_response"),
    Fault("cut_response", after_bytes=300),
    Fault("cut_response", after_bytes=9_000),
    Fault("cut_response", after_bytes=20, is_closed=True),
    Fault("cut_response", after_bytes=60, is_closed=True),
    Fault("cut_response", after_bytes=150, is_closed=True),
    Fault("stall", after_bytes=300, seconds=2),
    Fault("unavailable"),
    Fault("slow", seconds=0.05),
]


@pytest.mark.parametrize(
    "fault", FAULTS, ids=lambda fault: f"{fault.kind}-{fault.after_bytes}{'-closed' * fault.is_closed}"
)
def test_a_fault_that_passes_costs_a_retry_and_nothing_else(
    store: Store, proxy: FaultProxy, tmp_path: Path, fault: Fault
) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(BODY)

    proxy.arm(fault)
    store.write_bytes("a/small", CONTENT)
    proxy.arm(fault)
    store.put_file(source, "a/large")
    proxy.arm(fault)
    assert store.read_bytes("a/small") == CONTENT
    proxy.arm(fault)
    assert store.get_file("a/large", tmp_path / "target.bin").read_bytes() == BODY
    proxy.arm(fault)
    assert [item.key for item in store.walk("a")] == ["a/large", "a/small"]
    version = store.info("a/large").version
    proxy.arm(fault)
    assert store.read_range("a/large", 5_000, 50_000, version=version) == BODY[5_000:55_000]
    proxy.arm(fault)
    store.clear("a")

    assert proxy.struck == [fault] * 7
    assert [*store.walk("")] == []


def test_a_stalled_answer_does_not_end_the_opening_of_a_store(
    s3_environment: S3Server, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each task opens the store; an address that takes a connection is not wrong."""
    monkeypatch.setattr(s3_store, "OPENING_PATIENCE_S", 0.1)
    uri, stalled = f"s3://{s3_environment.bucket}/{uuid.uuid4().hex}", Fault("stall", after_bytes=100, seconds=2)
    proxy.arm(stalled)
    open_store(uri).write_bytes("key", CONTENT)
    assert proxy.struck == [stalled]

    proxy.close()
    began = time.monotonic()
    with pytest.raises(StoreUnreached, match="opening the bucket failed with"):
        open_store("s3://another-bucket/prefix")  # a process asks once for each
    assert time.monotonic() - began < 10


def test_a_service_that_stays_away_is_an_outage_and_leaves_no_file(
    store: Store, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(s3_store, "PATIENCE_S", 2.0)
    store.write_bytes("key", CONTENT)
    proxy.close()
    with pytest.raises(StoreOutage, match="reading key failed with"):
        store.get_file("key", tmp_path / "target.bin")
    assert [*tmp_path.iterdir()] == []


def test_an_outage_is_no_result_of_a_run_or_a_trial(
    store: Store, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another error of one is: it is kept in the report, beside the others' figures."""
    monkeypatch.setattr(s3_store, "PATIENCE_S", 0.5)
    (tmp_path / "tiny.yaml").write_text(str(TINY_PRETRAIN))
    values = {"kind": "sweep", "name": "rates", "base": str(tmp_path / "tiny.yaml"), "corpus": "tiny"}
    space = {"space": {"optimizer.learning_rate": {"type": "grid", "values": [1e-5]}}}
    base = sweep_base(build_recipe(SweepRecipe, values | space, origin="test"), data_id="tiny")
    task = {"name": "roles", "type": "sentence_roles", "train": "roles.txt"}
    (tmp_path / "roles.txt").write_text("###1\nRESULTS\tFewer falls.\n")
    save_tiny_model(tmp_path / "one")
    run = {"kind": "probe", "name": "one", "encoder": {"name": "one", "source": str(tmp_path / "one")}, "task": task}
    proxy.close()
    with pytest.raises(StoreOutage):
        do_runs({"store_uri": store.uri, "recipes": {"one": {**run, "data": str(tmp_path)}}})
    with pytest.raises(StoreOutage):
        do_trial({"optimizer.learning_rate": 1e-5}, base=base, store_uri=store.uri, sweep_id="rates", halving=None)


def test_a_service_that_comes_back_is_used_again(store: Store, proxy: FaultProxy) -> None:
    store.write_bytes("key", CONTENT)
    target, proxy.target = proxy.target, ("127.0.0.1", 9)
    proxy.drop_connections()
    threading.Timer(3, setattr, (proxy, "target", target)).start()
    assert store.read_bytes("key") == CONTENT


def test_a_refusal_is_not_tried_again(
    store: Store, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StoreError) as caught:
        open_store(store.uri)
    assert not isinstance(caught.value, StoreOutage)
    assert not caplog.records


def test_a_raw_file_is_read_on_after_a_cut_and_is_never_whole_on_this_machine(
    store: Store, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = random.Random(0).randbytes(12 << 20)
    store.write_bytes("raw.gz", gzip.compress(content, 1))
    for whole in ("get_file", "read_bytes"):
        monkeypatch.setattr(s3_store.S3Store, whole, None)
    chunks = read_chunks(f"{store.uri}/raw.gz")
    parts = [next(chunks)]
    fault = Fault("cut_response", after_bytes=1 << 20)
    proxy.arm(fault)
    assert b"".join([*parts, *chunks]) == content
    assert proxy.struck == [fault]


def test_an_outage_while_a_table_is_read_is_no_damage_of_the_table(
    store: Store, proxy: FaultProxy, s3_environment: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    draw = random.Random(0)
    texts = [draw.randbytes(1000).hex() for _ in range(1500)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "notes.parquet", row_group_size=300)
    (tmp_path / "notes.csv").write_text("text\n" + "\n".join(texts * 4))  # more than the first range
    with monkeypatch.context() as patched:  # the upload is not tested here: straight to the server, without short waits
        patched.setenv("S3_ENDPOINT_URL", s3_environment.endpoint)
        patched.setattr(s3_store, "READ_S", 30.0)
        for path in tmp_path.iterdir():
            open_store(store.uri).put_file(path, path.name)
    for name in ("notes.parquet", "notes.csv"):
        source = TableSource(type="table", name="notes", path=f"{store.uri}/{name}", text_column="text")
        (unit,) = list_units(source)
        records = read_unit(source, unit)
        fault = Fault("cut_response", after_bytes=100_000)
        found = [next(records)]
        proxy.arm(fault)
        found += records
        wanted = texts * (4 if name == "notes.csv" else 1)
        assert [record.text for record in found if isinstance(record, Document)] == wanted
        assert proxy.struck.pop() == fault

        records = read_unit(source, unit)
        next(records)
        with monkeypatch.context() as patched:
            patched.setattr(s3_store, "PATIENCE_S", 0.5)
            patched.setattr(proxy, "target", ("127.0.0.1", 9))
            proxy.drop_connections()
            with pytest.raises(StoreOutage, match=f"reading .*{name} failed with"):
                for record in records:
                    assert isinstance(record, Document)
