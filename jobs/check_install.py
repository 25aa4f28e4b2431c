"""Check a running release; `helm test` runs this inside the cluster.

python jobs/check_install.py --root s3://bucket/prefix [--research URL] [--endpoint URL --model NAME] [--explorer URL]
"""

from clinical_modernbert.cluster.install import main

if __name__ == "__main__":
    main()
