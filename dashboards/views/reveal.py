"""The text of one document, on an explicit wish that is written down first.

Off unless the operator names an audit file (``EXPLORER_AUDIT_LOG``) and the login in front of the explorer names the reader. The
line is on the disk before the table is read; where it cannot be written, no text is shown. It names reader, set, row and outcome,
never the text and never the document's own id.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import streamlit as st
from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.bulk.inputs import fetched, find_tables
from clinical_modernbert.bulk.rows import TextRow, read_table_rows
from clinical_modernbert.errors import UserError
from clinical_modernbert.recipe import EmbedRecipe

# What oauth2-proxy, which stands in front of the explorer, says of who is logged in.
_NAME_HEADERS = ("X-Forwarded-Email", "X-Forwarded-User")


def show_reveal(embeddings: Artifact, *, document_id: str, row: int, key: str) -> None:
    """Offer the text of a document, or say why it is not to be had; a shown text is gone with the next action."""
    log = os.environ.get("EXPLORER_AUDIT_LOG")
    reader = reader_name(st.context.headers)
    if not log or not reader:
        missing = "no audit file is named" if not log else "nobody is logged in"
        st.caption(f"The text cannot be shown here: {missing}.")
        return
    if not st.button("Show the text (this is recorded)", key=key, icon=":material/visibility:"):
        return
    try:
        write_audit(Path(log), reader=reader, resource=embeddings.uri, row=row, outcome="asked")
    except OSError as error:
        st.error(
            f"The audit file cannot be written ({type(error).__name__}): no text is shown.", icon=":material/lock:"
        )
        return
    try:
        text = read_text(EmbedRecipe.model_validate(embeddings.manifest.recipe), document_id)
    except (UserError, OSError):
        text = None
    write_audit(Path(log), reader=reader, resource=embeddings.uri, row=row, outcome="shown" if text else "not found")
    if text is None:
        st.info("The table that was embedded is not within reach, or no longer has this document.")
    else:
        st.text(text)


def reader_name(headers: object) -> str | None:
    """Return who is logged in, as the proxy in front says."""
    found = [headers.get(name) for name in _NAME_HEADERS] if hasattr(headers, "get") else []
    return next((name for name in found if name), None)


def write_audit(path: Path, *, reader: str, resource: str, row: int, outcome: str) -> None:
    """Append one line and wait until it is on the disk; raises ``OSError``."""
    line = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "actor": reader,
        "action": "reveal_text",
        "resource": resource,
        "row": row,
        "outcome": outcome,
    }
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def read_text(recipe: EmbedRecipe, document_id: str) -> str | None:
    """Return the text of a document from the table that was embedded; None where it has it no more."""
    for table in find_tables(recipe):
        with fetched(table) as location:
            for item in read_table_rows(location, file=table.key, recipe=recipe):
                if isinstance(item, TextRow) and item.id == document_id:
                    return item.text
    return None
