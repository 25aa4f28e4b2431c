"""Code tables other than CMS's two diagnosis lists: procedures, order files, MIMIC's tables, HCPCS, CPT, ICD-11, RxNorm, NDC.

Each reader gives one value a row. CPT text belongs to the AMA and ICD-11's to WHO: their readers need a licensed user's
file, and nothing of either ships. ``d_hcpcs`` of MIMIC has CPT codes with section names only; those rows have a short text
and are read.
"""

import re
from collections.abc import Callable, Iterable, Iterator

from clinical_modernbert.sources.codes.rows import CodeRow, clean, icd9_dotted, icd10_dotted, procedure_row
from clinical_modernbert.sources.codes.shapes import plain_code
from clinical_modernbert.sources.csv_rows import read_rows
from clinical_modernbert.sources.document import Dropped, Quarantined
from clinical_modernbert.sources.files import numbered_texts

Rows = Iterator[CodeRow | Dropped | Quarantined]

_PLAIN_LINE = {
    "icd9_procedures": re.compile(r"(\d{3,4}) +(\S.*)"),
    "icd10pcs": re.compile(r"([0-9A-HJ-NP-Z]{7}) +(\S.*)"),
}
_ORDER_LINE = re.compile(r"\d{5} ([A-Z0-9 ]{7}) ([01]) (.{60}) (\S.*)")
_HCPCS = re.compile(r"[A-Z]\d{4}")
_CPT = re.compile(r"\d{4}[0-9A-Z]")


def read_plain(chunks: Iterable[bytes], table: str, *, file: str) -> Rows:
    """Read ``code, spaces, text`` lines: CMS's ICD-9 procedures (volume 3; long or short) and ICD-10-PCS."""
    for number, line in numbered_texts(chunks, file=file):
        if isinstance(line, Quarantined):
            yield line
            continue
        match = _PLAIN_LINE[table].fullmatch(line.rstrip())
        if match:
            yield procedure_row(table, match[1], match[2])
        elif line.strip():
            yield Quarantined(file, f"line {number}", f"no {table} code and description")


def read_descriptions(chunks: Iterable[bytes], table: str, *, file: str) -> Rows:
    """Read ``code<TAB>description`` lines without header, as CAML's ``ICD9_descriptions``: ICD-9-CM diagnoses and procedures.

    The place of the dot tells the two apart: ``38.93`` is a procedure, ``038.9`` a diagnosis. The root and ranges of the
    hierarchy (``@``, ``001-009.99``) are no codes, and dropped as ``header``.
    """
    for number, line in numbered_texts(chunks, file=file):
        if isinstance(line, Quarantined):
            yield line
            continue
        stated, tab, text = line.partition("\t")
        stated = stated.strip()
        if not line.strip():
            continue
        before = stated.partition(".")[0].upper()
        system = "icd9pcs" if len(before) == 2 and before.isdecimal() else "icd9cm"
        code = plain_code(system, stated, place=f"{file}, line {number}") if tab else None
        if tab and (stated == "@" or "-" in stated):
            yield Dropped("header")
        elif code is None:
            yield Quarantined(file, f"line {number}", "no ICD-9-CM code, tab and description")
        elif not text.strip():
            yield Dropped("no_description")
        elif system == "icd9pcs":
            yield procedure_row("icd9_procedures", code, text)
        else:
            dotted = icd9_dotted(code)
            yield CodeRow("icd9cm", dotted, clean(text), dotted.partition(".")[0])


def read_order_file(chunks: Iterable[bytes], system: str, *, file: str) -> Rows:
    """Read CMS's order file (``icd10cm_order_YYYY.txt``): order number, code, header flag, short text in 60 columns, long text.

    Headers, which are categories and not codes for billing, are dropped as ``header``.
    """
    for number, line in numbered_texts(chunks, file=file):
        if isinstance(line, Quarantined):
            yield line
            continue
        match = _ORDER_LINE.fullmatch(line.rstrip())
        if match is None:
            if line.strip():
                yield Quarantined(file, f"line {number}", "no order number, code, flag, short and long text")
        elif match[2] == "0":
            yield Dropped("header")
        else:
            code = match[1].strip()
            yield (
                CodeRow("icd10cm", icd10_dotted(code), clean(match[4]), code[:3])
                if system == "icd10cm"
                else procedure_row("icd10pcs", code, match[4])
            )


