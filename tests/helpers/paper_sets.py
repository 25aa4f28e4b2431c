"""Made-up evaluation sets in the layouts and places that ``evaluate/paper`` reads: a few dozen short examples of each."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

_DRUGS = ("warfarin", "heparin", "insulin", "furosemide")
_PLACES = ("ward", "clinic", "theatre")
_ROLES = ("BACKGROUND", "METHODS", "RESULTS")


def write_paper_sets(folder: Path) -> None:
    """Write all nine sets below ``folder``."""
    rng = np.random.default_rng(0)
    _emergency_stays(folder / "mimic-iv-ed" / "ed", rng)
    _sentence_roles(folder / "pubmed-rct", rng)
    _medner(folder / "medner", rng)
    for kind in ("PPR", "PAR"):
        _retrieval(folder / "pmc-patients" / kind, rng)
    for part in ("train", "test"):
        for year in (2010, 2012, 2014):
            (folder / "i2b2" / str(year) / part).mkdir(parents=True)
        _concepts(folder / "i2b2" / "2010" / part, rng)
        _annotated(folder / "i2b2" / "2012" / part, rng, year=2012)
        _annotated(folder / "i2b2" / "2014" / part, rng, year=2014)
    _inline_phi(folder / "i2b2" / "2006", rng)


def _sentence(rng: np.random.Generator) -> tuple[list[str], int]:
    """Return the words of a sentence and which of them is the drug."""
    drug, place, dose = rng.choice(_DRUGS), rng.choice(_PLACES), rng.integers(1, 9)
    return f"The patient took {drug} {dose} mg in the {place} .".split(), 3


def _emergency_stays(folder: Path, rng: np.random.Generator) -> None:
    columns = {
        "edstays": "subject_id,hadm_id,stay_id,intime,outtime,gender,race,arrival_transport,disposition",
        "triage": "subject_id,stay_id,temperature,heartrate,resprate,o2sat,sbp,dbp,pain,acuity,chiefcomplaint",
        "vitalsign": "subject_id,stay_id,charttime,temperature,heartrate,resprate,o2sat,sbp,dbp,rhythm,pain",
        "medrecon": "subject_id,stay_id,charttime,name,gsn,ndc,etc_rn,etccode,etcdescription",
        "pyxis": "subject_id,stay_id,charttime,med_rn,name,gsn_rn,gsn",
        "diagnosis": "subject_id,stay_id,seq_num,icd_code,icd_version,icd_title",
    }
    lines: dict[str, list[str]] = {table: [] for table in columns}
    for stay in range(80):
        subject, at = stay // 2, "2150-01-01 10"
        admitted = bool(rng.integers(2))
        kind = "ADMITTED" if admitted else "HOME"
        lines["edstays"].append(
            f"{subject},{700 + stay if admitted else ''},{stay},{at}:00:00,2150-01-01 19:00:00,F,WHITE,WALK IN,{kind}"
        )
        rate = int(rng.integers(60, 110)) + 15 * admitted
        lines["triage"].append(f"{subject},{stay},98.1,{rate},16,99,120,70,3,2,Dyspnea")
        lines["vitalsign"].append(f"{subject},{stay},{at}:40:00,98.0,{rate},16,98,118,70,,2")
        lines["medrecon"].append(f"{subject},{stay},{at}:20:00,{rng.choice(_DRUGS)},1,2,1,3,Drug")
        lines["pyxis"].append(f"{subject},{stay},{at}:50:00,1,{rng.choice(_DRUGS)},1,1")
        lines["diagnosis"].append(f"{subject},{stay},1,I50,10,HEART FAILURE")
    folder.mkdir(parents=True)
    for table, head in columns.items():
        with gzip.open(folder / f"{table}.csv.gz", "wt") as stream:
            stream.write("\n".join([head, *lines[table]]) + "\n")


def _sentence_roles(folder: Path, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    for number, (part, count) in enumerate((("train", 20), ("dev", 8), ("test", 12))):
        lines = []
        for abstract in range(count):
            lines.append(f"###{number * 100 + abstract}")
            lines += [f"{role}\t{' '.join(_sentence(rng)[0])}" for role in _ROLES] + [""]
        (folder / f"{part}.txt").write_text("\n".join(lines))


def _medner(folder: Path, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    for part in ("train", "test"):
        lines = []
        for _ in range(110):
            words, drug = _sentence(rng)
            lines += [f"{word}\t{'B-DRUG' if i == drug else 'O'}" for i, word in enumerate(words)] + [""]
        (folder / f"{part}.tsv").write_text("\n".join(lines))


def _retrieval(folder: Path, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    documents = [{"_id": f"d{i}", "title": f"Case {i}", "text": " ".join(_sentence(rng)[0])} for i in range(60)]
    _json_lines(folder / "corpus.jsonl", documents)
    for part, numbers in (("train", range(30)), ("dev", range(30, 40)), ("test", range(40, 60))):
        _json_lines(
            folder / f"{part}_queries.jsonl",
            [{"_id": f"q{i}", "text": f"Like case {i}: {documents[i]['text']}"} for i in numbers],
        )
        rows = ["query-id\tcorpus-id\tscore", *(f"q{i}\td{i}\t2" for i in numbers)]
        (folder / f"qrels_{part}.tsv").write_text("\n".join(rows) + "\n")


def _json_lines(path: Path, records: Sequence[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def _concepts(folder: Path, rng: np.random.Generator) -> None:
    (folder / "concept").mkdir()
    for number in range(12):
        words, drug = _sentence(rng)
        # A note has its name in one part alone, as in the release.
        name = f"{folder.name}-{number}"
        (folder / f"{name}.txt").write_text("Admission note\n" + " ".join(words) + "\n")
        (folder / "concept" / f"{name}.con").write_text(f'c="{words[drug]}" 2:{drug} 2:{drug}||t="treatment"\n')


def _annotated(folder: Path, rng: np.random.Generator, *, year: int) -> None:
    for number in range(12):
        words, drug = _sentence(rng)
        text = " ".join(words)
        start = text.index(words[drug])
        place = f'start="{start}" end="{start + len(words[drug])}" text="{words[drug]}"'
        if year == 2012:
            root, tag = "ClinicalNarrativeTemporalAnnotation", f'<EVENT id="E0" {place} type="TREATMENT"/>'
        else:
            root, tag = "deIdi2b2", f'<NAME id="P0" {place} TYPE="DOCTOR" comment=""/>'
        # 2014's names are patient and record; a patient is in one part alone.
        patient = f"{folder.name == 'test':d}{number:02d}"
        name = patient if year == 2012 else f"{patient}-01"
        (folder / f"{name}.xml").write_text(f"<{root}><TEXT><![CDATA[{text}]]></TEXT><TAGS>{tag}</TAGS></{root}>")


def _inline_phi(folder: Path, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    files = ("deid_surrogate_train_all_version2.xml", "deid_surrogate_test_all_groundtruth_version2.xml")
    for number, file in enumerate(files):
        records = []
        for record in range(12):
            words, drug = _sentence(rng)
            words[drug] = f'<PHI TYPE="DOCTOR">{words[drug]}</PHI>'
            records.append(f'<RECORD ID="{100 * number + record}"><TEXT>{" ".join(words)}</TEXT></RECORD>')
        (folder / file).write_text(f"<ROOT>{''.join(records)}</ROOT>")
