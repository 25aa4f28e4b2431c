"""Keys change, expire and have rates while the endpoint runs."""

import asyncio
import hashlib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from clinical_modernbert.errors import RecipeError
from clinical_modernbert.recipe import ServeRecipe
from clinical_modernbert.serving.api import build_api
from clinical_modernbert.serving.engine import load_engine
from clinical_modernbert.serving.key_ring import KeyRing
from clinical_modernbert.serving.keys import FILE_VARIABLE, find_key, parse_keys
from clinical_modernbert.serving.service import EmbeddingService
from fastapi import FastAPI
from pydantic import ValidationError

from tests.helpers.asgi import answer_of, ask
from tests.helpers.served_app import publish


def line(name: str, *options: str) -> str:
    return " ".join([name, hashlib.sha256(name.encode()).hexdigest(), *options]) + "\n"


class Clock:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def names(ring: KeyRing) -> list[str]:
    return [key.name for key in ring.accepted()]


def test_a_changed_file_is_read_again_and_a_wrong_one_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, clock = tmp_path / "keys", Clock()
    path.write_text(line("one"))
    ring = KeyRing(parse_keys(path.read_text(), origin="keys"), path=path, clock=clock)
    path.write_text(line("one") + line("second"))
    assert names(ring) == ["one"]
    clock.now = 5
    assert names(ring) == ["one", "second"]
    for wrong in ("", "nonsense\n"):
        path.write_text(wrong)
        clock.now += 5
        assert names(ring) == ["one", "second"]
    assert "its last keys stay" in caplog.text and "line 1" in caplog.text and "nonsense" not in caplog.text
    path.unlink()
    clock.now += 5
    assert names(ring) == ["one", "second"]
    # As Kubernetes changes a mounted Secret: another file behind a link.
    (tmp_path / "next").write_text(line("third"))
    path.symlink_to(tmp_path / "next")
    clock.now += 5
    assert names(ring) == ["third"]


