"""The table of finished runs: filtered by words and by recipe fields, with fields as further columns, and grouped by one.

A filter has words and conditions with spaces between them, and a run has to meet all: a word is a part of the run's id,
``field=value``, ``field!=value``, ``field<number`` and ``field>number`` are conditions on a field of the recipe or a figure of
the table, by its path or the end of it (``learning_rate``).
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st
from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.errors import UserError
from clinical_modernbert.recipe.overrides import dotted

from panels.charts import Row

_CONDITION = re.compile(r"([^=<>!]+)(!=|=|<|>)(.*)")
_BEST = "held-out loss"


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run: its line of the table, and the fields of its recipe by dotted path."""

    id: str
    figures: Row
    fields: Mapping[str, Any]

    def value(self, name: str) -> Any:
        """Return a figure or a field; None where the run has none of this name."""
        return self.figures.get(name, self.fields.get(name))


def matching(runs: Sequence[Run], query: str) -> list[Run]:
    """Return the runs that meet all conditions of ``query``; raises ``UserError`` for a condition that nothing can meet."""
    kept = list(runs)
    for term in query.split():
        found = _CONDITION.fullmatch(term)
        if not found:
            kept = [run for run in kept if term.lower() in run.id.lower()]
            continue
        name = _full_name(found[1], sorted({name for run in runs for name in (*run.figures, *run.fields)}))
        kept = [run for run in kept if _meets(run.value(name), found[2], found[3])]
    return kept


def _full_name(asked: str, names: Sequence[str]) -> str:
    """Return the field or figure that ``asked`` names: itself, or the only one that ends with it."""
    # A filter has no spaces within a condition: held-out_loss is the column "held-out loss".
    plain = {name.replace(" ", "_"): name for name in names}
    if asked in plain:
        return plain[asked]
    ends = [name for short, name in plain.items() if short.endswith(f".{asked}")]
    if len(ends) == 1:
        return ends[0]
    near = ends or [plain[short] for short in difflib.get_close_matches(asked, plain, n=3)]
    raise UserError(
        f"filter: {'several fields end' if ends else 'no field ends'} with {asked!r}: {', '.join(near[:5]) or 'see the columns'}"
    )


def _meets(value: Any, sign: str, wanted: str) -> bool:
    if sign in "<>":
        try:
            return bool(float(value) < float(wanted)) if sign == "<" else bool(float(value) > float(wanted))
        except (TypeError, ValueError):
            return False
    try:
        same = float(value) == float(wanted)
    except (TypeError, ValueError):
        same = str(value).lower() == wanted.lower()
    return same if sign == "=" else not same


def varying(runs: Sequence[Run]) -> list[str]:
    """Return the fields of which the runs have different values."""
    values: dict[str, set[str]] = {}
    for run in runs:
        for name, value in run.fields.items():
            values.setdefault(name, set()).add(str(value))
    absent = {name for name in values if any(name not in run.fields for run in runs)}
    return sorted(name for name, found in values.items() if len(found) > 1 or name in absent)


def grouped_by(runs: Sequence[Run], name: str) -> list[Row]:
    """Return a line for each value of a field: its runs, and the mean and the least held-out loss. The least comes first."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(str(run.value(name)), []).append(run)
    lines: list[Row] = []
    for value, members in groups.items():
        measured = {run.id: run.figures[_BEST] for run in members if run.figures.get(_BEST) is not None}
        best = min(measured, key=lambda run: measured[run]) if measured else None
        mean = sum(measured.values()) / len(measured) if measured else None
        least = measured[best] if best else None
        lines.append(
            {name: value, "runs": len(members), f"mean {_BEST}": mean, f"least {_BEST}": least, "least of": best}
        )
    lines.sort(key=lambda line: (line[f"least {_BEST}"] is None, line[f"least {_BEST}"] or 0))
    return lines


@st.cache_resource(max_entries=4, show_spinner="Reading the recipes")
def fields_of(_models: Sequence[Artifact], digests: Sequence[str]) -> list[Mapping[str, Any]]:
    """Return each model's recipe fields by dotted path, shared by all viewers."""
    return [dotted(model.manifest.recipe) for model in _models]


def choose_runs(runs: Sequence[Run], *, columns: Mapping[str, Any], key: str, most: int) -> None:
    """Show the table. The first ``most`` chosen lines become the value of the widget ``key``."""
    left, middle, right = st.columns([3, 3, 2])
    query = left.text_input(
        "Filter",
        key="run-filter",
        placeholder="demo learning_rate>0.001",
        help="Words of the run's name, and conditions such as masking.strategy=uniform or held-out_loss<2.5.",
    )
    fields = varying(runs)
    added = middle.multiselect("Recipe fields as columns", fields, key="run-columns")
    group = right.selectbox("Group by", fields, index=None, key="run-group", placeholder="no groups")
    try:
        shown = matching(runs, query)
    except UserError as error:
        st.warning(str(error), icon=":material/filter_alt_off:")
        shown = list(runs)
    st.caption(f"{len(shown):,} of {len(runs):,} runs. Press a column's name to sort; choose lines to compare them.")
    if group:
        four = st.column_config.NumberColumn(format="%.4f")
        st.dataframe(
            grouped_by(shown, group),
            hide_index=True,
            column_config={f"mean {_BEST}": four, f"least {_BEST}": four},
        )
    table = f"run-table-{hash(tuple(run.id for run in shown))}"

    def chosen() -> None:
        lines = st.session_state[table]["selection"]["rows"]
        if lines:
            st.session_state[key] = [shown[line].id for line in lines[:most]]

    st.dataframe(
        [{**run.figures, **{name: run.value(name) for name in added}} for run in shown],
        key=table,
        hide_index=True,
        column_config=dict(columns),
        selection_mode="multi-row",
        on_select=chosen,
        height=min(38 + 35 * max(len(shown), 1), 420),
    )
