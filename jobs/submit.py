"""Submit a job to a cluster and follow it to its end; follow, look at or cancel it by name. See docs/researcher.md.

python jobs/submit.py pretrain pretrain/demo --address http://localhost:8265              (a running Ray cluster)
python jobs/submit.py pretrain pretrain/demo --release NAME --namespace ml --workers cpu=2  (a RayJob with its own cluster)
python jobs/submit.py follow|status|cancel NAME --namespace ml
"""

from clinical_modernbert.cluster.command import main

if __name__ == "__main__":
    main()
