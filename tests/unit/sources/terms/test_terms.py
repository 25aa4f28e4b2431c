"""Vocabularies in files: their pairs, cross references, drops and damaged rows. All rows are made up."""

import gzip
from pathlib import Path
from typing import Any

import pytest
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe import PairsRecipe
from clinical_modernbert.sources.document import Dropped, Quarantined
from clinical_modernbert.sources.terms import Follows, IsA, TermPair, TermRecord, read_pairs, source_files, text_key


def records(**source: Any) -> list[TermRecord]:
    recipe = PairsRecipe.model_validate({"name": "p", "sources": [{"name": "s", **source}]})
    return list(read_pairs(recipe.sources[0]))


def shown(found: list[TermRecord]) -> list[tuple[str, str, str]]:
    return [(r.relation, r.anchor.text, r.positive.text) for r in found if isinstance(r, TermPair)]


def links(found: list[TermRecord]) -> set[tuple[str, str]]:
    return {(r.follower, r.leader) for r in found if isinstance(r, Follows)}


def drops(found: list[TermRecord]) -> list[str]:
    return [r.reason for r in found if isinstance(r, Dropped)]


def written(path: Path, *lines: str) -> str:
    content = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


TABULAR = """<ICD10CM.tabular><chapter><desc>Letters (A00-B99)</desc><section id="A00-A09"><desc>Bowels (A00-A09)</desc>
<diag><name>A01</name><desc>Blue fever</desc><includes><note>fever from <b>blue</b> paint</note></includes>
<diag><name>A01.0</name><desc>Blue fever of hands</desc><inclusionTerm><note>Painter's hands</note></inclusionTerm></diag></diag>
</section></chapter></ICD10CM.tabular>"""


def test_the_tabular_list_gives_inclusion_terms_and_parents(tmp_path: Path) -> None:
    path = written(tmp_path / "tabular.xml", TABULAR)
    codes = written(tmp_path / "codes.txt", "A010   Blue fever of hands", "A010XA Blue fever of hands, first visit")

    inclusions = records(type="icd10cm_tabular", relation="inclusion", path=path)
    parents = records(type="icd10cm_tabular", relation="parent", path=path, codes_path=codes)

    assert shown(inclusions) == [
        ("inclusion", "fever from blue paint", "Blue fever"),
        ("inclusion", "Painter's hands", "Blue fever of hands"),
    ]
    assert shown(parents) == [
        ("parent", "Blue fever of hands", "Blue fever"),
        ("parent", "Blue fever of hands, first visit", "Blue fever of hands"),
    ]
    last = parents[-1]
    assert isinstance(last, TermPair)
    assert last.anchor.lineage == ("icd10cm:A01.0XA", "icd10cm:A01.0X", "icd10cm:A01.0", "icd10cm:A01")
    assert last.anchor.group == last.positive.group == "icd10cm:A01"


def test_a_category_has_the_titles_of_its_block_and_chapter_which_are_concepts_of_their_own(tmp_path: Path) -> None:
    path = written(tmp_path / "tabular.xml", TABULAR)

    found = records(type="icd10cm_tabular", relation="chapter", path=path)

    assert shown(found) == [("parent", "Blue fever", "Bowels"), ("parent", "Blue fever", "Letters")]
    pairs = [pair for pair in found if isinstance(pair, TermPair)]
    assert [pair.positive.group for pair in pairs] == ["icd10cm:A00-A09", "icd10cm:A00-B99"]
    assert {pair.anchor.group for pair in pairs} == {"icd10cm:A01"}
    # A title above the category is not a negative of it.
    assert {pair.positive.group for pair in pairs} < set(pairs[0].anchor.lineage)