def test_the_environment_s_file_is_the_one_that_is_watched(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(line("one"))
    assert names(KeyRing.from_environment({FILE_VARIABLE: str(path)}, required=True)) == ["one"]
    assert names(KeyRing.from_environment({}, required=False)) == []


def test_a_file_that_changes_while_it_is_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys"
    path.write_text(line("one"))
    read = Path.read_text

    def read_and_change(self: Path, **options: Any) -> str:
        text = read(self, **options)
        monkeypatch.undo()
        path.write_text(line("second"))
        return text

    monkeypatch.setattr(Path, "read_text", read_and_change)
    ring = KeyRing.from_environment({FILE_VARIABLE: str(path)}, required=True)
    monkeypatch.setattr("clinical_modernbert.serving.key_ring._LOOK_EVERY_S", 0.0)
    assert names(ring) == ["second"]


def test_a_change_that_could_not_be_read_is_read_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else a key that was deleted while the process had no free file handle would be accepted until the next change."""
    path, clock = tmp_path / "keys", Clock()
    path.write_text(line("one") + line("leaked"))
    ring = KeyRing(parse_keys(path.read_text(), origin="keys"), path=path, clock=clock)
    path.write_text(line("one"))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(OSError(24, "Too many open files")))
        for _ in range(3):
            clock.now += 5
            assert names(ring) == ["one", "leaked"]
    assert caplog.text.count("Too many open files") == 1
    clock.now += 5
    assert names(ring) == ["one"]


def test_a_key_expires_after_its_day() -> None:
    keys = parse_keys(line("lab", "embed", "expires=2027-01-31"), origin="keys")
    assert find_key(keys, "Bearer lab", today=date(2027, 1, 31)) is keys[0]
    assert find_key(keys, "Bearer lab", today=date(2027, 2, 1)) is None


@pytest.mark.parametrize(
    "option",
    [
        "expires=2027-01-01 expires=2030-01-01",
        "expires=tomorrow",
        "requests_per_minute=0",
        "tokens_per_minute=many",
        "colour=red",
        "embed fill-mask",
    ],
)
def test_a_wrong_option_is_named_by_its_line(option: str) -> None:
    with pytest.raises(RecipeError, match="line 1: must be") as refused:
        parse_keys(line("lab", *option.split()), origin="keys")
    assert option not in str(refused.value)


def test_a_rate_refills_evenly_and_tokens_are_paid_by_the_next_request() -> None:
    clock = Clock()
    (few, busy) = parse_keys(line("few", "requests_per_minute=2") + line("busy", "tokens_per_minute=60"), origin="keys")
    ring = KeyRing((few, busy), clock=clock)
    assert [ring.seconds_until(few) for _ in range(3)] == [0, 0, 30]
    clock.now = 30
    assert [ring.seconds_until(few) for _ in range(2)] == [0, 30]
    assert ring.seconds_until(busy) == 0
    ring.count_tokens(busy, 90)
    assert ring.seconds_until(busy) == 31
    clock.now += 31
    assert ring.seconds_until(busy) == 0


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    store = publish(tmp_path_factory.mktemp("served"))
    values: dict[str, Any] = {"name": "tiny", "model": "tiny", "cors_origins": ["https://intranet.example"]}
    service = EmbeddingService(load_engine(str(store), ServeRecipe.model_validate(values)))
    keys = (
        line("few", "requests_per_minute=1") + line("old", "expires=2020-01-01") + line("tokens", "tokens_per_minute=2")
    )
    yield build_api(service, keys=KeyRing(parse_keys(keys, origin="keys")))
    service.close()


def test_the_endpoint_refuses_used_rates_and_expired_keys(app: FastAPI) -> None:
    async def body() -> None:
        statuses = [(await ask(app, "POST", "/embed", {"inputs": "x"}, key="few"))[0] for _ in range(2)]
        assert statuses == [200, 429]
        status, headers, content = await answer_of(
            app, "POST", "/embed", {"inputs": "x"}, headers={"authorization": "Bearer few"}
        )
        assert (status, headers["retry-after"]) == (429, "60")
        assert b"rate_limited" in content
        assert (await ask(app, "POST", "/embed", {"inputs": "x"}, key="old"))[0] == 401
        statuses = [(await ask(app, "POST", "/embed", {"inputs": "x"}, key="tokens"))[0] for _ in range(2)]
        assert statuses == [200, 429]

    asyncio.run(body())


@pytest.mark.parametrize(
    "origin", ["https://intranet.example/", "intranet.example", "https://Intranet.example", "https://a.example/app", ""]
)
def test_an_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError, match=r"cors_origins\.0"):
        ServeRecipe.model_validate({"name": "tiny", "model": "tiny", "cors_origins": [origin]})
    for right in ("*", "http://localhost:3000", "https://intranet.example", "chrome-extension://abcdef"):
        ServeRecipe.model_validate({"name": "tiny", "model": "tiny", "cors_origins": [right]})


def test_a_browser_of_an_allowed_origin_may_call_and_others_may_not(app: FastAPI) -> None:
    async def preflight(origin: str) -> tuple[int, dict[str, str]]:
        headers = {
            "origin": origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type,x-stainless-lang",
        }
        status, received, _ = await answer_of(app, "OPTIONS", "/embed", headers=headers)
        return status, received

    async def body() -> None:
        status, headers = await preflight("https://intranet.example")
        assert (status, headers["access-control-allow-origin"]) == (200, "https://intranet.example")
        status, headers = await preflight("https://evil.example")
        assert status == 400 and "access-control-allow-origin" not in headers
        sent = {"origin": "https://intranet.example"}
        status, headers, _ = await answer_of(app, "POST", "/embed", {"inputs": "x"}, headers=sent)
        assert (status, headers["access-control-allow-origin"]) == (401, "https://intranet.example")

    asyncio.run(body())
