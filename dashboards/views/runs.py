"""Pretraining runs: curves of one or several, the differences of their recipes, and the runs in progress.

A live curve is read every few seconds, once for all viewers. The page says how long it has seen no new step: the store records
no heartbeat, so a killed run looks like a waiting one.
"""

import time
from dataclasses import dataclass

import streamlit as st
from clinical_modernbert.artifacts import Artifact, Store
from clinical_modernbert.errors import ArtifactError
from clinical_modernbert.masking import MASK_KINDS, TOP_K
from panels.charts import MOST_SERIES, Row, line_chart
from panels.curves import Curve, Running, finished_curve, has_curve, running, running_ids, smooth
from panels.kept import keep, kept_list
from panels.recipe_differences import differing
from panels.run_table import Run, choose_runs, fields_of
from store import list_kind, opened, readable, show_problems, store_or_stop

_REFRESH_S = 5
_STUCK_S = 120
# Group -> (field of a point, title). Held-out figures have their own group.
_STEP_FIGURES = {
    "Loss": (("loss", "training loss, nats"), ("gradient_norm", "gradient norm")),
    "Schedules": (
        ("learning_rate", "learning rate"),
        ("mask_rate", "mask rate"),
        ("salience_odds", "odds of clinical tokens"),
    ),
    "Speed": (
        ("tokens_per_second", "tokens a second"),
        ("mfu", "share of the hardware's peak (MFU)"),
        ("data_wait", "share of time waiting for data"),
        ("memory_bytes", "peak memory, bytes"),
    ),
}
_GROUPS = ("Loss", "Top-k", "Schedules", "Speed")
# Choice -> field of a point, title.
_OVER = {"steps": ("step", "step"), "tokens": ("tokens_so_far", "tokens"), "hours": ("hours_so_far", "hours of steps")}
_SMOOTHING = (
    "Running means of the figures of steps: the weight of a point against the next. Held-out figures stay as they are."
)


@dataclass(frozen=True, slots=True)
class Axis:
    """What curves are drawn over, and how much figures of steps are smoothed."""

    field: str = "step"
    title: str = "step"
    smoothing: float = 0.0


def page() -> None:
    """Show the runs in progress, then the curves of the chosen runs."""
    st.title("Runs")
    store = store_or_stop()
    listing = list_kind(store, "model")
    show_problems(listing.problems)
    models = {model.manifest.id: model for model in readable([m for m in listing.artifacts if has_curve(m)])}
    live = running_ids(store)
    if not models and not live:
        st.info(f"There is no pretraining run in {store.uri} yet.", icon=":material/inbox:")
        st.code("python jobs/pretrain.py pretrain/demo", language=None)
        return
    if live:
        _show_live(store, live)
    if models:
        _show_finished(models)


def _show_live(store: Store, live: list[str]) -> None:
    st.subheader("Not finished")
    group = st.segmented_control("Curves", _GROUPS, default="Loss", key="live-group") or "Loss"

    @st.fragment(run_every=_REFRESH_S)
    def follow() -> None:
        found, unreadable = [], []
        for run in live:
            try:
                state = running(store, run)
            except ArtifactError as error:
                unreadable.append(str(error))
            else:
                found += [state] if state else []
        show_problems(tuple(unreadable))
        for state in found:
            _show_state(state)
        if found:
            show_curves([state.curve for state in found][:MOST_SERIES], group, Axis())
        if len(found) + len(unreadable) < len(live):
            st.info("A run has finished: reload the page to see it below.", icon=":material/flag:")

    follow()


def _show_state(state: Running) -> None:
    seen: dict[str, tuple[int, float]] = st.session_state.setdefault("seen-steps", {})
    step, since = seen.get(state.run, (-1, 0.0))
    if step != state.step:
        step, since = seen[state.run] = state.step, time.monotonic()
    last = state.curve.last
    facts = [f"step {state.step:,} of {state.num_steps:,} ({state.step / max(state.num_steps, 1):.0%})"]
    if last:
        facts.append(f"loss {last['loss']:.3f}")
    left = seconds_left(state)
    if left is not None:
        facts.append(f"about {_duration(left)} left at this speed")
    # Text, not st.progress: that bar has no label for screen readers.
    st.markdown(f"**{state.run}** · {' · '.join(facts)}")
    quiet_s = time.monotonic() - since
    if quiet_s > _STUCK_S:
        st.warning(
            f"This page has seen no new step for {_duration(quiet_s)}: the run waits, evaluates, or was stopped.",
            icon=":material/hourglass_disabled:",
        )


def seconds_left(state: Running) -> float | None:
    """Return the seconds to the last step at the last measured speed; None before one was measured."""
    speed = next((p["tokens_per_second"] for p in reversed(state.curve.steps) if p.get("tokens_per_second")), None)
    if not speed or not state.curve.last:
        return None
    return float((state.num_steps - state.step) * state.curve.last["tokens"] / speed)


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _show_finished(models: dict[str, Artifact]) -> None:
    st.subheader("Finished")
    fields = fields_of(list(models.values()), [model.manifest.digest for model in models.values()])
    runs = [Run(run, _line(model), of_run) for (run, model), of_run in zip(models.items(), fields, strict=True)]
    choose_runs(runs, columns=_COLUMNS, key="runs", most=MOST_SERIES)
    if "runs" not in st.session_state:
        # The newest of the longest runs: trials of a sweep are newer and shorter.
        longest = max(models, key=lambda run: models[run].summary.get("num_steps") or 0)
        st.session_state["runs"] = kept_list("runs", models)[:MOST_SERIES] or [longest]
    st.session_state["runs"] = [run for run in st.session_state["runs"] if run in models]  # one may have been deleted
    chosen = st.multiselect(f"Compare up to {MOST_SERIES}", list(models), max_selections=MOST_SERIES, key="runs")
    keep("runs", ",".join(chosen))
    if not chosen:
        return
    with st.container(horizontal=True):
        group = st.segmented_control("Curves", _GROUPS, default="Loss", key="group") or "Loss"
        over = st.segmented_control("Over", list(_OVER), default="steps", key="over") or "steps"
        smoothing = st.slider("Smoothing", 0.0, 0.99, 0.0, key="smoothing", help=_SMOOTHING)
    curves = [finished_curve(opened(models[run])) for run in chosen]
    show_curves(curves, group, Axis(*_OVER[over], smoothing))
    _show_notes(curves)
    if len(chosen) > 1:
        _show_differences([models[run] for run in chosen])


