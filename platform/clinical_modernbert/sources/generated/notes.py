"""Generated discharge summaries: patients with one to eight admissions, whose slots (drugs, values, course) agree.

Masked the way MIMIC-IV-Note is (names, dates and places as ``___``) and hard-wrapped like it. About 2 % of the notes repeat an
earlier note word for word, as exports do.
"""

import textwrap
from dataclasses import dataclass

import numpy as np

from clinical_modernbert.sources.generated.conditions import CONDITIONS, NORMAL_LABS, Condition, Lab

# Notes in a row of this many indexes belong to a few patients.
_BLOCK = 8
# MIMIC-IV's subject_ids have 8 digits beginning with 1: these can never be taken for one of them.
_FIRST_SUBJECT = 90_000_000
_REPEATED_FRACTION = 0.02
_WRAP = 64

# A new drug of one of these kinds takes the place of an old one.
_ONE_OF = (
    frozenset({"warfarin", "apixaban", "rivaroxaban", "enoxaparin sodium"}),
    frozenset({"furosemide", "torsemide"}),
    frozenset({"simvastatin", "atorvastatin"}),
    frozenset({"metoprolol tartrate", "metoprolol succinate xl", "diltiazem extended-release"}),
    frozenset({"omeprazole", "pantoprazole"}),
)

# One independent stream for each purpose.
_SPLIT, _REPEAT, _PATIENT, _ADMISSION = range(4)


@dataclass(frozen=True, slots=True)
class Note:
    """One generated note with the identifiers of a MIMIC-IV-Note row."""

    subject_id: int
    admission_id: int
    sequence: int
    """Number of the note among its subject's, from 1."""
    time: str
    text: str


@dataclass(frozen=True, slots=True)
class _Patient:
    number: int
    sex: str
    age: int
    history: tuple[Condition, ...]
    allergy: str


def make_note(seed: int, index: int) -> Note:
    """Return the note with this index."""
    number, sequence = _subject(seed, index)
    written = index
    while written and _draw(seed, _REPEAT, written).random() < _REPEATED_FRACTION:
        written -= 1
    owner, admission = _subject(seed, written)
    time = f"2{_draw(seed, _ADMISSION, index).integers(110, 200)}-0{index % 9 + 1}-1{index % 10} 00:00:00"
    text = _write(_patient(seed, owner), admission, rng=_draw(seed, _ADMISSION, written))
    return Note(_FIRST_SUBJECT + number, 80_000_000 + index, sequence, time, text)


def _draw(seed: int, stream: int, index: int) -> np.random.Generator:
    return np.random.default_rng((seed, stream, index))


def _subject(seed: int, index: int) -> tuple[int, int]:
    """Return the number of the patient whom a note is about, and the note's sequence among the patient's."""
    block, place = divmod(index, _BLOCK)
    first_of_subject = _draw(seed, _SPLIT, block).random(_BLOCK) < 0.35
    first_of_subject[0] = True
    start = max(i for i in range(place + 1) if first_of_subject[i])
    return block * _BLOCK + start, place - start + 1


def _patient(seed: int, number: int) -> _Patient:
    rng = _draw(seed, _PATIENT, number)
    chronic = [condition for condition in CONDITIONS if condition.history_name]
    chosen = rng.choice(len(chronic), size=int(rng.integers(1, 4)), replace=False)
    allergy = _pick(rng, ("No Known Allergies / Adverse Drug Reactions", "Penicillins", "Sulfa", "codeine", "latex"))
    return _Patient(
        number, _pick(rng, ("M", "F")), int(rng.integers(28, 88)), tuple(chronic[i] for i in chosen), allergy
    )


