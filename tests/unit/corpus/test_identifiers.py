"""The guard finds what was planted, takes little else, and hands out counts only."""

from collections import Counter

import numpy as np
from clinical_modernbert.corpus.identifiers import mask_identifiers

PLANTED = {
    "email": ["jane.doe@hospital.org", "j_smith+er@mail.example.co.uk"],
    "ssn": ["219-09-9999", "078-05-1120"],
    "record_number": ["MRN: 4471902", "Medical Record Number 00-12-8834", "Patient ID: AB448812", "Unit No: 884-12-99"],
    "telephone": ["(617) 555-0134", "617-555-0188", "+1 617 555 0199", "+44 20 7946 0958", "617.555.0101"],
    "date": ["2019-03-14", "03/14/2019", "3/4/19", "March 14, 2019", "14 Mar 2019", "Sept. 3rd, 2020", "14-03-2019"],
    "name": ["Attending: John Smith", "Dr. O'Brien", "Name: Mary A. Jones", "Mrs. Garcia", "Signed by: Peter van"],
}
HARMLESS = [
    "BP 120/80, HR 88, SpO2 97 % on 2 L, T 98.6.",
    "Glucose 110-140, creatinine 1.2, WBC 10.4, platelets 250.",
    "Take 325 mg 1-2 tablets q4-6h, max 8/24 h.",
    "Trial NCT01234567 enrolled 1,204 patients in 2010-2015; p = 0.003.",
    "ICD-10 E11.9, CPT 99213, PMID 12345678, doi 10.1000/182.",
    "Name: ___ Unit No: ___ Attending: ___ on ___.",
    "Grade 3/4 neutropenia in 12/34 (35 %), ratio 1:250, stage 2.",
    "Seen in March 2019 and again in 2020.",
    "Lot 45-678, L4-5 disc, C3-4-5, 10-20-30 mg taper.",
    "Dr. ___ was called; Mr. ___ is stable.",
]


def test_recall_and_precision_on_planted_cases() -> None:
    rng = np.random.default_rng(0)
    hits: Counter[str] = Counter()
    planted: Counter[str] = Counter()
    wrong = 0
    for kind, cases in PLANTED.items():
        for case in cases:
            before, after = rng.choice(HARMLESS, 2)
            found = mask_identifiers(f"{before} {case}. {after}")[1]
            planted[kind] += 1
            hits[kind] += min(found[kind], 1)
            wrong += found.total() - min(found[kind], 1)
    wrong += sum(mask_identifiers(text)[1].total() for text in HARMLESS)
    assert hits == planted
    assert wrong == 0


def test_masking_leaves_the_rest_and_nothing_to_find() -> None:
    masked, counts = mask_identifiers("Seen 03/14/2019, call 617-555-0188. Stable.")
    assert masked == "Seen ___, call ___. Stable."
    assert counts == {"date": 1, "telephone": 1}
    assert not mask_identifiers(masked)[1]
