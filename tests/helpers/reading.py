"""What transformers and sentence-transformers read from the folder of a model, in versions 4 and 5 alike.

As a program it prints the readings of the folders in its arguments as JSON; it then runs where this package is not installed.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers

TEXT = "The patient took warfarin 5 mg daily in the ward, then [MASK] 3 mg daily in the clinic, and insulin in the hospital."
Reading = dict[str, Any]
"""See ``read_model``."""


def read_model(folder: Path) -> Reading:
    """Return ids and outputs of ``TEXT``, the vector of sentence-transformers, and where tokenizer and weights end."""
    model_class = getattr(transformers, json.loads((folder / "config.json").read_text())["architectures"][0])
    model, loaded = model_class.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer(TEXT, return_tensors="pt")
    with torch.inference_mode():
        output = model(**encoded)[0]
    from sentence_transformers import SentenceTransformer

    embedder = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    return {
        "version": transformers.__version__,
        "not_loaded": sorted([*loaded["missing_keys"], *loaded["unexpected_keys"]]),
        "ids": encoded["input_ids"][0].tolist(),
        "output": output[0].tolist(),
        "vector": embedder.encode([TEXT])[0].tolist(),
        "longest": len(tokenizer("pain " * 999, truncation=True)["input_ids"]),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.stdout.write(json.dumps([read_model(Path(folder)) for folder in sys.argv[1:]]) + "\n")
