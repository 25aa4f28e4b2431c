"""The names of OMOP concepts that occur in a CDM, from its CONCEPT table."""

from collections.abc import Iterable

from clinical_modernbert.sources.document import whole_number

# A value below a limit of detection is stored as number and operator: without the operator it would be another value.
_OPERATORS = {"4171756": "<", "4171754": "<=", "4172703": "=", "4172704": ">", "4171755": ">="}
_SIGNS = {"<", "<=", "=", ">", ">="}


class Concepts:
    """Concepts by their ids, which are texts of digits: first those that are used, then their names."""

    COLUMNS = ("concept_id", "concept_name")

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._names: dict[str, str] = {}

    def use(self, *concept_ids: str) -> None:
        """Note that names of these concepts are needed."""
        self._used.update(concept_ids)

    def read_names(self, rows: Iterable[tuple[str, ...]]) -> None:
        """Take the names of the concepts that are used from rows of ``COLUMNS``; 0 has none, whatever CONCEPT says."""
        used = self._used - {"", "0"}
        for stated, name in rows:
            concept_id = whole_number(stated)
            if concept_id in used and name.strip():
                self._names[concept_id] = " ".join(name.split())

    def name(self, concept_id: str) -> str:
        """Return the name of a concept; empty where it has none."""
        return self._names.get(concept_id, "")

    def operator(self, concept_id: str) -> str | None:
        """Return the sign of an operator before a number, empty for equality; None for one that is not known."""
        if concept_id in ("", "0"):
            return ""
        sign = _OPERATORS.get(concept_id, self.name(concept_id))
        return None if sign not in _SIGNS else "" if sign == "=" else sign
