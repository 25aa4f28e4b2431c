"""Terms of MeSH, the Disease Ontology and HPO, and how many tokens of annotated diseases and chemicals they mark."""

import gzip
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from clinical_modernbert.errors import SourceError
from clinical_modernbert.lexicon import Matcher, build_terms
from clinical_modernbert.lexicon.spellings import with_british
from clinical_modernbert.lexicon.vocabularies import vocabulary_terms
from clinical_modernbert.recipe.corpus import LexiconSection
from clinical_modernbert.sources.evaluation_sets.ner import read_conll

OBO = """format-version: 1.2

[Term]
id: HP:0000001
name: All

[Term]
id: HP:0000118
name: Phenotypic abnormality
is_a: HP:0000001 ! All

[Term]
id: HP:0000012
name: Urinary urgency
synonym: "Urgency frequency syndrome" EXACT layperson []
synonym: "Overactive bladder" RELATED []
synonym: "UUS" EXACT abbreviation []
is_a: HP:0000118 ! Phenotypic abnormality

[Term]
id: HP:0000013
name: Old name
is_obsolete: true
is_a: HP:0000118 ! Phenotypic abnormality

[Term]
id: HP:0012823
name: Clinical modifier
is_a: HP:0000001 ! All
"""
TABLE = """mesh_id\tmesh_name\tmesh_tree_number
D1\tArrhythmias, Cardiac\tC14.280
D2\tHospitals\tN02.278
D3\tTrypsin\tD08.811
D4\tBiopsy\tE01.370.388.100
"""
MESH = """<?xml version="1.0"?>
<DescriptorRecordSet><DescriptorRecord><DescriptorName><String>Arrhythmias, Cardiac</String></DescriptorName>
<TreeNumberList><TreeNumber>C14.280</TreeNumber></TreeNumberList></DescriptorRecord></DescriptorRecordSet>
"""
DO = """doid\tname\ttype
DOID:1\tParkinson disease\tname
DOID:1\tPD (disorder)\texact-synonym
DOID:1\tshaking\trelated-synonym
"""


@pytest.mark.parametrize(
    ("content", "terms"),
    [
        (OBO, {"urinary urgency", "urgency frequency syndrome", "UUS"}),
        (TABLE, {"cardiac arrhythmias", "cardiac arrhythmia", "biopsy"}),
        (MESH, {"cardiac arrhythmias", "cardiac arrhythmia"}),
        ("Neoplasms;C04\nCysts;C04.182\nHospitals;N02.278\n", {"neoplasms", "neoplasm", "cysts", "cyst"}),
        (DO, {"parkinson disease", "parkinson's disease", "PD"}),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_terms_of_a_file(tmp_path: Path, content: str, terms: set[str], packed: bool) -> None:
    path = tmp_path / "terms"
    path.write_bytes(gzip.compress(content.encode()) if packed else content.encode())
    assert vocabulary_terms(str(path)) == terms


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("id,name\n")
    with pytest.raises(SourceError, match=r"lexicon\.vocabularies: .* no known format; expected OBO"):
        vocabulary_terms(str(tmp_path / "a"))
    with pytest.raises(SourceError, match="cannot be read"):
        vocabulary_terms(str(tmp_path / "b"))


def test_british_spellings() -> None:
    american = {"anemia", "esophageal tumor", "hemorrhage", "leukemia", "chemotherapy", "endemic goiter", "fetal edema"}
    assert with_british(american) - american == {
        "anaemia", "oesophageal tumour", "haemorrhage", "leukaemia", "foetal oedema"
    }  # fmt: skip
    assert with_british({"anaemia", "haemorrhage"}) == {"anaemia", "haemorrhage"}


SETS = {"NCBI-disease": "NCBI-disease-IOB/devel.tsv", "BC5CDR": "BC5CDR-IOB/devel.tsv.gz"}
FILES = ("mesh_tree-numbers.tsv.gz", "do_term_names.tsv.gz", "hp.obo.gz")
SENTENCES = 9
"""Of an abstract, on average: the files do not tell where one ends."""


def marked(path: Path, matcher: Matcher) -> Iterator[tuple[str, bool]]:
    """Yield the kind of each word and whether it is in a term."""
    sentences = list(read_conll(path))
    for first in range(0, len(sentences), SENTENCES):
        text, words = "", []
        for sentence in sentences[first : first + SENTENCES]:
            for token, tag in zip(sentence.tokens, sentence.tags, strict=True):
                if any(map(str.isalnum, token)):
                    words.append((len(text), tag.partition("-")[2] or "other"))
                text += f"{token} "
        inside = {place for start, end in matcher.spans(text) for place in range(start, end)}
        yield from ((kind, start in inside) for start, kind in words)


def test_diseases_and_chemicals_are_salient_and_little_else(
    shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The test prints the shares that docs/results/corpus.md quotes."""
    section = LexiconSection(vocabularies=tuple(str(shared_data / "vocab" / name) for name in FILES))
    for lexicon, least, most in ((LexiconSection(), 0.2, 0.01), (section, 0.6, 0.02)):
        matcher = Matcher(build_terms(lexicon))
        for name, path in SETS.items():
            words, salient = Counter[str](), Counter[str]()
            for kind, inside in marked(shared_data / "ner" / path, matcher):
                words[kind] += 1
                salient[kind] += inside
            shares = {kind: salient[kind] / words[kind] for kind in sorted(words)}
            with capsys.disabled():
                sys.stdout.write(f"\n{len(lexicon.vocabularies)} vocabularies, {name}: {shares}")
            assert shares.pop("other") <= most
            assert min(shares.values()) >= least
