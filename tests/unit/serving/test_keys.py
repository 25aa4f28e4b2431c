"""Keys: hashed, named, scoped; a file that is wrong is refused by its line and never quoted."""

import hashlib
from pathlib import Path

import pytest
from clinical_modernbert.errors import RecipeError
from clinical_modernbert.serving.keys import SCOPES, Key, find_key, keys_from_environment, parse_keys

GOOD = hashlib.sha256(b"secret").hexdigest()
NEXT = hashlib.sha256(b"next").hexdigest()


def test_a_key_is_found_by_its_hash_and_only_as_a_bearer() -> None:
    keys = parse_keys(f"# rotation\nlab {GOOD}\nlab-next {NEXT} embed # vectors only\n", origin="keys")
    found = find_key(keys, "Bearer secret")
    assert found is not None
    assert (found.name, found.scopes) == ("lab", {"embed", "fill-mask", "predict"})
    later = find_key(keys, "bearer next")
    assert later is not None
    assert (later.name, later.scopes) == ("lab-next", {"embed"})
    for header in (None, "", "secret", "Basic secret", "Bearer", "Bearer secre", f"Bearer {GOOD}"):
        assert find_key(keys, header) is None, header
    assert "secret" not in repr(keys)


@pytest.mark.parametrize(
    "line", ["lab", "lab secret", f"lab {GOOD} admin", f"lab {GOOD} embed extra", f"lab {GOOD[:-1]}g", f"one {GOOD}"]
)
def test_a_bad_line_is_named_by_number_and_not_quoted(line: str) -> None:
    with pytest.raises(RecipeError, match="line 2") as refused:
        parse_keys(f"one {NEXT}\n{line}\n", origin="keys")
    assert GOOD[:20] not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_keys_come_from_a_file_or_a_variable_and_are_required_where_the_recipe_says_so(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"lab {GOOD}\n", encoding="utf-8")
    assert [k.name for k in keys_from_environment({"CLINICAL_API_KEYS_FILE": str(path)}, required=True)] == ["lab"]
    assert [k.name for k in keys_from_environment({"CLINICAL_API_KEYS": f"a {NEXT}"}, required=False)] == ["a"]
    assert keys_from_environment({}, required=False) == ()
    path.write_text("# none left\n", encoding="utf-8")
    # An emptied variable or Secret must not open the endpoint.
    for environment, required in (
        ({}, True),
        ({"CLINICAL_API_KEYS_FILE": str(path)}, False),
        ({"CLINICAL_API_KEYS_FILE": ""}, False),
        ({"CLINICAL_API_KEYS": ""}, False),
        ({"CLINICAL_API_KEYS": " "}, False),
    ):
        with pytest.raises(RecipeError, match="no API keys"):
            keys_from_environment(environment, required=required)
    with pytest.raises(RecipeError, match="cannot be read"):
        keys_from_environment({"CLINICAL_API_KEYS_FILE": str(tmp_path / "absent")}, required=False)
    with pytest.raises(RecipeError, match="set one"):
        keys_from_environment({"CLINICAL_API_KEYS_FILE": "a", "CLINICAL_API_KEYS": "b"}, required=False)


def test_the_hash_of_an_empty_key_is_refused_and_an_empty_token_is_no_key() -> None:
    empty = hashlib.sha256(b"").hexdigest()
    with pytest.raises(RecipeError, match="line 2: this is the hash of an empty key"):
        parse_keys(f"one {NEXT}\nlab {empty.upper()}\n", origin="keys")
    key = Key(name="lab", digest=bytes.fromhex(empty), scopes=SCOPES)
    for header in ("Bearer", "Bearer ", "bearer   "):
        assert find_key((key,), header) is None, header


def test_a_hash_under_two_names_is_refused() -> None:
    with pytest.raises(RecipeError, match="line 2: the key of an earlier line is used again"):
        parse_keys(f"one {GOOD} embed\ntwo {GOOD.upper()}\n", origin="keys")


def test_a_byte_order_mark_is_no_part_of_a_name_and_other_encodings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_bytes(f"\ufefflab {GOOD}\n".encode())
    assert [key.name for key in keys_from_environment({"CLINICAL_API_KEYS_FILE": str(path)}, required=True)] == ["lab"]
    path.write_bytes(f"lab {GOOD}\n".encode("utf-16"))
    with pytest.raises(RecipeError, match="is not UTF-8 at byte 0"):
        keys_from_environment({"CLINICAL_API_KEYS_FILE": str(path)}, required=True)
