"""What `helm test` runs inside the cluster: ``python jobs/check_install.py --root s3://... --research URL --endpoint URL``."""

import argparse
import os
import sys

from clinical_modernbert.cluster.checks import check_endpoint, check_explorer, check_store, check_token
from clinical_modernbert.errors import UserError
from clinical_modernbert.job import open_root


def main() -> None:
    """Print what each part answered; exit with 1 at the first that is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", help="artifact store (or ARTIFACT_ROOT)")
    parser.add_argument("--research", help="URL of a Ray dashboard; its token in RAY_AUTH_TOKEN")
    parser.add_argument("--endpoint", help="URL of the endpoint")
    parser.add_argument("--explorer", help="URL of the explorer")
    options = parser.parse_args()
    try:
        sys.stdout.write(f"{check_store(open_root(options.root))}\n")
        if options.research:
            sys.stdout.write(f"{check_token(options.research, os.environ.get('RAY_AUTH_TOKEN'))}\n")
        if options.endpoint:
            sys.stdout.write(f"{check_endpoint(options.endpoint)}\n")
        if options.explorer:
            sys.stdout.write(f"{check_explorer(options.explorer)}\n")
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