def read_mimic_icd(chunks: Iterable[bytes], table: str, *, file: str) -> Rows:
    """Read MIMIC's ``d_icd_diagnoses`` or ``d_icd_procedures``, which hold versions 9 and 10."""
    diagnoses = table == "mimic_diagnoses"
    for row in read_rows(chunks, file=file, columns=("icd_code", "icd_version", "long_title")):
        if isinstance(row, Quarantined):
            yield row
            continue
        stated, version, title = (value.strip() for value in row.values)
        if version not in ("9", "10") or not stated:
            yield Quarantined(file, f"line {row.line}", "no icd_code, or an icd_version other than 9 and 10")
            continue
        system = f"icd{version}{'cm' if diagnoses else 'pcs'}"
        code = plain_code(system, stated, place=f"{file}, line {row.line}")
        if code is None:
            yield Quarantined(file, f"line {row.line}", f"icd_code has not the form of {system}")
        elif not title:
            yield Dropped("no_description")
        elif not diagnoses:
            yield procedure_row("icd9_procedures" if version == "9" else "icd10pcs", code, title)
        elif version == "9":
            dotted = icd9_dotted(code)
            yield CodeRow("icd9cm", dotted, clean(title), dotted.partition(".")[0])
        else:
            yield CodeRow("icd10cm", icd10_dotted(code), clean(title), code[:3])


def read_hcpcs(chunks: Iterable[bytes], table: str, *, file: str) -> Rows:
    """Read ``code, long_description, short_description`` columns: MIMIC's ``d_hcpcs``, or HCPCS level II under CMS's names.

    The long text where there is one, else the short one; five digits, or four and a letter, are CPT, all others HCPCS.
    """
    columns = (
        ("code", "long_description", "short_description")
        if table == "mimic_hcpcs"
        else ("HCPC", "LONG DESCRIPTION", "SHORT DESCRIPTION")
    )
    for row in read_rows(chunks, file=file, columns=columns):
        if isinstance(row, Quarantined):
            yield row
            continue
        stated, long, short = (clean(value) for value in row.values)
        code = plain_code("hcpcs", stated, place=f"{file}, line {row.line}")
        if code is None:
            yield Quarantined(file, f"line {row.line}", f"no {columns[0]}, or not the form of HCPCS or CPT")
        elif not (long or short):
            yield Dropped("no_description")
        else:
            system = "cpt" if _CPT.fullmatch(code) and not _HCPCS.fullmatch(code) else "hcpcs"
            yield CodeRow(system, code, long or short, code)


def read_cpt(chunks: Iterable[bytes], table: str, *, file: str) -> Rows:
    """Read a licensed user's CSV with the columns ``code`` and ``description``."""
    for row in read_rows(chunks, file=file, columns=("code", "description")):
        if isinstance(row, Quarantined):
            yield row
        elif not _CPT.fullmatch(row.values[0].strip()):
            yield Quarantined(file, f"line {row.line}", "no CPT code (five digits, or four and a letter)")
        elif not row.values[1].strip():
            yield Dropped("no_description")
        else:
            yield CodeRow("cpt", row.values[0].strip(), clean(row.values[1]), row.values[0].strip())


