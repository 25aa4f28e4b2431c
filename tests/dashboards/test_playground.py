"""The playground against the real endpoint on a bare server: what it answers, what it says when it can't, what it never keeps."""

import hashlib
import logging
from collections.abc import Iterator

import pytest
from clinical_modernbert.artifacts import Store
from streamlit.testing.v1 import AppTest

from tests.helpers.bare_server import KEYS, Server
from tests.helpers.explorer_page import opened, tables, words
from tests.helpers.served_models import publish_model

PAGE = "views/playground.py"
TYPED = "Zyxwabilin 5 [MASK] daily for dyspnoea"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("endpoint")
    publish_model(root / "store", tmp_path_factory.mktemp("model"))
    scopes = {"full": "embed,fill-mask", "vectors": "embed"}
    keys = "\n".join(f"{n} {hashlib.sha256(KEYS[n].encode()).hexdigest()} {scope}" for n, scope in scopes.items())
    found = Server(root / "store", keys)
    yield found
    found.close()


@pytest.fixture
def endpoint(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("ENDPOINT_URL", server.url)
    monkeypatch.setenv("ENDPOINT_KEY", KEYS["full"])
    return server


def filled(app: AppTest, text: str) -> AppTest:
    opened(app, PAGE, mode="researcher")
    app.text_area(key="fill-text").input(text)
    next(button for button in app.button if button.label == "Guess").click()
    app.run()
    assert not app.exception
    return app


def test_each_gap_has_its_likeliest_words(app: AppTest, endpoint: Server) -> None:
    filled(app, TYPED)
    (rows,) = tables(app)
    assert len(rows) == 10
    assert [row["certainty"] for row in rows] == sorted((row["certainty"] for row in rows), reverse=True)
    filled(app, "[MASK] pain and [MASK] fever")
    assert len(tables(app)) == 2
    assert "Gap 2" in words(app)


def test_a_text_without_a_gap_is_not_sent(app: AppTest, endpoint: Server) -> None:
    filled(app, "no gap here")
    assert "write [MASK] where the model should guess a word" in words(app)
    assert not app.dataframe


def test_similar_texts_are_listed_first(app: AppTest, endpoint: Server) -> None:
    opened(app, PAGE, mode="researcher")
    app.text_input(key="source-text").input("short of breath")
    app.text_area(key="other-texts").input("ankle sprain\n\nshort of breath\n")
    next(button for button in app.button if button.label == "Compare").click()
    app.run()
    (rows,) = tables(app)
    assert [row["text"] for row in rows] == ["short of breath", "ankle sprain"]
    assert rows[0]["similarity"] == pytest.approx(1, abs=1e-3)


def test_what_is_typed_is_in_no_log_and_no_address_and_gone_with_the_page(
    app: AppTest, endpoint: Server, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG):
        filled(app, TYPED)
        filled(app, "Zyxwabilin " * 300 + "[MASK]")  # too long for the model: a refusal
    assert "too long" in words(app)
    assert "Zyxwabilin" not in caplog.text + "".join(capfd.readouterr())
    assert "Zyxwabilin" not in str(app.query_params)
    app.switch_page("views/lineage.py").run()
    assert "fill-text" not in app.session_state
    app.switch_page(PAGE).run()
    assert app.text_area(key="fill-text").value == ""
    assert not app.dataframe


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ENDPOINT_URL", "http://127.0.0.1:9", "The endpoint does not answer."),
        ("ENDPOINT_KEY", "wrong", "It requires an API key"),
    ],
)
@pytest.mark.usefixtures("endpoint")
def test_an_endpoint_that_is_down_or_refuses_is_said_so(
    app: AppTest, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    opened(app, PAGE, mode="researcher")
    assert said in app.error[0].value + words(app)
    assert not app.text_area


def test_a_key_that_may_not_guess_is_said_so(app: AppTest, endpoint: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENDPOINT_KEY", KEYS["vectors"])
    filled(app, TYPED)
    assert "The explorer's key lacks the scope for this request." in words(app)


def test_without_an_endpoint_the_page_says_how_to_set_one(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENDPOINT_URL", raising=False)
    opened(app, PAGE, mode="researcher")
    assert "ENDPOINT_URL" in app.info[0].value


def test_lineage_says_whether_the_served_model_is_the_stores(
    app: AppTest, endpoint: Server, store: Store, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from pathlib import Path

    from tests.helpers.explorer_stores import publish_corpus

    publish_corpus(store, tmp_path_factory.mktemp("made"))
    opened(app, "views/lineage.py", mode="researcher")
    assert "which is not in this store" in words(app)
    publish_model(Path(store.uri.removeprefix("file://")), tmp_path_factory.mktemp("model"))
    app.session_state["artifact"] = "corpus/full-1"
    from streamlit import cache_resource

    cache_resource.clear()
    app.run()
    served = endpoint.engine.model_id
    assert f"The endpoint serves model/{served}, with the content of this store." in app.success[0].value
    next(button for button in app.button if button.label == "Show its lineage").click()
    app.run()
    assert not app.exception
    assert f"Lineage of model/{served}" in words(app)
