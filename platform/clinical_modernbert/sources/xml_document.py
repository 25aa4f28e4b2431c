"""One XML file as one small document: its whole tree, within a bound on its bytes.

Nothing is fetched and no entity is expanded; comments and processing instructions are left out. Large files of many records are
read elsewhere (``pubmed/scan.py``).
"""

from collections.abc import Iterable
from typing import Any

from clinical_modernbert.sources.inflate import DamagedFileError

# An article or a document of a patient has a few MB at most; a larger file is something else.
_MOST_BYTES = 1 << 26


def read_root(chunks: Iterable[bytes]) -> Any:
    """Return the root element; raises ``DamagedFileError`` for a file that is damaged, too large or not XML."""
    from lxml import etree

    content = bytearray()
    for chunk in chunks:
        content += chunk
        if len(content) > _MOST_BYTES:
            raise DamagedFileError(f"byte {_MOST_BYTES}", "too large for one document")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True
    )
    try:
        return etree.fromstring(bytes(content), parser)
    except etree.XMLSyntaxError as error:
        # Only the kind of the error: libxml2's message may quote the text.
        kind = etree.ErrorTypes._getName(error.code, "error")
        raise DamagedFileError(f"line {error.lineno}", f"broken XML ({kind})") from None


def local_name(element: Any) -> str | None:
    """Return the name of an element without its namespace; None for an entity."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else None
