"""An environment with transformers 4.57, to load exports as users do who have not moved to transformers 5.

It is made once, in ``build/peers`` of the checkout. Only what differs is installed (12 MB); everything else, torch above all, is
that of this environment.
"""

import json
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.helpers import reading
from tests.helpers.reading import Reading

_INSTALLED = ("transformers==4.57.6", "tokenizers==0.22.1", "huggingface_hub==0.36.0", "sentence-transformers==5.1.2")
_FOLDER = Path(__file__).resolve().parents[2] / "build" / "peers" / "transformers-4.57"
# Packages that need the hub's client of transformers 5.
_NOT_BORROWED = ("transformers", "tokenizers", "huggingface_hub", "sentence_transformers", "datasets", "accelerate")


def read_by_transformers_4(folders: Mapping[str, Path]) -> dict[str, Reading]:
    """Return what transformers 4.57 and sentence-transformers 5.1 read from the folders of models; skips without them."""
    command = [str(_python()), str(Path(reading.__file__)), *(str(folder) for folder in folders.values())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(zip(folders, json.loads(done.stdout.splitlines()[-1]), strict=True))


def _python() -> Path:
    """Make the environment unless it is there, of the same packages."""
    python, finished = _FOLDER / "bin" / "python", _FOLDER / "finished"
    packages = Path(sysconfig.get_path("purelib"))
    made_of = " ".join((*_INSTALLED, str(packages)))
    if finished.is_file() and finished.read_text() == made_of:
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(_FOLDER)], check=True)
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--retries", "1", "--timeout", "20"]
    command = [str(python), "-m", "pip", "install", *options, *_INSTALLED]
    installed = subprocess.run(command, capture_output=True, text=True, check=False)
    if installed.returncode:
        pytest.skip(f"transformers 4.57 cannot be installed: {installed.stderr.strip().splitlines()[-1]}")
    _borrow(packages)
    finished.write_text(made_of)
    return python


def _borrow(packages: Path) -> None:
    """Link the other packages of this environment; Python finds those that were installed first."""
    (links := _FOLDER / "borrowed").mkdir()
    for path in packages.iterdir():
        if not path.name.startswith(_NOT_BORROWED) and path.suffix != ".pth":
            (links / path.name).symlink_to(path)
    (target,) = _FOLDER.glob("lib/python*/site-packages")
    (target / "borrowed.pth").write_text(f"{links}\n")
