"""Convert a training checkpoint of ModernBERT's authors (Composer) to a model folder for ``model.init`` of a pretrain recipe.

python jobs/convert.py ep0-ba52988-rank0.pt answerdotai/ModernBERT-base folder
"""

import argparse
import sys
from pathlib import Path

from clinical_modernbert.errors import UserError
from clinical_modernbert.job import end


def main() -> None:
    """Write the folder and print its path; exit with 2 if the checkpoint does not fit the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="the .pt file; no code in it runs")
    parser.add_argument("like", help="hub id or folder of the same model, for its config and tokenizer")
    parser.add_argument("folder", type=Path, help="new folder to write")
    options = parser.parse_args()
    from clinical_modernbert.encoder.composer import convert_to_folder

    try:
        convert_to_folder(options.checkpoint, like=options.like, folder=options.folder)
    except UserError as error:
        end(error)
    sys.stdout.write(f"{options.folder}\n")


if __name__ == "__main__":
    main()
