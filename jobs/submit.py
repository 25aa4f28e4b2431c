"""Run a job as a RayJob on Kubernetes: ``python jobs/submit.py pretrain pretrain/base --release NAME --workers cpu=2``."""

from clinical_modernbert.cluster.command import main

if __name__ == "__main__":
    main()
