"""Write ``seqeval.json``: random tag sequences with seqeval's figures.

python tests/golden/seqeval_cases.py, where seqeval 1.2.2 is installed (its source package needs setuptools_scm below 9 to build,
which is why it is no dependency).
"""

import json
import random
from pathlib import Path

from seqeval.metrics import f1_score, precision_score, recall_score

_TAGS = ("O", "O", "O", "B-A", "I-A", "B-B", "I-B")


def main() -> None:
    """Write 60 cases of one to four sequences."""
    rng = random.Random(0)
    cases = []
    for _ in range(60):
        gold = [[rng.choice(_TAGS) for _ in range(rng.randint(1, 9))] for _ in range(rng.randint(1, 4))]
        predicted = [[tag if rng.random() < 0.7 else rng.choice(_TAGS) for tag in row] for row in gold]
        figures = {
            name: float(metric(gold, predicted, zero_division=0))
            for name, metric in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score))
        }
        cases.append({"gold": [" ".join(r) for r in gold], "predicted": [" ".join(r) for r in predicted], **figures})
    Path(__file__).with_name("seqeval.json").write_text(json.dumps(cases, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
