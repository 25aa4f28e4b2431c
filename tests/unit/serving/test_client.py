"""The client is light: a drill or a dashboard that asks the endpoint loads no model library."""

import subprocess
import sys


def test_the_client_loads_neither_torch_nor_ray_nor_a_server() -> None:
    code = (
        "import sys, clinical_modernbert.serving.client; "
        "print([m for m in ('torch', 'ray', 'transformers', 'fastapi') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