def test_everyday_words_are_paired_with_the_shortest_descriptions_that_they_mean(tmp_path: Path) -> None:
    tabular = TABULAR.replace("A01", "I10").replace("Blue fever", "Tension")
    path = written(tmp_path / "tabular.xml", tabular)
    names = (
        "4011  Benign tension",
        "4010  Malignant tension, early",
        "4019  Tension NOS",
        "4018  The longest of these tensions",
    )
    icd9 = written(tmp_path / "icd9.txt", *names, "40501  Tension of kidneys", "40511  Tension of vessels, benign")

    found = records(type="lay_words", tabular_path=path, icd9_path=icd9)

    of_phrase = [pair for pair in found if isinstance(pair, TermPair) and pair.positive.text == "high blood pressure"]
    assert [pair.anchor.text for pair in of_phrase] == [
        "Tension",
        "Tension of hands",
        # Three of the usual meaning, 401, the shortest first; one of another.
        "Tension NOS",
        "Benign tension",
        "Malignant tension, early",
        "Tension of kidneys",
    ]
    # The phrase is above every code that it means, so that none is a negative of it.
    assert [pair.positive.lineage for pair in of_phrase][-2:] == [("icd9cm:401",), ("icd9cm:405",)]
    assert all(set(pair.positive.lineage) <= set(pair.anchor.lineage) for pair in of_phrase)


def test_a_crosswalk_gives_descriptions_and_holds_out_the_target_with_its_source(tmp_path: Path) -> None:
    gem = written(tmp_path / "gem.txt", "0010  A010  00000", "0011  A019  10000", "0012  NoDx  11000")
    icd9 = written(tmp_path / "icd9.txt", "0010  Blue fever hands", "0011  Blue fever NOS")
    icd10 = written(tmp_path / "icd10.txt", "A010   Blue fever of hands")

    found = records(type="gem", path=gem, icd9_path=icd9, icd10_path=icd10)

    assert shown(found) == [("crosswalk", "Blue fever hands", "Blue fever of hands")]
    assert links(found) == {("icd10cm:A01", "icd9cm:001")}
    assert drops(found) == ["no_description"]


def test_disease_ontology_gives_synonyms_and_the_codes_that_a_term_refers_to(tmp_path: Path) -> None:
    names = written(
        tmp_path / "names.tsv.gz",
        "doid\tname\ttype",
        "DOID:7\tblue fever\tname",
        'DOID:7\t"painter\'s" fever\texact-synonym',
        "DOID:8\tlost\texact-synonym",
        "DOID:9\tbroken",
    )
    references = written(
        tmp_path / "references.tsv",
        "doid_code\tdoid_name\tresource\tresource_id",
        "DOID:7\tblue fever\tICD9\t001.0",
        "DOID:7\tblue fever\tICD9\t001",
        "DOID:7\tblue fever\tICD9\t002",
        "DOID:7\tblue fever\tUMLS\tC1",
        "DOID:7\tblue fever\tOMIM\t5",
    )
    icd9 = written(tmp_path / "icd9.txt", "0010  Blue fever hands", "0011  Blue fever NOS")

    found = records(type="disease_ontology", path=names, references_path=references, icd9_path=icd9)

    assert shown(found) == [
        ("synonym", '"painter\'s" fever', "blue fever"),
        ("cross_reference", "blue fever", "Blue fever hands"),
        ("cross_reference", '"painter\'s" fever', "Blue fever hands"),
        # 001 is above two codes: each is a kind of what the name says.
        ("parent", "Blue fever hands", "blue fever"),
        ("parent", "Blue fever NOS", "blue fever"),
    ]
    assert links(found) == {("doid:7", "icd9cm:001"), ("doid:7", "icd9cm:002"), ("umls:C1", "doid:7")}
    assert drops(found) == ["no_name", "no_description"]
    assert [r.position for r in found if isinstance(r, Quarantined)] == ["line 5"]


OBO = (
    "format-version: 1.2",
    "",
    "[Term]",
    "id: HP:0000007",
    "name: Cyanochromia",
    'synonym: "Blue \\"skin\\"" EXACT layperson [ORCID:1]',
    'synonym: "Blueness" BROAD []',
    'synonym: "Cyanochromy" EXACT obsolete_synonym []',
    "is_a: HP:0000001 ! All",
    "xref: UMLS:C1",
    "xref: MEDDRA:1",
    'xref: SNOMEDCT_US_2023_03_01:7 {source="x"}',
    "",
    "[Term]",
    "id: HP:0000008",
    "name: obsolete Redness",
    "is_obsolete: true",
    "",
    "[Typedef]",
    "id: part_of",
    "name: part of",
)