def _write(patient: _Patient, admission: int, *, rng: np.random.Generator) -> str:
    others = [condition for condition in CONDITIONS if condition not in patient.history]
    # Chronic conditions bring people back; the first of the history explains about a third of the admissions.
    main = patient.history[0] if rng.random() < 0.35 else others[int(rng.integers(len(others)))]
    age = patient.age + admission - 1
    home = _home_drugs(patient, main)
    sections = [
        _header(patient, main),
        _section("Allergies", patient.allergy),
        _section("Chief Complaint", _pick(rng, main.complaints)),
        _section("Major Surgical or Invasive Procedure", _procedure(main)),
        _section("History of Present Illness", _history(patient, main, age, rng=rng)),
        _section("Past Medical History", "\n".join(f"- {name}" for name in _known(patient))),
        _section(
            "Medications on Admission", _numbered(home, "The Preadmission Medication list is accurate and complete.")
        ),
        _section("Physical Exam", _exam(main, rng=rng)),
        _section("Pertinent Results", _results(main, rng=rng)),
        _section("Brief Hospital Course", _course(patient, main, age, rng=rng)),
        _section("Discharge Medications", _numbered([*main.new_drugs, *_continued(home, main)], None)),
        _section("Discharge Disposition", _pick(rng, ("Home", "Home With Service\n\nFacility:\n___", "Extended Care"))),
        _section("Discharge Diagnosis", f"Primary: {main.name}\nSecondary: {_known(patient)[-1]}"),
        _section(
            "Discharge Condition", "Mental Status: Clear and coherent.\nActivity Status: Ambulatory - Independent."
        ),
        _section("Discharge Instructions", _instructions(patient, main, rng=rng)),
        _section("Followup Instructions", "___"),
    ]
    return "\n \n".join(sections)


def _header(patient: _Patient, main: Condition) -> str:
    return (
        "Name:  ___                     Unit No:   ___\n \n"
        "Admission Date:  ___              Discharge Date:   ___\n \n"
        f"Date of Birth:  ___             Sex:   {patient.sex}\n \nService: {main.service}"
    )


def _section(title: str, body: str) -> str:
    lines = []
    for line in body.split("\n"):
        # Only prose is broken for width; the editor's break leaves a blank at the line's end.
        lines += (
            [part + " " for part in textwrap.wrap(line, _WRAP)] if len(line) > _WRAP and "   " not in line else [line]
        )
    return "\n".join([f"{title}:", *lines])


def _history(patient: _Patient, main: Condition, age: int, *, rng: np.random.Generator) -> str:
    person, pronoun = ("man", "He") if patient.sex == "M" else ("woman", "She")
    shown = rng.permutation(len(main.symptoms))
    symptoms = [main.symptoms[i] for i in shown]
    duration = _pick(rng, ("one day", "two days", "three days", "one week", "several hours"))
    known = _joined(_known(patient))
    opening = _pick(
        rng,
        (
            f"___ is a {age} year old {person} with a history of {known} who presents with {symptoms[0]} for {duration}.",
            f"This is a {age} yo {person} with PMH of {known}, presenting with {duration} of {symptoms[0]}.",
            f"Patient is a {age} year old {person} with {known} who comes to the ED with {symptoms[0]}, present for {duration}.",
        ),
    )
    rest = (
        f"{pronoun} also reports {_joined(symptoms[1:])}." if symptoms[1:] else f"{pronoun} reports no other symptoms."
    )
    denial = _pick(rng, ("fevers", "chest pain", "abdominal pain", "diarrhea", "headache", "syncope", "cough"))
    ending = _pick(
        rng,
        (
            f"{pronoun} denies {denial}.",
            f"No {denial} or recent travel.",
            f"Of note, {pronoun.lower()} was last admitted to ___ in ___.",
            f"{pronoun} called the PCP, Dr. ___, who referred the patient to the ED.",
        ),
    )
    return f"{opening} {rest} {ending}"


def _exam(main: Condition, *, rng: np.random.Generator) -> str:
    pulse, systolic, breaths = int(rng.integers(64, 118)), int(rng.integers(98, 168)), int(rng.integers(14, 26))
    vitals = (
        f"VS: T {rng.uniform(97.2, 101.8):.1f} HR {pulse} BP {systolic}/{int(systolic * rng.uniform(0.5, 0.65))} "
        f"RR {breaths} O2 {int(rng.integers(90, 100))}% RA"
    )
    general = _pick(
        rng, ("alert and oriented, in no acute distress", "comfortable, speaking in full sentences", "ill-appearing")
    )
    return (
        f"ADMISSION EXAM:\n{vitals}\nGENERAL: {general}\nPERTINENT: {_joined(list(main.findings))}\nSKIN: warm and dry"
    )


