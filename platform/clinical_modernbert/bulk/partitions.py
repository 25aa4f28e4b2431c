"""Columns that a table keeps in the names of its folders (``year=2024/ward=icu/a.csv``), as Hive, Spark and DuckDB write them.

A folder's value replaces a column of that name in the file, as in Spark. Folders above ``input_uri`` are not read.
"""

from collections.abc import Iterable
from urllib.parse import unquote

_NULL = "__HIVE_DEFAULT_PARTITION__"


def partition_values(key: str) -> dict[str, str | None]:
    """Return the values in a file's key; escaped characters (``%2F``) are decoded, and Hive's name for null is None."""
    found: dict[str, str | None] = {}
    for folder in key.split("/")[:-1]:
        name, equals, value = folder.partition("=")
        if name and equals:
            found[unquote(name)] = None if value == _NULL else unquote(value)
    return found


def values_of_columns(key: str, columns: Iterable[str]) -> dict[str, str | None]:
    """Return those of ``columns`` that the folders have: by the same name, else by one that differs in case."""
    found = partition_values(key)
    lower = {name.lower(): value for name, value in found.items()}
    return {
        column: found.get(column, lower.get(column.lower()))
        for column in columns
        if column in found or column.lower() in lower
    }


def is_left_out(key: str) -> bool:
    """Return whether other readers of such tables leave the file out: logs, markers and unfinished files of their writers."""
    return any(part.startswith(".") or (part.startswith("_") and "=" not in part) for part in key.split("/"))
