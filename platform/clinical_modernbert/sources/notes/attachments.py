"""The text of a note that came as plain text, HTML or RTF.

HTML is read by lxml: blocks become lines, cells are separated by tabs, ``10<sup>9</sup>`` is ``10^9``; scripts, styles and hidden
heads are left out. RTF is read by ``rtf``. Pictures, PDF and Word files hold no text for this module.
"""

import base64
import binascii
import re
from email.message import Message
from typing import Any

from clinical_modernbert.sources.notes.rtf import BrokenRtfError, rtf_text
from clinical_modernbert.sources.superscripts import END, MARKS, NOT_SHOWN, SUB, SUPER, write_scripts

PLAIN, HTML, RTF = "text/plain", ("text/html", "application/xhtml+xml"), ("text/rtf", "application/rtf")
_PREFERRED = (PLAIN, *HTML, *RTF)
_AROUND_TAB = re.compile(r" *+\t *+")
_NO_MARKS = dict.fromkeys(map(ord, (SUPER, SUB, END)), " ")
_SKIPPED = frozenset({"script", "style", "head", "title", "template", "noscript", *NOT_SHOWN})
_CELLS = frozenset({"td", "th"})
_BLOCKS = frozenset(
    """
    address article aside blockquote body br button caption center dd details dialog dir div dl dt fieldset figcaption figure
    footer footnote form h1 h2 h3 h4 h5 h6 header hr iframe input item legend li list main menu nav object ol optgroup option
    p paragraph pre section select summary table tbody textarea tfoot thead tr ul
    """.split()  # noqa: SIM905 - 56 quoted words are harder to review
)


class AttachmentError(Exception):
    """Content that is not of its stated form; the message says why, without any of it."""


def preference(content_type: str) -> int | None:
    """Return how soon a form of a document is taken, 0 first; None for a form without text."""
    kind = _media_type(content_type)
    return _PREFERRED.index(kind) if kind in _PREFERRED else None


def decoded(data: str) -> bytes:
    """Return the content of base64 with or without line breaks; raises ``AttachmentError``."""
    try:
        return base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        raise AttachmentError("no base64") from None


def attachment_text(content: bytes, content_type: str) -> str:
    """Return the text; raises ``AttachmentError``."""
    kind = _media_type(content_type)
    if kind in RTF:
        try:
            return rtf_text(content)
        except BrokenRtfError:
            raise AttachmentError("broken RTF") from None
    try:
        text = content.decode(_charset(content_type)).removeprefix("\ufeff")
    except UnicodeError:
        raise AttachmentError("not of its character set") from None
    except (LookupError, ValueError):  # a name that is none, or has a null character
        raise AttachmentError("in an unknown character set") from None
    return html_text(text) if kind in HTML else text


def html_text(markup: str) -> str:
    """Return the text of HTML, with a line for each block and a tab between cells."""
    from lxml import etree, html

    markup = markup.translate(_NO_MARKS)
    if not markup.strip():
        return ""
    try:
        # Bytes with a stated encoding: a declaration inside of the markup would be refused in text, or win over the real one.
        parser = html.HTMLParser(encoding="utf-8", no_network=True, remove_comments=True, remove_pis=True)
        root = html.document_fromstring(markup.encode("utf-8", "replace"), parser=parser)
    except etree.ParserError:
        return ""
    if parser.error_log.filter_from_fatals():  # the parser gave up, and the tree lacks what follows
        raise AttachmentError("HTML that is nested too deeply")
    return element_text(root)


def element_text(root: Any) -> str:
    """Return the text of an element of HTML or of a CDA narrative, in whatever namespace."""
    parts: list[str] = []
    _collect(root, parts, keeps_blanks=False)
    lines = [_AROUND_TAB.sub("\t", line) for line in write_scripts("".join(parts)).split("\n")]
    kept = [line.strip() for line in lines]
    return "\n".join(line for n, line in enumerate(kept) if line or (n and kept[n - 1])).strip()


def _collect(element: Any, parts: list[str], *, keeps_blanks: bool) -> None:
    name = element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
    if name and name not in _SKIPPED:
        keeps_blanks = keeps_blanks or name == "pre"
        if name in _BLOCKS:
            _break(parts)
        elif name in _CELLS and parts and not parts[-1].endswith("\n"):
            parts.append("\t")
        elif name == "content" and _follows_content(element):
            parts.append(" ")
        if name in MARKS:
            parts.append(MARKS[name])
        _add(element.text, parts, keeps_blanks=keeps_blanks)
        for child in element:
            _collect(child, parts, keeps_blanks=keeps_blanks)
        if name in MARKS:
            parts.append(END)
        if name in _BLOCKS:
            _break(parts)
            if name == "p":
                parts.append("\n")
    _add(element.tail, parts, keeps_blanks=keeps_blanks and name != "pre")


def _follows_content(element: Any) -> bool:
    """Whether nothing is between two ``content`` of a CDA narrative, which style sheets show as two lines or with a gap."""
    before = element.getprevious()
    return before is not None and before.tag == element.tag and not before.tail


def _add(text: str | None, parts: list[str], *, keeps_blanks: bool) -> None:
    if not text:
        return
    if keeps_blanks:
        parts.append(text)
        return
    flat = " ".join(text.split())
    if flat or not parts or not parts[-1].endswith((" ", "\n", "\t")):
        parts.append(f"{' ' * text[0].isspace()}{flat}{' ' * (text[-1].isspace() and bool(flat))}")


def _break(parts: list[str]) -> None:
    if parts and not parts[-1].endswith("\n"):
        parts.append("\n")


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _charset(content_type: str) -> str:
    message = Message()
    message["content-type"] = content_type
    return str(message.get_param("charset") or "utf-8").lower()
