"""Examples of every body, for the OpenAPI page; a test sends each of them."""

from typing import Any

from fastapi import Body

_NOTES = ["chest pain radiating to the left arm", "no acute distress"]


def body(path: str, **values: Any) -> Any:
    """Return the body parameter of a route with its examples; ``values`` are added to each."""
    examples = {
        name: {"summary": name.replace("_", " "), "value": {**example, **values}}
        for name, example in _EXAMPLES[path].items()
    }
    return Body(openapi_examples=examples)  # type: ignore[arg-type]  # FastAPI's own TypedDict has every key optional


_EXAMPLES: dict[str, dict[str, dict[str, Any]]] = {
    "/v1/embeddings": {
        "one_text": {"input": _NOTES[0]},
        "a_list_as_base64": {"input": _NOTES, "encoding_format": "base64"},
        "narrower_vectors": {"input": _NOTES, "dimensions": 16},
        "a_long_text_in_windows": {"input": "acute kidney injury " * 100, "windows": True},
    },
    "/embed": {
        "one_text": {"inputs": _NOTES[0]},
        "a_list_cut_where_too_long": {"inputs": _NOTES, "truncate": True},
    },
    "/embed_all": {"one_text": {"inputs": _NOTES[0]}},
    "/similarity": {
        "synonyms": {"inputs": {"source_sentence": "short of breath", "sentences": ["dyspnoea", "ankle sprain"]}}
    },
    "/tokenize": {"one_text": {"inputs": "warfarin 5 mg daily"}},
    "/fill-mask": {
        "the_likeliest": {"inputs": "warfarin 5 [MASK] daily"},
        "among_targets": {"inputs": "warfarin 5 [MASK] daily", "parameters": {"targets": ["m", "x"]}},
    },
    "/predict": {
        "one_text": {"inputs": "Patients were randomised to aspirin or placebo."},
        "a_batch": {"inputs": [["short of breath"], ["ankle sprain"]]},
        "the_best_label": {"inputs": "short of breath", "parameters": {"top_k": 1}},
    },
    "/token-classify": {
        "one_text": {"inputs": "Started warfarin 5 mg daily."},
        "every_token": {
            "inputs": ["Started warfarin."],
            "parameters": {"aggregation_strategy": "none", "ignore_labels": []},
        },
    },
}