def test_an_ontology_in_obo_gives_synonyms_by_type(tmp_path: Path) -> None:
    found = records(type="obo", path=written(tmp_path / "h.obo.gz", *OBO), scopes=["EXACT"])

    assert shown(found) == [("layperson", 'Blue "skin"', "Cyanochromia")]
    assert links(found) == {("hp:0000007", "umls:C1"), ("hp:0000007", "snomed:7")}
    assert IsA("hp:0000007", "hp:0000001") in found
    assert drops(found) == ["scope", "obsolete", "obsolete"]


def test_every_form_of_a_synonym_is_a_pair_or_quarantined(tmp_path: Path) -> None:
    forms = (
        'synonym: "b" []',
        'exact_synonym: "c" []',
        'synonym:  "d"  exact',
        'synonym: "e" EXACT abbreviation [X:1] {a="b"}',
    )
    damaged = ('synonym: "f" EXCAT []', "synonym: g EXACT []")
    path = written(tmp_path / "h.obo", "[Term]", "id: X:1", "name: a", *forms, *damaged)

    found = records(type="obo", path=path, scopes=["EXACT", "RELATED"])

    pairs = [("synonym", "b"), ("synonym", "c"), ("synonym", "d"), ("abbreviation", "e")]
    assert shown(found) == [(*pair, "a") for pair in pairs]
    assert [r.position for r in found if isinstance(r, Quarantined)] == ["line 8", "line 9"]
    assert [p.anchor.text for p in records(type="obo", path=path, scopes=["RELATED"]) if isinstance(p, TermPair)] == [
        "b"
    ]


def rrf(concept: str, name: str, *, sab: str = "MTH", code: str = "1", language: str = "ENG", **fields: str) -> str:
    ts, stt, preferred, suppress = (fields.get(k, v) for k, v in (("ts", "S"), ("stt", "VO"), ("p", "N"), ("s", "N")))
    return f"{concept}|{language}|{ts}|L1|{stt}|S1|{preferred}|A1||||{sab}|PT|{code}|{name}|0|{suppress}||"


def test_concept_files_of_nlm_give_names_with_the_preferred_one(tmp_path: Path) -> None:
    path = written(
        tmp_path / "MRCONSO.RRF",
        rrf("C1", "Painters' fever"),
        rrf("C1", "Blue fever", ts="P", stt="PF", p="Y"),
        rrf("C1", "Fever, Blue", sab="ICD9CM", code="001.0"),
        rrf("C1", "Blaufieber", language="GER"),
        rrf("C1", "BF", s="O"),
        "C1|broken",
        rrf("C2", "Alone", sab="MSH", code="D1"),
    )

    found = records(type="rrf", path=path, system="umls")

    assert shown(found) == [("synonym", "Painters' fever", "Blue fever")]  # "Fever, Blue" has the same words
    assert links(found) == {("umls:C1", "icd9cm:001"), ("mesh:D1", "umls:C2")}
    assert sorted(drops(found)) == ["language", "suppressed"]
    assert [r.position for r in found if isinstance(r, Quarantined)] == ["line 6"]


def test_rows_of_nlm_without_a_concept_are_dropped_and_scattered_ones_joined(tmp_path: Path) -> None:
    rows = [rrf("", "one"), rrf("", "two"), rrf("C1", "Blue fever", ts="P"), rrf("C1", "BF"), rrf("C2", "Alone")]
    found = records(type="rrf", path=written(tmp_path / "M.RRF", *rows, rrf("C1", "Painters' fever")), system="umls")

    assert shown(found) == [("synonym", "BF", "Blue fever"), ("synonym", "Painters' fever", "Blue fever")]
    assert drops(found) == ["no_concept"] * 2


def test_snomed_gives_active_synonyms_with_the_fully_specified_name(tmp_path: Path) -> None:
    header = "id\teffectiveTime\tactive\tmoduleId\tconceptId\tlanguageCode\ttypeId\tterm\tcaseSignificanceId"
    rows = [
        ("1", "7", "900000000000003001", "Blue fever (disorder)"),
        ("1", "7", "900000000000013009", "Painter's fever"),
    ]
    rows += [("0", "7", "900000000000013009", "Old fever"), ("1", "8", "900000000000013009", "Nameless")]
    lines = [f"{n}\t2026\t{active}\t9\t{c}\ten\t{kind}\t{term}\t9" for n, (active, c, kind, term) in enumerate(rows)]

    found = records(type="snomed", path=written(tmp_path / "d.txt", header, *lines))

    assert shown(found) == [("synonym", "Painter's fever", "Blue fever")]
    assert drops(found) == ["inactive", "no_name"]