def _results(main: Condition, *, rng: np.random.Generator) -> str:
    shifted = {lab.name for lab in main.labs}
    usual = [lab for lab in NORMAL_LABS if lab.name not in shifted]
    normal = [usual[i] for i in sorted(rng.choice(len(usual), size=5, replace=False))]
    time = f"___ {int(rng.integers(1, 12)):02d}:{int(rng.integers(10, 60))}AM BLOOD"
    admission = [f"{time} {_values(main.labs, rng=rng, mark='*')}", f"{time} {_values(tuple(normal), rng=rng)}"]
    return "\n".join(["ADMISSION LABS:", *admission, "", "STUDIES:", main.study])


def _values(labs: tuple[Lab, ...], *, rng: np.random.Generator, mark: str = "") -> str:
    return " ".join(f"{lab.name}-{rng.uniform(lab.low, lab.high):.{lab.decimals}f}{mark}" for lab in labs)


def _course(patient: _Patient, main: Condition, age: int, *, rng: np.random.Generator) -> str:
    person = "man" if patient.sex == "M" else "woman"
    steps = f"The patient was {_joined(list(main.treatment))}."
    lab = main.labs[0]
    trend = _pick(
        rng,
        (
            f"{lab.name} was {rng.uniform(lab.low, lab.high):.{lab.decimals}f} {lab.unit}".rstrip()
            + " on admission and improved.",
            f"{lab.name} was trended and normalized before discharge.",
            f"Symptoms improved by hospital day {int(rng.integers(2, 6))}.",
        ),
    )
    chronic = [
        f"# {_past(condition).capitalize()}: Continued home {_joined([_drug(d) for d in condition.home_drugs])}."
        for condition in patient.history
        if condition is not main
    ]
    opening = f"{age} year old {person} with {_joined(_known(patient))} admitted with {main.name}."
    presented = f"Presented with {main.symptoms[0]}. {steps} {trend} Started on {_drug(main.new_drugs[0])}."
    active = f"# {main.name.capitalize()}: {presented}"
    return "\n\n".join([opening, "ACTIVE ISSUES:\n" + active, "CHRONIC ISSUES:\n" + "\n".join(chronic or ["None."])])


def _instructions(patient: _Patient, main: Condition, *, rng: np.random.Generator) -> str:
    opening = _pick(
        rng, ("It was a pleasure taking care of you at ___.", "You were admitted to ___ because of your illness.")
    )
    title = "Mr." if patient.sex == "M" else "Ms."
    return f"Dear {title} ___,\n{opening} You were treated for {main.name}. {main.follow_up} We wish you the best. Your ___ Team"


def _procedure(main: Condition) -> str:
    name, _, _ = main.study.partition(":")
    return name if name in ("Coronary angiography", "Upper endoscopy", "Diagnostic paracentesis") else "None"


def _known(patient: _Patient) -> list[str]:
    return [_past(condition) for condition in patient.history]


def _past(condition: Condition) -> str:
    return condition.history_name or condition.name


def _home_drugs(patient: _Patient, main: Condition) -> list[str]:
    """Drugs of the history and, where it is chronic too, of the main condition; each substance once."""
    by_substance: dict[str, str] = {}
    for condition in (*patient.history, main):
        for drug in condition.home_drugs:
            by_substance.setdefault(_drug(drug), drug)
    return list(by_substance.values())


def _continued(home: list[str], main: Condition) -> list[str]:
    replaced = {_drug(drug) for drug in main.new_drugs}
    for together in _ONE_OF:
        if replaced & together:
            replaced |= together
    return [drug for drug in home if _drug(drug) not in replaced]


def _drug(entry: str) -> str:
    """``Metoprolol Tartrate 25 mg PO BID`` -> ``metoprolol tartrate``."""
    words = []
    for word in entry.split():
        if word[0].isdigit() or word == "sliding":
            break
        words.append(word)
    return " ".join(words).lower()


def _numbered(entries: list[str], heading: str | None) -> str:
    lines = [f"{number}. {entry}" for number, entry in enumerate(entries, start=1)] or ["None"]
    return "\n".join([heading, *lines] if heading else lines)


def _joined(words: list[str]) -> str:
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _pick(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[int(rng.integers(len(choices)))]
