"""A visit to every page of the explorer without a browser: what the pages say, and what the explorer logs."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import streamlit as st
from streamlit.testing.v1 import AppTest

_DASHBOARDS = Path(__file__).resolve().parents[2] / "dashboards"
_TIMEOUT_S = 300


class KeptLog(logging.Handler):
    """Keeps each record as a log file would have it, with tracebacks."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(logging.Formatter("%(name)s %(message)s").format(record))


@contextmanager
def kept_log() -> Iterator[KeptLog]:
    """Keep what is logged, from INFO, during the block."""
    kept, root = KeptLog(), logging.getLogger()
    level = root.level
    root.addHandler(kept)
    root.setLevel(logging.INFO)
    try:
        yield kept
    finally:
        root.removeHandler(kept)
        root.setLevel(level)


def visit(root: str, *, typed: str) -> Iterator[tuple[str, str]]:
    """Open each page of the explorer of ``root`` as a researcher, with ``typed`` in its address and its fields.

    Yields ``page: <name>`` with what the page says outside of fields, then ``log: of the explorer``.
    """
    arguments, sys.argv = sys.argv, ["dashboards/explorer.py", "--root", root]
    sys.path.insert(0, str(_DASHBOARDS))
    st.cache_resource.clear()
    st.cache_data.clear()
    try:
        with kept_log() as log:
            for path in sorted((_DASHBOARDS / "views").glob("[a-z]*.py")):
                app = AppTest.from_file(str(_DASHBOARDS / "explorer.py"), default_timeout=_TIMEOUT_S)
                app.session_state["mode"] = "researcher"
                for name in ("map", "code", "set", "run", "corpus", "model", typed):
                    app.query_params[name] = typed
                app.run()
                app.switch_page(f"views/{path.name}").run()
                yield f"page: {path.stem}", _words(app)
                for field in (*app.text_input, *app.text_area):
                    field.set_value(typed)
                for button in app.button[:3]:
                    button.click()
                app.run()
                yield f"page: {path.stem}", _words(app)
        yield "log: of the explorer", "\n".join(log.lines)
    finally:
        sys.argv = arguments
        sys.path.remove(str(_DASHBOARDS))


def _words(app: AppTest) -> str:
    kinds = (app.title, app.header, app.markdown, app.caption, app.text, app.info, app.warning, app.error, app.code)
    said = [str(element.value) for kind in (*kinds, app.exception) for element in kind]
    return "\n".join([*said, *(frame.value.to_csv() for frame in app.dataframe)])
