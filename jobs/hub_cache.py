"""Copy a Hugging Face cache into the artifact store, or from it.

python jobs/hub_cache.py push|pull [FOLDER] [--root URI]     (FOLDER is $HF_HOME/hub by default)
"""

import argparse
import os
import sys
from pathlib import Path

from clinical_modernbert.cluster.hub_cache import pull, push
from clinical_modernbert.errors import UserError
from clinical_modernbert.job import end, open_root


def main() -> None:
    """Push or pull; exit with 1 and one message on failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("push", "pull"))
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    parser.add_argument("folder", nargs="?", type=Path, default=home / "hub")
    parser.add_argument("--root", help="artifact store (or ARTIFACT_ROOT)")
    options = parser.parse_args()
    try:
        store = open_root(options.root)
        num_files = len(push(store, options.folder).files) if options.action == "push" else pull(store, options.folder)
    except UserError as error:
        end(error)
    sys.stdout.write(f"{options.action}: {num_files} files, {store.uri}/hub and {options.folder}\n")


if __name__ == "__main__":
    main()