def read_icd11(chunks: Iterable[bytes], table: str, *, file: str) -> Rows:
    """Read WHO's simple tabulation of ICD-11 MMS, tab-separated with a header; rows without code (blocks, chapters) are dropped.

    The title's leading ``- - `` marks its depth. The concept is the four characters before the dot.
    """
    for number, values in _tabbed(chunks, ("Code", "Title"), file=file):
        if isinstance(values, Quarantined):
            yield values
            continue
        code, title = values[0].strip().strip('"'), re.sub(r"^(?:- *)+", "", values[1].strip().strip('"'))
        if not code:
            yield Dropped("header")
        elif not title:
            yield Quarantined(file, f"line {number}", "a code without title", record_id=code)
        else:
            yield CodeRow("icd11", code, clean(title), code.partition(".")[0])


def read_rxnorm(chunks: Iterable[bytes], table: str, *, file: str) -> Rows:
    """Read ``RXNCONSO.RRF``: 18 columns between bars, no header, no quoting.

    English names of RxNorm's own vocabulary that are not suppressed; synonyms of a concept (RXCUI) are rows of their own.
    """
    for number, line in numbered_texts(chunks, file=file):
        if isinstance(line, Quarantined):
            yield line
            continue
        fields = line.rstrip("\r").split("|")
        if not line.strip():
            continue
        if len(fields) != 19 or fields[18] or not fields[0].isdecimal() or not fields[14].strip():
            yield Quarantined(file, f"line {number}", "expected 18 columns, each followed by |, with RXCUI and STR")
        elif fields[1] != "ENG" or fields[11] != "RXNORM":
            yield Dropped("other_vocabulary")
        elif fields[16] not in ("N", ""):
            yield Dropped("suppressed")
        else:
            yield CodeRow("rxnorm", fields[0], clean(fields[14]), fields[0])


def read_ndc(chunks: Iterable[bytes], table: str, *, file: str) -> Rows:
    """Read FDA's ``product.txt``: tab-separated with a header. The text is the brand, its substance, form and route."""
    columns = ("PRODUCTNDC", "PROPRIETARYNAME", "NONPROPRIETARYNAME", "DOSAGEFORMNAME", "ROUTENAME")
    for number, values in _tabbed(chunks, columns, file=file):
        if isinstance(values, Quarantined):
            yield values
            continue
        code, brand, generic, form, route = (clean(value) for value in values)
        if not code or not (brand or generic):
            yield Quarantined(file, f"line {number}", "no PRODUCTNDC, or no name")
            continue
        name = f"{brand} ({generic})" if brand and generic and brand.lower() != generic.lower() else brand or generic
        parts = [name, form.lower(), f"{route.lower()} route" if route else ""]
        yield CodeRow("ndc", code, ", ".join(part for part in parts if part), code)


READERS: dict[str, Callable[..., Rows]] = {
    "icd9_procedures": read_plain,
    "icd9_descriptions": read_descriptions,
    "icd10pcs": read_plain,
    "mimic_diagnoses": read_mimic_icd,
    "mimic_procedures": read_mimic_icd,
    "mimic_hcpcs": read_hcpcs,
    "hcpcs": read_hcpcs,
    "cpt": read_cpt,
    "icd11": read_icd11,
    "rxnorm": read_rxnorm,
    "ndc": read_ndc,
}


def _tabbed(
    chunks: Iterable[bytes], columns: tuple[str, ...], *, file: str
) -> Iterator[tuple[int, list[str] | Quarantined]]:
    header: list[str] | None = None
    lines = numbered_texts(chunks, file=file)
    for number, line in lines:
        if isinstance(line, Quarantined):
            yield number, line
            continue
        fields = line.rstrip("\r").split("\t")
        if header is None:
            header = [name.strip().strip('"').removeprefix("\ufeff") for name in fields]
            missing = [column for column in columns if column not in header]
            if missing:
                lost = sum(1 for _ in lines)
                reason = f"the header has no column {', '.join(missing)}"
                yield number, Quarantined(file, f"line {number}", reason, num_lost=lost)
                return
        elif len(fields) < len(header) - 1:
            if line.strip():
                yield number, Quarantined(file, f"line {number}", f"{len(fields)} columns, expected {len(header)}")
        else:
            fields += [""] * (len(header) - len(fields))
            yield number, [fields[header.index(column)] for column in columns]
