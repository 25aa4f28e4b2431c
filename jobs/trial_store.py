"""Write the users of the chart's trial store to a file that it reads when it starts: an init container of its pod runs this.

ARTIFACT_ROOT=s3://bucket/prefix READER_ACCESS_KEY_ID=... READER_SECRET_ACCESS_KEY=... python jobs/trial_store.py FILE
"""

import argparse
import os
import sys
from pathlib import Path

from clinical_modernbert.cluster.trial_store import identities
from clinical_modernbert.errors import UserError
from clinical_modernbert.job import end


def main() -> None:
    """Exit with 2 and one message if two roles have one key."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    options = parser.parse_args()
    root = os.environ.get("ARTIFACT_ROOT", "")
    if not root.startswith("s3://"):
        sys.exit("error: ARTIFACT_ROOT must be s3://bucket/prefix: the policies of the roles name both")
    try:
        options.file.write_text(identities(os.environ, root=root), encoding="utf-8")
    except UserError as error:
        end(error)


if __name__ == "__main__":
    main()
