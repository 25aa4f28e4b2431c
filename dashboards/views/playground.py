"""Try the served model: words that fit a gap, and the similarity of texts.

Typed text is sent to the endpoint only. It is not stored, not in the address and not in a log, and the session forgets it when
the user leaves the page. Answers stay on the page until the next click.
"""

from collections.abc import Callable
from typing import Any

import streamlit as st
from clinical_modernbert.serving.client import Client, EndpointError
from endpoint import Info, open_endpoint, served_info
from mode import is_researcher
from panels.charts import bar_chart

MASK = "[MASK]"
_MOST_CHARACTERS = 4000
_TOP_K = 10
# Error code of the endpoint -> message.
_CAUSES = {
    "invalid_api_key": "It requires an API key, and the explorer has no valid one (ENDPOINT_KEY).",
    "insufficient_scope": "The explorer's key lacks the scope for this request.",
    "text_too_long": "The text is too long for the model.",
    "no_mask": f"The text has no gap: write {MASK} where the model should guess a word.",
}


def page() -> None:
    """Show both forms, or why the endpoint cannot be used."""
    st.title("Try the model")
    st.caption(
        "Your text is sent to the endpoint and is not stored. Do not type anything that identifies a patient: this is for "
        "research, not for care."
    )
    client = open_endpoint()
    if client is None:
        st.info("No endpoint is configured. Ask your administrator to set ENDPOINT_URL.", icon=":material/link_off:")
        st.code("make serve\nENDPOINT_URL=http://127.0.0.1:8000 make explore", language=None)
        return
    info = answer_or_explain(lambda: served_info(client))
    if info is None:
        return
    _show_model(info)
    filling, comparing = st.tabs(["Which words fit?", "How alike?"])
    with filling:
        _show_fill(client, info)
    with comparing:
        _show_similarity(client)


def answer_or_explain(ask: Callable[[], Any]) -> Any:
    """Return an answer of the endpoint. Where there is none, say why and return None."""
    try:
        return ask()
    except EndpointError as error:
        if error.status is None:
            st.error("The endpoint does not answer.", icon=":material/cloud_off:")
            st.markdown("It may be starting or down. Your text was not kept. Try again in a minute.")
        else:
            st.error("The endpoint refused the request.", icon=":material/block:")
            st.markdown(
                _CAUSES.get(error.code or "", f"Its reason: `{error.code or 'none given'}` (HTTP {error.status}).")
            )
        return None


def _show_model(info: Info) -> None:
    facts = [f"Served model: `{info['model']}`"]
    if is_researcher():
        facts += [
            f"{info['pooling']} pooling",
            f"{info['hidden_size']} numbers",
            f"up to {info['max_input_length']:,} tokens",
        ]
        facts.append(f"content `{info['digest'][:12]}`")
    st.caption(" · ".join(facts))


def _show_fill(client: Client, info: Info) -> None:
    if info["head"] != "masked-lm":
        st.info("The served model was fine-tuned for a task and does not guess words.", icon=":material/edit_off:")
        return
    with st.form("fill"):
        text = st.text_area(
            f"A text with {MASK} where a word is missing",
            placeholder=f"The patient was started on {MASK} for hypertension.",
            max_chars=_MOST_CHARACTERS,
            key="fill-text",
        )
        asked = st.form_submit_button("Guess")
    if not asked:
        return
    if MASK not in text:
        st.info(_CAUSES["no_mask"], icon=":material/edit:")
        return
    answer = answer_or_explain(lambda: client.fill_mask(text, top_k=_TOP_K))
    if answer is None:
        return
    for number, guesses in enumerate(by_mask(answer), start=1):
        rows = [{"word": guess["token_str"].strip() or "(space)", "certainty": guess["score"]} for guess in guesses]
        st.markdown(f"**Gap {number}**")
        left, right = st.columns(2)
        with left:
            bar_chart(rows, x="certainty", y="word", alt="The likeliest words and how sure the model is of each.")
        right.dataframe(rows, hide_index=True, column_config=_PERCENT)
    st.caption(
        "The certainty is the model's estimate of what is usual in such texts, not of what is right for a patient."
    )


def by_mask(answer: list[Any]) -> list[list[dict[str, Any]]]:
    """Return the guesses of each mask. The endpoint's answer is nested one level deeper where a text has several masks."""
    return [answer] if answer and isinstance(answer[0], dict) else answer


def _show_similarity(client: Client) -> None:
    with st.form("similarity"):
        source = st.text_input(
            "A text", placeholder="short of breath", max_chars=_MOST_CHARACTERS, key="source-text", autocomplete="off"
        )
        others = st.text_area(
            "Texts to compare it with, one a line",
            placeholder="dyspnoea\nankle sprain",
            max_chars=_MOST_CHARACTERS,
            key="other-texts",
        )
        asked = st.form_submit_button("Compare")
    if not asked:
        return
    lines = [line.strip() for line in others.splitlines() if line.strip()]
    if not source.strip() or not lines:
        st.info("Both fields need some text.", icon=":material/edit:")
        return
    body = {"inputs": {"source_sentence": source, "sentences": lines}}
    scores = answer_or_explain(lambda: client.call("POST", "/similarity", body))
    if scores is None:
        return
    rows = [{"text": line, "similarity": score} for line, score in zip(lines, scores, strict=True)]
    rows.sort(key=lambda row: -row["similarity"])
    st.dataframe(rows, hide_index=True, column_config={"similarity": st.column_config.NumberColumn(format="%.3f")})
    st.caption(
        "Cosine similarity; 1 is the same direction. Compare lines with each other: a single figure says little, since all "
        "vectors of an encoder are in a narrow cone."
    )


_PERCENT = {"certainty": st.column_config.NumberColumn(format="percent")}


if __name__ == "__main__":
    page()
