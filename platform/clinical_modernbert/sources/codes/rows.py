"""A row of a code table, and the spelling of codes and descriptions in it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CodeRow:
    """One code as its table states it."""

    system: str
    """Code system: ``icd9cm``, ``icd9pcs``, ``icd10cm``, ``icd10pcs``, ``hcpcs``, ``cpt``, ``icd11``, ``rxnorm``, ``ndc``."""
    code: str
    """As users write it: with the dot of ICD."""
    description: str
    concept: str
    """Held out as a whole within the system: the ICD category, an NDC's product, elsewhere the code itself."""


def icd9_dotted(code: str) -> str:
    """``25000`` -> ``250.00``; external causes have four characters before the dot (``E812.0``)."""
    length = 4 if code.startswith("E") else 3
    return f"{code[:length]}.{code[length:]}" if len(code) > length else code


def icd10_dotted(code: str) -> str:
    """``E119`` -> ``E11.9``."""
    return f"{code[:3]}.{code[3:]}" if len(code) > 3 else code


def procedure_row(table: str, code: str, text: str) -> CodeRow:
    """Return the row of an ICD procedure, whose code has no dot."""
    if table == "icd10pcs":
        # The first three characters are section, body system and operation.
        return CodeRow("icd10pcs", code, clean(text), code[:3])
    dotted = f"{code[:2]}.{code[2:]}" if len(code) > 2 else code
    return CodeRow("icd9pcs", dotted, clean(text), code[:2])


def clean(text: str) -> str:
    """Return a description with single blanks."""
    return " ".join(text.split())
