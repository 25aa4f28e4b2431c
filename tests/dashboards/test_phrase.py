"""Search by the meaning of a phrase, against the real endpoint on a bare server."""

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from clinical_modernbert.artifacts import Store
from playwright.sync_api import expect
from streamlit.testing.v1 import AppTest

from tests.helpers.bare_server import KEYS, Server
from tests.helpers.explorer_browser import Watched, map_of
from tests.helpers.explorer_page import PublishMap, code_table, opened, sent, words
from tests.helpers.served_models import publish_model

PAGE = "views/code_map.py"
PHRASE = "Diabetic KIDNEY disease (type 2)"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("endpoint")
    publish_model(root / "store", tmp_path_factory.mktemp("model"))
    keys = "\n".join(f"{name} {hashlib.sha256(key.encode()).hexdigest()}" for name, key in KEYS.items())
    found = Server(root / "store", keys)
    yield found
    found.close()


@pytest.fixture
def phrase_map(
    server: Server, store: Store, publish_map: PublishMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A map of the served model: its codes' own vectors."""
    (tmp_path / "weights").mkdir()
    model = publish_model(Path(store.uri.removeprefix("file://")), tmp_path / "weights")
    encoder = server.engine.encoder
    texts = code_table()["description"].to_pylist()
    publish_map(model=model, vectors=encoder.embed(encoder.tokenize(texts), pooling="cls", normalize=False))
    monkeypatch.setenv("ENDPOINT_URL", server.url)
    monkeypatch.setenv("ENDPOINT_KEY", KEYS["full"])


def asked(app: AppTest, phrase: str) -> AppTest:
    opened(app, PAGE)
    app.text_input(key="phrase").input(phrase).run()
    assert not app.exception
    return app


def test_a_phrase_finds_its_nearest_codes_with_scores(
    app: AppTest, phrase_map: None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        asked(app, PHRASE)
    found = app.dataframe[0].value
    assert (found["code"][0], len(found)) == ("102.01", 25)
    assert found["similarity"][0] == pytest.approx(1, abs=1e-3)
    assert (np.diff(found["similarity"]) <= 0).all()
    meaning = sent(app)[1]["meaning"]
    assert (meaning["rows"][0], meaning["turn"], meaning["said"]) == (41, 1, "")
    assert meaning["scores"] == found["similarity"].tolist()
    assert "KIDNEY" not in str(app.query_params)
    assert "KIDNEY" not in caplog.text


def test_a_map_of_another_model_is_not_searched(
    app: AppTest, phrase_map: None, publish_map: PublishMap, server: Server
) -> None:
    publish_map("other")
    opened(app, PAGE)
    asked(app, PHRASE)
    assert "Vectors of two models cannot be compared" in words(app)
    assert not app.dataframe


@pytest.mark.parametrize(("name", "value", "said"), [
    ("ENDPOINT_URL", "http://127.0.0.1:9", "does not answer"),
    ("ENDPOINT_KEY", "wrong", "returned no vector"),
])  # fmt: skip
def test_an_endpoint_that_refuses_or_is_down_is_said_so(
    app: AppTest, phrase_map: None, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    asked(app, PHRASE)
    assert said in words(app)
    assert said in sent(app)[1]["meaning"]["said"]  # the map says it next to the search box
    assert "KIDNEY" not in words(app)
    assert not app.dataframe


@pytest.mark.browser
@pytest.mark.slow
def test_what_no_code_has_is_searched_by_meaning_upon_one_click(
    phrase_map: None, watched: Watched, address: str
) -> None:
    page = watched.page
    page.goto(address)
    shown = map_of(page)
    page.get_by_role("combobox", name="Search", exact=True).fill("zzqx kidneys ache")
    expect(shown.locator(".about")).to_contain_text("No code has these words")
    page.wait_for_timeout(500)
    assert watched.sent("zzqx") == 0
    shown.get_by_role("button", name="Search by meaning").click()
    expect(shown.locator(".count")).to_have_text("25 nearest in meaning")
    expect(shown.locator(".hit")).to_have_count(25)
    assert watched.sent("zzqx") == 1
    expect(shown).to_have_attribute("data-ringed", "25")
    expect(page.get_by_text("The 25 nearest codes")).to_be_visible()
    # By keyboard as in any list, and the next letter searches words again.
    page.keyboard.press("Enter")
    expect(page.get_by_text("Nearest codes", exact=True)).to_be_visible()
    page.get_by_role("combobox", name="Search", exact=True).fill("kidney")
    expect(shown.locator(".count")).to_have_text("1 found")
    assert "zzqx" not in page.url
    assert watched.elsewhere == []
    assert watched.errors == []
