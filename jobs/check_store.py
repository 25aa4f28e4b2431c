"""Check that the store restricts the keys of the environment to a role, or print the policy of the role.

python jobs/check_store.py reader --root s3://bucket/prefix [--policy]
"""

import argparse
import json
import os
import sys

from clinical_modernbert.cluster.access import ROLES, policy
from clinical_modernbert.cluster.checks import check_access
from clinical_modernbert.errors import UserError
from clinical_modernbert.job import end, open_root


def main() -> None:
    """Exit with 1 if the store allows too much or too little."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", choices=ROLES)
    parser.add_argument("--root", default=os.environ.get("ARTIFACT_ROOT"), help="s3://bucket/prefix (or ARTIFACT_ROOT)")
    parser.add_argument("--policy", action="store_true", help="print the policy and exit")
    options = parser.parse_args()
    if not (options.root or "").startswith("s3://"):
        sys.exit("error: --root or ARTIFACT_ROOT must be s3://bucket/prefix: a folder has no roles")
    if options.policy:
        bucket, _, prefix = options.root.removeprefix("s3://").partition("/")
        sys.stdout.write(json.dumps(policy(options.role, bucket=bucket, prefix=prefix), indent=2) + "\n")
        return
    try:
        findings = check_access(open_root(options.root), options.role)
    except UserError as error:
        end(error)
    sys.stdout.writelines(f"{finding}\n" for finding in findings)
    sys.exit(0 if all(finding.ok for finding in findings) else 1)


if __name__ == "__main__":
    main()
