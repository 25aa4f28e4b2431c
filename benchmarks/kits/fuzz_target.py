"""One parser under atheris: ``python -m benchmarks.kits.fuzz_target PARSER SCRATCH [libFuzzer's arguments]``.

Only the readers are instrumented: coverage of what they call would slow them down tenfold.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["clinical_modernbert.sources"]):
    from benchmarks.kits import fuzz_parsers


def main(name: str, scratch: str, *arguments: str) -> None:
    """Fuzz until libFuzzer's limits; it ends the process itself."""

    def parse(content: bytes) -> None:
        fuzz_parsers.check(name, content, Path(scratch))

    atheris.Setup([sys.argv[0], *arguments], parse)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
