"""Identifiers (PHI) in notes: the entity task, summed up as de-identification is. A group is a document; i2b2 2014: a patient.

A missed identifier harms more than a word hidden without need. So the main figure is F2 of words, which counts recall twice,
whatever the type (Norgeot et al., 2020, Philter; i2b2 2014's binary evaluation). Recall of each type is in the error analysis.
"""

from clinical_modernbert.evaluation.tasks.entities import (
    VALUES,
    baselines,
    errors,
    load,
    measure,
    paths,
    run,
    sample_size,
    trains,
)

__all__ = [
    "MAIN_METRICS",
    "PLAIN",
    "SHOWN",
    "TITLE",
    "VALUES",
    "baselines",
    "errors",
    "load",
    "measure",
    "paths",
    "run",
    "sample_size",
    "trains",
]

TITLE = "de-identification"
PLAIN = "Find names, dates, places and numbers that identify a patient."
MAIN_METRICS = ("token_f2",)
SHOWN = ("token_f2", "token_recall", "token_precision", "recall", "f1")
