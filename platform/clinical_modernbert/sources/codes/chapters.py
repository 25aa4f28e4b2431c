"""Chapters of ICD-9-CM and ICD-10-CM diagnosis codes: the ranges of the tabular lists (NCHS, CMS; ICD-10-CM of April 2026)."""

_ICD9_NUMERIC = (
    ("001-139", "Infectious and parasitic diseases"),
    ("140-239", "Neoplasms"),
    ("240-279", "Endocrine, nutritional and metabolic diseases, and immunity disorders"),
    ("280-289", "Diseases of the blood and blood-forming organs"),
    ("290-319", "Mental disorders"),
    ("320-389", "Diseases of the nervous system and sense organs"),
    ("390-459", "Diseases of the circulatory system"),
    ("460-519", "Diseases of the respiratory system"),
    ("520-579", "Diseases of the digestive system"),
    ("580-629", "Diseases of the genitourinary system"),
    ("630-679", "Complications of pregnancy, childbirth, and the puerperium"),
    ("680-709", "Diseases of the skin and subcutaneous tissue"),
    ("710-739", "Diseases of the musculoskeletal system and connective tissue"),
    ("740-759", "Congenital anomalies"),
    ("760-779", "Certain conditions originating in the perinatal period"),
    ("780-799", "Symptoms, signs, and ill-defined conditions"),
    ("800-999", "Injury and poisoning"),
)
_ICD9_EXTERNAL = ("E000-E999", "Supplementary classification of external causes of injury and poisoning")
_ICD9_FACTORS = (
    "V01-V91",
    "Supplementary classification of factors influencing health status and contact with health services",
)

_ICD10 = (
    ("A00-B99", "Certain infectious and parasitic diseases"),
    ("C00-D49", "Neoplasms"),
    ("D50-D89", "Diseases of the blood and blood-forming organs and certain disorders involving the immune mechanism"),
    ("E00-E89", "Endocrine, nutritional and metabolic diseases"),
    ("F01-F99", "Mental, behavioral and neurodevelopmental disorders"),
    ("G00-G99", "Diseases of the nervous system"),
    ("H00-H59", "Diseases of the eye and adnexa"),
    ("H60-H95", "Diseases of the ear and mastoid process"),
    ("I00-I99", "Diseases of the circulatory system"),
    ("J00-J99", "Diseases of the respiratory system"),
    ("K00-K95", "Diseases of the digestive system"),
    ("L00-L99", "Diseases of the skin and subcutaneous tissue"),
    ("M00-M99", "Diseases of the musculoskeletal system and connective tissue"),
    ("N00-N99", "Diseases of the genitourinary system"),
    ("O00-O9A", "Pregnancy, childbirth and the puerperium"),
    ("P00-P96", "Certain conditions originating in the perinatal period"),
    ("Q00-QA0", "Congenital malformations, deformations and chromosomal abnormalities"),
    ("R00-R99", "Symptoms, signs and abnormal clinical and laboratory findings, not elsewhere classified"),
    ("S00-T88", "Injury, poisoning and certain other consequences of external causes"),
    ("U00-U85", "Codes for special purposes"),
    ("V00-Y99", "External causes of morbidity"),
    ("Z00-Z99", "Factors influencing health status and contact with health services"),
)


def icd9_chapter(code: str) -> tuple[str, str]:
    """Return (id such as ``001-139``, title) of the chapter of an ICD-9-CM diagnosis code, with or without dot.

    The 17 numeric chapters, ``E000-E999`` and ``V01-V91``; ``ValueError`` for anything else.
    """
    if code[:1] == "E" and code[1:4].isdecimal():
        return _ICD9_EXTERNAL
    if code[:1] == "V" and "01" <= code[1:3] <= "91":
        return _ICD9_FACTORS
    if code[:3].isdecimal() and len(code) >= 3:
        return _in_range(_ICD9_NUMERIC, code[:3], code)
    raise ValueError(
        f"{code!r} is not an ICD-9-CM diagnosis code: expected 3 digits, V and 2 digits, or E and 3 digits"
    )


def icd10_chapter(code: str) -> tuple[str, str]:
    """Return (id such as ``A00-B99``, title) of the chapter of an ICD-10-CM code, with or without dot; else ``ValueError``."""
    return _in_range(_ICD10, code[:3], code)


def _in_range(chapters: tuple[tuple[str, str], ...], category: str, code: str) -> tuple[str, str]:
    for chapter in chapters:
        first, last = chapter[0].split("-")
        # Characters compare in the order of the classification: digits before letters (C4A is in C00-D49, O9A ends O).
        if first <= category <= last:
            return chapter
    raise ValueError(f"{code!r} is in no chapter; the chapters are {', '.join(chapter[0] for chapter in chapters)}")
