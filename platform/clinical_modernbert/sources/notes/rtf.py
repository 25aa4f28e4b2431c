r"""The text of RTF, read by striprtf after what it does not know is written so that it does.

Three things would be other values in plain text. Characters of a symbol font: ``5 {\f3 m}g`` is 5 µg where font 3 is Symbol, and
``\'b3 90`` is ≥ 90. Superscripts: ``10{\super 9}/L`` is 10^9/L. Text that a revision deleted, or that is hidden.

Text boxes, footnotes and what an embedded object shows follow their paragraph. Headers, footers and comments are not read.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import chain

from clinical_modernbert.errors import SourceError
from clinical_modernbert.sources.superscripts import END, SUB, SUPER, write_scripts

_TOKEN = re.compile(r"\\([a-zA-Z]+)(-?\d{1,10})? ?|\\'([0-9a-fA-F]{2})|\\([^a-zA-Z'])|([{}])|[\r\n]+|([^\\{}\r\n]+)|\\")
_FONT = re.compile(r"\{\s*\\f(\d+)((?:[^{}]|\{[^{}]*\})*)\}")
_MOST_FONT_TABLE = 1 << 17
_INNER_GROUP = re.compile(r"\{[^{}]*\}")
_CONTROL = re.compile(r"\\[a-z]+-?\d* ?")
_SYMBOL_FIELD = re.compile(
    r'\{\s*\\\*\\fldinst[^{}]*\{?[^{}]*?SYMBOL\s+(\d{1,5})\s+(?:\\\\f\s*"?([\w -]+)"?)?[^{}]*\}?[^{}]*\}'
)
_NO_MARKS = dict.fromkeys(map(ord, (SUPER, SUB, END)), " ")
_BREAKS = frozenset({"par", "line", "cell", "row", "tab", "sect", "page"})
_ENDS_OF_PARAGRAPHS = frozenset({"par", "row", "sect", "page"})
_BOXES = frozenset({"shptxt", "dptxbxtext", "footnote", "result"})
# No box of theirs is read: headers and footers are not text of the note, ``shprslt`` is a shape again, for old readers.
_WITHOUT_BOXES = frozenset(
    {"header", "headerl", "headerr", "headerf", "footer", "footerl", "footerr", "footerf", "shprslt"}
)
_BOX_START, _BOX_END, _PLACE = "<", ">", "|"
# The encoding of Adobe's Symbol font, which Windows' has too: from 0x20 and from 0xA0 on.
_SYMBOL = dict(
    enumerate(
        " !∀#∃%&∋()∗+,−./0123456789:;<=>?≅ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ[∴]⊥_‾αβχδεφγηιϕκλµνοπθρστυϖωξψζ{|}∼",
        start=0x20,
    )
) | dict(
    enumerate(
        "€ϒ′≤⁄∞ƒ♣♦♥♠↔←↑→↓°±″≥×∝∂•÷≠≡≈…⏐⎯↵ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉∠∇®©™∏√⋅¬∧∨⇔⇐⇑⇒⇓◊〈®©™∑⎛⎜⎝⎡⎢⎣⎧⎨⎩⎪ 〉∫⌠⎮⌡⎞⎟⎠⎤⎥⎦⎫⎬⎭",
        start=0xA0,
    )
)
# Boxes and marks of Wingdings; its other characters are bullets and pictures.
_WINGDINGS = {0x20: " ", 0x6F: "☐", 0x78: "☒", 0xA8: "☐", 0xFB: "✗", 0xFC: "✓", 0xFD: "☒", 0xFE: "☑"}
_BULLET = "•"


class BrokenRtfError(Exception):
    """Content that no text can be read from."""


def rtf_text(content: bytes) -> str:
    """Return the text; raises ``BrokenRtfError``."""
    try:
        from striprtf.striprtf import destinations, rtf_to_text
    except ImportError:
        raise SourceError("a note is RTF: install the package striprtf (clinical-modernbert[corpus])") from None
    # RTF is ASCII; its escapes name the code page.
    plain = "".join(_with_boxes(_rewritten(content.decode("latin-1").translate(_NO_MARKS), destinations)))
    try:
        text = str(rtf_to_text(plain, errors="replace"))
    except Exception:  # noqa: BLE001 - the library has no exception of its own; a number out of range is any of several
        raise BrokenRtfError from None
    # RTF writes a character beyond 16 bits as two.
    return write_scripts(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))


@dataclass(frozen=True, slots=True)
class _State:
    """What holds in a group up to its end."""

    font: str = ""
    skipped: int = 1
    """Characters after ``\\u`` that stand for it in old readers."""
    script: str = ""
    is_deleted: bool = False
    is_hidden: bool = False
    is_destination: bool = False
    """Whether nothing of the group is text of the note."""
    boxes: int | None = 0
    """Number of boxes around the text; None where none is read."""


@dataclass(frozen=True, slots=True)
class _Sign:
    """A place in the stream: of the start or end of a box, or one where boxes may follow."""

    kind: str


def _with_boxes(parts: Iterator[str | _Sign]) -> Iterator[str]:
    """Yield the parts, with each box after its paragraph, because striprtf leaves out the groups in which boxes are."""
    opened: list[list[str]] = []
    finished: list[str] = []
    for part in parts:
        if isinstance(part, str):
            if opened:
                opened[-1].append(part)
            else:
                yield part
        elif part.kind == _BOX_START:
            opened.append(["{\\par "])
        elif part.kind == _BOX_END:
            finished += [*opened.pop(), "\\par }"]
        elif opened:
            opened[-1] += finished
            finished = []
        else:
            yield from finished
            finished = []


def _rewritten(rtf: str, destinations: Collection[str]) -> Iterator[str | _Sign]:
    fonts = _symbol_fonts(rtf)
    rtf = _SYMBOL_FIELD.sub(_symbol_of_field, rtf)
    states, state, opened, left = [_State()], _State(), "", 0
    for token in chain(_TOKEN.finditer(rtf), _closings(states)):
        word, number, code, sign, brace, text = token.groups()
        if brace:
            left = 0
            if brace == "{":
                states.append(state)
            else:
                before, state = state, states.pop() if states else state
                if before.boxes != state.boxes and before.boxes:
                    yield from (END if opened else "", _Sign(_BOX_END))
                    opened = ""
                elif len(states) == 1:
                    yield _Sign(_PLACE)
            yield brace
        elif word and not (word == "u" and number and state.font in fonts):
            left, before = 0, state
            state = _after(state, word, number, destinations)
            is_box = before.boxes != state.boxes and bool(state.boxes)
            if opened and (word in _BREAKS or is_box):
                yield END
                opened = ""
            if is_box:
                yield _Sign(_BOX_START)
                continue
            yield token[0]
            if word in _ENDS_OF_PARAGRAPHS and not state.is_destination:
                yield _Sign(_PLACE)
        elif sign == "*" or state.is_destination:
            state = replace(state, is_destination=True)
            yield token[0]
        elif not (word or code or text or sign):
            yield token[0]
        elif state.is_deleted or state.is_hidden:
            continue
        else:
            if state.script != opened:
                yield f"{END if opened else ''}{state.script}"
                opened = state.script
            if state.font not in fonts or sign:
                yield token[0]
                continue
            found = [int(number) % 0x10000] if word else [int(code, 16)] if code else [ord(c) for c in text]
            if word:
                left = state.skipped
            else:
                found, left = found[left:], max(left - len(found), 0)
            yield "".join(_escaped(_character(fonts[state.font], value)) for value in found)


def _closings(states: list[_State]) -> Iterator[re.Match[str]]:
    """Close the groups that a cut file leaves open, so that a box in them is text as well."""
    while len(states) > 1:
        yield from _TOKEN.finditer("}")


def _symbol_fonts(rtf: str) -> dict[str, str]:
    """Return the names of the fonts whose characters are symbols, by their number."""
    _, found, table = rtf.partition("\\fonttbl")
    fonts = {}
    for font in _FONT.finditer(table[:_MOST_FONT_TABLE]) if found else ():
        entry = _INNER_GROUP.sub("", font[2])
        name = _CONTROL.sub("", entry).strip(" ;\r\n").lower()
        if name == "symbol" or "\\fcharset2" in [control.strip() for control in _CONTROL.findall(entry)]:
            fonts[font[1]] = name
    return fonts


def _after(state: _State, word: str, number: str | None, destinations: Collection[str]) -> _State:
    is_on = number != "0"
    if word in _BOXES and state.boxes is not None:
        return replace(state, font="", script="", is_destination=False, boxes=state.boxes + 1)
    match word:
        case "f":
            return replace(state, font=number or "")
        case "uc":
            return replace(state, skipped=int(number or 1))
        case "super" | "sub":
            return replace(state, script=(SUPER if word == "super" else SUB) if is_on else "")
        case "nosupersub":
            return replace(state, script="")
        case "deleted":
            return replace(state, is_deleted=is_on)
        case "v":
            return replace(state, is_hidden=is_on)
        case "plain":
            return replace(state, font="", script="", is_deleted=False, is_hidden=False)
    if word in _WITHOUT_BOXES:
        return replace(state, is_destination=True, boxes=None)
    return replace(state, is_destination=True) if word in destinations else state


def _character(font: str, value: int) -> str:
    """Return the character that a symbol font shows; such fonts have theirs at U+F000 as well."""
    if value >= 0xF000:
        value -= 0xF000
    if value > 0xFF:
        return chr(value)
    if font == "symbol":
        return _SYMBOL.get(value, " ")
    return _WINGDINGS.get(value, _BULLET) if font.startswith("wingdings") else _BULLET


def _escaped(character: str) -> str:
    return character if character.isascii() and character not in "\\{}" else f"{{\\uc0\\u{ord(character)} }}"


def _symbol_of_field(field: re.Match[str]) -> str:
    """A field that shows a character of a font, and whose result is often empty: the character, before the field."""
    value, font = int(field[1]), (field[2] or "symbol").strip().lower()
    is_symbol = font == "symbol" or font.startswith(("wingdings", "webdings"))
    return _escaped(_character(font, value) if is_symbol else chr(value))
