"""Check an installed release; `helm test` runs this inside the cluster.

python jobs/check_install.py --root s3://bucket/prefix [--research URL] [--endpoint URL] [--explorer URL]
"""

import argparse
import os
import sys

from clinical_modernbert.cluster.checks import check_endpoint, check_explorer, check_store, check_token
from clinical_modernbert.errors import UserError
from clinical_modernbert.job import open_root


def main() -> None:
    """Print the answer of each component; exit with 1 at the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="artifact store, a folder or s3://bucket/prefix (or ARTIFACT_ROOT)")
    parser.add_argument("--research", help="URL of the research cluster's Ray dashboard; RAY_AUTH_TOKEN has its token")
    parser.add_argument("--endpoint", help="URL of the endpoint")
    parser.add_argument("--model", help="model that the endpoint must serve, a reference into the store")
    parser.add_argument("--explorer", help="URL of the explorer")
    options = parser.parse_args()
    try:
        sys.stdout.write(f"{check_store(open_root(options.root))}\n")
        if options.research:
            sys.stdout.write(f"{check_token(options.research, os.environ.get('RAY_AUTH_TOKEN'))}\n")
        if options.endpoint:
            sys.stdout.write(f"{check_endpoint(options.endpoint, model=options.model)}\n")
        if options.explorer:
            sys.stdout.write(f"{check_explorer(options.explorer)}\n")
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