def test_a_table_gives_a_term_and_its_name(tmp_path: Path) -> None:
    path = written(tmp_path / "drugs.csv", "brand,generic,id", '"Blue, forte",blumicin,7', "Rot,,8")

    found = records(type="term_table", path=path, term_column="brand", name_column="generic")

    assert shown(found) == [("synonym", "Blue, forte", "blumicin")]
    assert drops(found) == ["no_name"]
    with pytest.raises(SourceError, match="has no column 'made'; its columns are 'brand', 'generic', 'id'"):
        records(type="term_table", path=path, term_column="made", name_column="generic")


@pytest.mark.parametrize("header", ["brand,generic", "brand;generic", "brand\tgeneric", " Brand | generic "])
def test_a_table_has_any_delimiter_and_cells_of_several_lines(tmp_path: Path, header: str) -> None:
    delimiter = next(character for character in ",;\t|" if character in header)
    rows = [f'"Blue\nforte"{delimiter}blumicin', f"{'z' * 200_000}{delimiter}long"]
    path = written(tmp_path / "drugs.csv", header, *rows)

    found = records(type="term_table", path=path, term_column="brand", name_column="generic")

    assert shown(found)[0] == ("synonym", "Blue forte", "blumicin") and len(found) == 2


def test_line_ends_may_be_those_of_old_macs(tmp_path: Path) -> None:
    (tmp_path / "drugs.csv").write_bytes(b"brand,generic\ra,b\r")
    (found,) = records(type="term_table", path=str(tmp_path / "drugs.csv"), term_column="brand", name_column="generic")
    assert isinstance(found, TermPair) and (found.anchor.text, found.positive.text) == ("a", "b")


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("d.csv.gz", {"type": "term_table", "term_column": "brand", "name_column": "generic"}),
        ("h.obo.gz", {"type": "obo"}),
        ("M.RRF.gz", {"type": "rrf", "system": "umls"}),
    ],
)
def test_a_cut_archive_is_refused(tmp_path: Path, name: str, fields: dict[str, str]) -> None:
    lines = {"d": ["brand,generic"], "h": ["[Term]", "id: X:1", "name: a"], "M": [rrf("C1", "Blue fever")]}[name[0]]
    path = Path(written(tmp_path / name, *lines * 40))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(SourceError, match=f"{name}, line .*the gzip archive is truncated; get the file again"):
        records(path=str(path), **fields)


def test_the_first_line_of_a_table_without_header_is_not_quoted(tmp_path: Path) -> None:
    path = written(tmp_path / "notes.csv", "7744110001,Zebulon Quixworth was admitted with fever")
    with pytest.raises(
        SourceError, match="has no column 'brand', 'generic'; it has 2 columns, whose names are not"
    ) as e:
        records(type="term_table", path=path, term_column="brand", name_column="generic")
    assert "Zebulon" not in str(e.value) and "7744" not in str(e.value)


def test_a_table_refers_to_other_vocabularies_and_leaves_out_markup(tmp_path: Path) -> None:
    rows = ["bluex\tblumicin\tDB1\tD9", "&lt;ref /&gt; red\tblumicin\tDB1\t", "noid\tprotein\t\tD8"]
    rows += ["n-[4-({a}->b)]\tblumicin\tDB1\t"]  # a chemist's brackets are no markup
    path = written(tmp_path / "drugs.tsv.gz", "variant\tname\tid\tmesh", *rows)

    found = records(
        type="term_table",
        path=path,
        term_column="variant",
        name_column="name",
        concept_column="id",
        system="drugbank",
        reference_columns={"mesh": "mesh"},
    )

    assert shown(found) == [("synonym", "bluex", "blumicin"), ("synonym", "n-[4-({a}->b)]", "blumicin")]
    assert links(found) == {("drugbank:DB1", "mesh:D9")}
    assert drops(found) == ["markup", "no_concept"]


