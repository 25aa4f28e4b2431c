"""One XML file as one tree: what cannot be read has a place and a kind, and never its text."""

import pytest
from clinical_modernbert.sources.inflate import DamagedFileError
from clinical_modernbert.sources.xml_document import local_name, read_root


def test_a_tree_is_read_over_chunks_without_comments_and_with_entities_unexpanded() -> None:
    root = read_root([b"<!DOCTYPE a [<!ENTITY e 'Jane Roe'>]><a xmlns='urn:x'><!-- Jane -->", b"&e;<b/></a>"])
    assert local_name(root) == "a" and "Jane" not in "".join(root.itertext())
    assert [local_name(child) for child in root] == [None, "b"]


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([bytes(1 << 26), b"x"], f"byte {1 << 26}: too large for one document"),
        ([b"<a>\n<b>Jane", b"</a>"], "line 2: broken XML (ERR_TAG_NAME_MISMATCH)"),
    ],
)
def test_what_is_not_read_is_told_by_place_and_kind(chunks: list[bytes], message: str) -> None:
    with pytest.raises(DamagedFileError) as raised:
        read_root(chunks)
    assert str(raised.value) == message