_COLUMNS = {
    "top-1": st.column_config.NumberColumn(format="percent", help="Held out, uniform mask"),
    "top-1, clinical terms": st.column_config.NumberColumn(format="percent", help="Held out, entity mask"),
    "MFU": st.column_config.NumberColumn(format="percent", help="Useful operations over the hardware's peak"),
    "operations": st.column_config.NumberColumn(format="scientific"),
    **dict.fromkeys(("parameters", "steps", "tokens a second"), st.column_config.NumberColumn(format="localized")),
    "held-out loss": st.column_config.NumberColumn(format="%.4f"),
}


def _line(model: Artifact) -> Row:
    summary, held_out = model.summary, model.summary.get("held_out", {})
    return {
        "run": model.manifest.id,
        "made": model.manifest.created_at[:16].replace("T", " "),
        "corpus": summary.get("corpus"),
        "parameters": summary.get("num_parameters"),
        "steps": summary.get("num_steps"),
        "held-out loss": held_out.get("uniform_loss"),
        "top-1": held_out.get("uniform_top1"),
        "top-1, clinical terms": held_out.get("entity_top1"),
        "tokens a second": summary.get("tokens_per_second"),
        "MFU": summary.get("mfu"),
        "operations": summary.get("training_flops"),
        "rollbacks": summary.get("rollbacks"),
    }


def show_curves(curves: list[Curve], group: str, axis: Axis) -> None:
    """Draw one group of figures, a line a run; figures that no run measured are left out."""
    panels: list[tuple[str, list[Row]]] = []
    for field, title in _STEP_FIGURES.get(group, ()):
        panels.append((title, _rows(curves, "steps", field, title, axis)))
    if group == "Loss":
        for mask in MASK_KINDS:
            title = f"held-out loss, {mask} mask, nats"
            panels.append((title, _rows(curves, "held_out", f"{mask}_loss", title, axis)))
    if group == "Top-k":
        for mask in MASK_KINDS:
            for k in TOP_K:
                title = f"held-out top-{k}, {mask} mask"
                panels.append((title, _rows(curves, "held_out", f"{mask}_top{k}", title, axis)))
    drawn = [(title, rows) for title, rows in panels if rows]
    if not drawn:
        st.info("None of these figures was measured yet.", icon=":material/show_chart:")
        return
    width = 4 if group == "Top-k" else 2
    for start in range(0, len(drawn), width):
        for column, (title, rows) in zip(st.columns(width), drawn[start : start + width], strict=False):
            with column:
                line_chart(rows, x=axis.title, y=title, series="run", alt=f"{title} over {axis.title}")
    st.caption(
        "Held-out figures use frozen masks on text of patients, citations and codes that are not in the training part."
    )
    with st.expander("The last figures as a table"):
        last = [
            {"run": rows[-1]["run"], "figure": title, axis.title: rows[-1][axis.title], "value": rows[-1][title]}
            for title, all_ in drawn
            for rows in _by_run(all_)
        ]
        st.dataframe(last, hide_index=True)


def _rows(curves: list[Curve], part: str, field: str, title: str, axis: Axis) -> list[Row]:
    rows: list[Row] = []
    for curve in curves:
        points = [p for p in getattr(curve, part) if p.get(field) is not None and p.get(axis.field) is not None]
        values = smooth([point[field] for point in points], axis.smoothing if part == "steps" else 0.0)
        shift = axis.field == "step"  # steps are counted from 1 on the page
        rows += [
            {"run": curve.run, axis.title: point[axis.field] + shift, title: value}
            for point, value in zip(points, values, strict=True)
        ]
    return rows


def _by_run(rows: list[Row]) -> list[list[Row]]:
    runs = dict.fromkeys(row["run"] for row in rows)
    return [[row for row in rows if row["run"] == run] for run in runs]


def _show_notes(curves: list[Curve]) -> None:
    rows = []
    for curve in curves:
        for note in curve.notes:
            back = (
                f"rolled back to step {note['rolled_back_to']:,}: {note['reason']}"
                if "rolled_back_to" in note
                else None
            )
            rows.append(
                {"run": curve.run, "step": note["step"], "event": back or f"started {note['started'][:19]} UTC"}
            )
    if rows:
        with st.expander(f"Starts and rollbacks ({len(rows)})"):
            st.dataframe(rows, hide_index=True)


def _show_differences(models: list[Artifact]) -> None:
    st.markdown("**Differences of their recipes**")
    rows = differing({model.manifest.id: model.manifest.recipe for model in models})
    if rows:
        st.dataframe(rows, hide_index=True)
    else:
        st.markdown("None.")


if __name__ == "__main__":
    page()
