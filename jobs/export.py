"""Export a model for onnxruntime or OpenVINO, checked against torch. See docs/serving.md.

python jobs/export.py demo folder [--format onnx --format openvino] [--root URI]
"""

import argparse
import sys
from pathlib import Path
from typing import get_args

from clinical_modernbert.errors import UserError
from clinical_modernbert.job import end, open_root
from clinical_modernbert.recipe.vocabulary import Pooling, PortableFormat, PortableOutput


def main() -> None:
    """Write the folder and print its files; exit with 2 if the model cannot be exported."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="name or id of a model in the store")
    parser.add_argument("folder", type=Path, help="new folder to write")
    parser.add_argument("--format", action="append", choices=get_args(PortableFormat), help="by default onnx")
    parser.add_argument("--output", choices=get_args(PortableOutput), help="by default what the model's head is for")
    parser.add_argument("--pooling", choices=get_args(Pooling), help="by default that of the model's training, or cls")
    parser.add_argument("--root", help="artifact store (or ARTIFACT_ROOT)")
    given = parser.parse_args()
    from clinical_modernbert.encoder.portable import export_named

    try:
        choices = {"formats": given.format or ["onnx"], "output": given.output, "pooling": given.pooling}
        files = export_named(open_root(given.root), given.model, given.folder, **choices)
    except UserError as error:
        end(error)
    sys.stdout.writelines(f"{given.folder}/{file}\n" for file in files)


if __name__ == "__main__":
    main()
