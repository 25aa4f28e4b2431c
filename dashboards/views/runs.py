"""Pretraining runs: curves of one or several, the differences of their recipes, and the runs in progress.

A live curve is read every few seconds, once for all viewers. The page says how long it has seen no new step: the store records
no heartbeat, so a killed run looks like a waiting one.
"""

import time

import streamlit as st
from clinical_modernbert.artifacts import Artifact, Store
from clinical_modernbert.errors import ArtifactError, StoreError
from panels.charts import MOST_SERIES, Row
from panels.curves import Curve, Running, finished_curve, has_curve, running, running_ids
from panels.kept import keep, kept_list, say_absent_link
from panels.recipe_differences import differing
from panels.run_curves import GROUPS, OVER, SMOOTHING, Over, show_curves
from panels.run_table import Run, choose_runs, fields_of
from store import list_kind, opened, readable, show_problems, show_store_error, store_or_stop

_REFRESH_S = 5
_STUCK_S = 120


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
    st.header("Not finished")
    group = st.segmented_control("Curves", GROUPS, default="Loss", key="live-group") or "Loss"

    @st.fragment(run_every=_REFRESH_S)
    def follow() -> None:
        found, unreadable = [], []
        for run in live:
            try:
                state = running(store, run)
            except ArtifactError as error:
                unreadable.append(str(error))
            except StoreError as error:  # a fragment runs by itself: the page around it does not see this
                show_store_error(error)
                return
            else:
                found += [state] if state else []
        show_problems(tuple(unreadable))
        for state in found:
            _show_state(state)
        if found:
            show_curves([state.curve for state in found][:MOST_SERIES], group, Over(), key="live")
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
    st.header("Finished")
    fields = fields_of(list(models.values()), [model.manifest.digest for model in models.values()])
    runs = [Run(run, _line(model), of_run) for (run, model), of_run in zip(models.items(), fields, strict=True)]
    choose_runs(runs, columns=_COLUMNS, key="runs", most=MOST_SERIES)
    say_absent_link("runs", models, several=True)
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
        group = st.segmented_control("Curves", GROUPS, default="Loss", key="group") or "Loss"
        over = st.segmented_control("Over", list(OVER), default="steps", key="over") or "steps"
        smoothing = st.slider("Smoothing", 0.0, 0.99, 0.0, key="smoothing", help=SMOOTHING)
    curves, unreadable = [], []
    for run in chosen:
        try:
            curves.append(finished_curve(opened(models[run])))
        except ArtifactError as error:
            unreadable.append(str(error))
    show_problems(tuple(unreadable))
    show_curves(curves, group, Over(*OVER[over], smoothing), key="finished")
    _show_phases([models[run] for run in chosen])
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


def _show_phases(models: list[Artifact]) -> None:
    """Show what each phase of the runs read and predicted."""
    rows: list[Row] = [
        {
            "run": model.manifest.id,
            "phase": "before" if account["phase"] is None else str(account["phase"] + 1),
            "objective": account["objective"],
            "steps": account["steps"],
            "tokens predicted": account["predicted"],
            "corpus": corpus,
            "tokens read": tokens,
        }
        for model in models
        for account in model.summary.get("phases", ())
        for corpus, tokens in account["tokens"].items()
    ]
    if rows:
        with st.expander(f"Phases and their corpora ({len(rows)})"):
            st.dataframe(rows, hide_index=True)


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
