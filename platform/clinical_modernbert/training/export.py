"""What a finished run leaves: a folder that Hugging Face's classes load, its curves, and the figures of its manifest."""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from clinical_modernbert.artifacts import Store, upload, upload_folder
from clinical_modernbert.artifacts.layout import artifact_prefix
from clinical_modernbert.encoder import num_parameters
from clinical_modernbert.training.checkpoint import History


def upload_model(store: Store, run_id: str, *, model: Any, tokenizer: Any, history: History) -> list[dict[str, Any]]:
    """Upload the model's folder and ``history.json``; return their manifest entries."""
    prefix = artifact_prefix("model", run_id)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model.save_pretrained(folder / "model", safe_serialization=True)
        tokenizer.save_pretrained(folder / "model")
        entries = upload_folder(store, prefix, folder / "model", below="model")
        (folder / "history.json").write_text(json.dumps(history), encoding="utf-8")
        entries.append(upload(store, prefix, "history.json", folder / "history.json"))
    return [entry.model_dump() for entry in entries]


def summarise(model: Any, history: History, *, num_steps: int, precision: str) -> dict[str, Any]:
    """Return the manifest's figures of a run from its curve."""
    steps = [point for point in history if "loss" in point]
    return {
        "num_parameters": num_parameters(model),
        "num_steps": num_steps,
        "precision": precision,
        "loss_first": steps[0]["loss"],
        "loss_last": steps[-1]["loss"],
        "tokens_per_second": _median(steps, "tokens_per_second"),
        "mfu": _median(steps, "mfu"),
        "row_order": hashlib.sha256("".join(point["rows"] for point in steps).encode()).hexdigest(),
        "training_flops": num_steps * sum(point["flops"] for point in steps) / len(steps),
    }


def weights_digest(model: Any) -> str:
    """Return sha256 over the parameters' names and bytes: runs that are compared start from the same ones."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.named_parameters()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _median(points: History, key: str) -> float | None:
    values = sorted(point[key] for point in points if point.get(key))
    return values[len(values) // 2] if values else None
