"""Generated PubMed citations: structured abstracts of trials and cohorts, plain case reports, and a few without abstract.

The study's question, drug, outcome and figures agree within an abstract; markup (``<i>P</i>``, ``<sup>``) is that of real files.
"""

from xml.sax.saxutils import escape

import numpy as np

from clinical_modernbert.sources.generated.conditions import CONDITIONS, Condition

# PubMed is far from this number: no real citation is meant.
_FIRST_PMID = 900_000_000
_NO_ABSTRACT_FRACTION = 0.03
_STREAM = 16

_OUTCOMES = (
    "30-day readmission",
    "in-hospital mortality",
    "length of stay",
    "a composite of death and rehospitalization",
    "health-related quality of life",
    "time to clinical recovery",
)
_JOURNALS = ("Annals of Generated Medicine", "Synthetic Clinical Trials", "Journal of Example Cohorts")


def make_citation(seed: int, index: int) -> str:
    """Return one ``PubmedArticle`` element."""
    rng = np.random.default_rng((seed, _STREAM, index))
    condition = CONDITIONS[int(rng.integers(len(CONDITIONS)))]
    title, sections = (_trial, _cohort, _case)[int(rng.choice(3, p=(0.45, 0.4, 0.15)))](condition, rng)
    abstract = ""
    if rng.random() >= _NO_ABSTRACT_FRACTION:
        texts = [f"<AbstractText{_label(label)}>{text}</AbstractText>" for label, text in sections]
        abstract = f"<Abstract>{''.join(texts)}</Abstract>"
    pmid = _FIRST_PMID + index
    return (
        f'<PubmedArticle><MedlineCitation Status="MEDLINE" Owner="NLM"><PMID Version="1">{pmid}</PMID>'
        f'<Article PubModel="Print"><Journal><Title>{_JOURNALS[index % len(_JOURNALS)]}</Title></Journal>'
        f"<ArticleTitle>{title}</ArticleTitle>{abstract}<Language>eng</Language></Article></MedlineCitation>"
        f'<PubmedData><ArticleIdList><ArticleId IdType="pubmed">{pmid}</ArticleId></ArticleIdList></PubmedData>'
        "</PubmedArticle>\n"
    )


_Study = tuple[str, list[tuple[str, str]]]


def _trial(condition: Condition, rng: np.random.Generator) -> _Study:
    drug = _substance(condition.new_drugs[int(rng.integers(len(condition.new_drugs)))])
    control = ("placebo", "usual care", "standard therapy")[int(rng.integers(3))]
    outcome = _OUTCOMES[int(rng.integers(len(_OUTCOMES)))]
    patients = int(rng.integers(60, 1800))
    treated, compared = rng.uniform(6, 30), rng.uniform(8, 40)
    better = treated < compared
    p = "&lt; 0.001" if abs(treated - compared) > 8 else f"= {rng.uniform(0.01, 0.6):.2f}"
    name = escape(condition.name)
    verdict = f"{drug} reduced {outcome}" if better else f"{drug} did not reduce {outcome}"
    design = ("double-blind", "open-label", "multicenter", "pragmatic")[int(rng.integers(4))]
    return (
        f"Effect of {drug} on {outcome} in patients with {name}: a randomized controlled trial.",
        [
            (
                "BACKGROUND",
                f"{name.capitalize()} is a frequent cause of hospital admission. Whether {drug} improves outcomes is unclear.",
            ),
            ("OBJECTIVE", f"To compare {drug} with {control} in adults with {name}."),
            (
                "METHODS",
                f"In this {design} trial, {patients} patients with {name} were randomly assigned to {drug} or {control} for "
                f"{int(rng.integers(4, 52))} weeks. The primary outcome was {outcome}. Patients presented with "
                f"{_joined(condition.symptoms)}.",
            ),
            (
                "RESULTS",
                f"The primary outcome occurred in {treated:.1f}% of the {drug} group and {compared:.1f}% of the {control} group "
                f"(<i>P</i> {p}). Mean {escape(condition.labs[0].name)} changed by {rng.uniform(3, 28):.0f}%. "
                f"Adverse events were {('similar in both groups', 'more common with ' + drug)[int(rng.integers(2))]}.",
            ),
            ("CONCLUSIONS", f"Among patients with {name}, {verdict} compared with {control}."),
        ],
    )


def _cohort(condition: Condition, rng: np.random.Generator) -> _Study:
    outcome = _OUTCOMES[int(rng.integers(len(_OUTCOMES)))]
    comorbidity = CONDITIONS[int(rng.integers(len(CONDITIONS)))].name
    lab = condition.labs[int(rng.integers(len(condition.labs)))]
    ratio, spread = rng.uniform(0.6, 2.9), rng.uniform(0.1, 0.5)
    name, size = escape(condition.name), int(rng.integers(200, 9000))
    threshold = f"{rng.uniform(lab.low, lab.high):.{lab.decimals}f} {lab.unit}".rstrip()
    text = (
        f"We studied {size} adults admitted with {name} between {rng.integers(2001, 2010)} and {rng.integers(2011, 2024)}. "
        f"{lab.name} above {escape(threshold)} was associated with {outcome} (hazard ratio {ratio:.2f}, 95% CI "
        f"{ratio - spread:.2f}-{ratio + spread:.2f}; <i>P</i> = {rng.uniform(0.001, 0.04):.3f})."
    )
    return (
        f"{escape(lab.name)} and {outcome} in {name}: a retrospective cohort study.",
        [
            (
                "AIMS",
                f"To assess whether {escape(lab.name)} predicts {outcome} in patients with {name} and {comorbidity}.",
            ),
            ("METHODS AND RESULTS", text + f" Mean body mass index was {rng.uniform(24, 33):.1f} kg/m<sup>2</sup>."),
            ("CONCLUSION", f"{escape(lab.name)} may help to stratify risk in {name}; prospective studies are needed."),
        ],
    )


def _case(condition: Condition, rng: np.random.Generator) -> _Study:
    person = ("man", "woman")[int(rng.integers(2))]
    drug = _substance(condition.new_drugs[0])
    text = (
        f"We report a {int(rng.integers(19, 90))}-year-old {person} who presented with {_joined(condition.symptoms)}. "
        f"Examination showed {_joined(condition.findings)}. {escape(condition.study)} The patient was "
        f"{_joined(condition.treatment)}, and recovered on {drug}. Clinicians should consider {escape(condition.name)} in such "
        "presentations."
    )
    return f"An unusual presentation of {escape(condition.name)}: a case report.", [("", text)]


def _label(label: str) -> str:
    return f' Label="{label}"' if label else ""


def _substance(entry: str) -> str:
    """``Insulin Glargine 20 units SC QHS`` -> ``insulin glargine``."""
    words = []
    for word in entry.split():
        if word[0].isdigit():
            break
        words.append(word.lower())
    return " ".join(words)


def _joined(words: tuple[str, ...]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
