"""The short form of ``make drill ROW=fuzz`` for parsers; requests by the OpenAPI page are in ``test_serving_openapi.py``."""

from pathlib import Path

import numpy as np
import pytest
from clinical_modernbert.errors import SourceError

from benchmarks.kits import fuzz_parsers
from benchmarks.kits.bad_files import CANARY

# Inputs that once broke a rule, in a folder for each parser.
KEPT = Path(__file__).parents[2] / "golden" / "fuzz"


@pytest.mark.parametrize("name", fuzz_parsers.PARSERS)
def test_a_parser_reads_or_refuses_any_bytes(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for content in fuzz_parsers.PARSERS[name].seeds:
        assert fuzz_parsers.check(name, content, tmp_path) == "read"
    for content in [path.read_bytes() for path in (KEPT / name).glob("*")]:
        fuzz_parsers.check(name, content, tmp_path)
    for _ in range(150):
        fuzz_parsers.check(name, fuzz_parsers.mutated(name, rng), tmp_path)


def test_text_in_a_refusal_and_errors_that_no_reader_foresees_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(path: Path) -> list[object]:
        raise SourceError(path.read_text())

    monkeypatch.setitem(fuzz_parsers.PARSERS, "broken", fuzz_parsers.Parser("x", (), parse))
    for message in (f"wrong: {CANARY}", "KeyError in x.py; leave the file out and report it"):
        with pytest.raises(fuzz_parsers.RuleBrokenError):
            fuzz_parsers.check("broken", message.encode(), tmp_path)
    assert fuzz_parsers.check("broken", b"line 3: not UTF-8", tmp_path) == "refused"