MESH = """<?xml version="1.0"?>
<!DOCTYPE DescriptorRecordSet SYSTEM "https://www.nlm.nih.gov/databases/dtd/nlmdescriptorrecordset_20260101.dtd">
<DescriptorRecordSet LanguageCode = "eng">
<DescriptorRecord><DescriptorUI>D1</DescriptorUI><DescriptorName><String>Fever, Blue</String></DescriptorName>
<TreeNumberList><TreeNumber>C01.100</TreeNumber><TreeNumber>C23.5</TreeNumber></TreeNumberList>
<ConceptList><Concept PreferredConceptYN="Y"><TermList><Term><String>Fever, Blue</String></Term>
<Term><String>Painter's Fever</String></Term></TermList></Concept></ConceptList></DescriptorRecord>
<DescriptorRecord><DescriptorUI>D2</DescriptorUI><DescriptorName><String>Infections</String></DescriptorName>
<TreeNumberList><TreeNumber>C01</TreeNumber></TreeNumberList></DescriptorRecord>
<DescriptorRecord><DescriptorUI>D3</DescriptorUI><DescriptorName><String>Houses</String></DescriptorName>
<TreeNumberList><TreeNumber>J03</TreeNumber></TreeNumberList></DescriptorRecord>
</DescriptorRecordSet>"""
MESH_TABLE = ("mesh_id\tmesh_name\tmesh_tree_number", "D1\tFever, Blue\tC01.100", "D1\tFever, Blue\tC23.5")
MESH_TABLE += ("D2\tInfections\tC01", "D3\tHouses\tJ03")


def test_mesh_gives_entry_terms_and_parents(tmp_path: Path) -> None:
    xml = written(tmp_path / "desc2026.gz", MESH)
    table = written(tmp_path / "trees.tsv", *MESH_TABLE)

    synonyms, parents = (records(type="mesh", path=xml, relation=relation) for relation in ("synonym", "parent"))

    assert shown(synonyms) == [("synonym", "Painter's Fever", "Fever, Blue")]
    assert shown(parents) == [("parent", "Fever, Blue", "Infections")]
    assert drops(parents) == drops(synonyms) == ["branch"]
    assert shown(records(type="mesh", path=table, relation="parent")) == shown(parents)
    pair = parents[0]
    assert isinstance(pair, TermPair) and pair.anchor.lineage == ("mesh:D1", "mesh:D2")
    assert (pair.anchor.group, pair.positive.group) == ("mesh:D1", "mesh:D2")  # a heading is held out by itself


def test_files_of_mesh_that_cannot_serve_are_refused_with_what_would(tmp_path: Path) -> None:
    table = written(tmp_path / "trees.tsv", *MESH_TABLE)
    with pytest.raises(
        SourceError, match=r"sources\[s\].path: trees.tsv has no entry terms; give MeSH's desc<year>.xml"
    ):
        records(type="mesh", path=table, relation="synonym")
    with pytest.raises(SourceError, match="a heading without a descriptor's id"):
        records(type="mesh", path=written(tmp_path / "mtrees", "Infections;C01"), relation="parent")
    with pytest.raises(SourceError, match="line 6: 1 fields, the header has 3"):
        records(type="mesh", path=written(tmp_path / "trees.tsv", *MESH_TABLE, "broken"), relation="parent")
    with pytest.raises(SourceError, match="is not XML after line 12"):
        records(type="mesh", path=written(tmp_path / "cut.xml", MESH[:900]), relation="parent")
    with pytest.raises(SourceError, match="has no known format; expected MeSH's desc"):
        records(type="mesh", path=written(tmp_path / "other", "a,b"), relation="parent")


def test_an_absent_file_is_named_with_its_field(tmp_path: Path) -> None:
    recipe = PairsRecipe.model_validate(
        {"name": "p", "data": str(tmp_path), "sources": [{"name": "s", "type": "obo", "path": "h.obo"}]}
    )
    with pytest.raises(SourceError, match=r"sources\[s\].path: '.*h.obo' is not a file"):
        source_files(recipe.located_sources[0])


def test_equal_names_have_equal_keys() -> None:
    assert text_key("Failure, Kidney") == text_key("kidney failure") != text_key("kidney failures")
