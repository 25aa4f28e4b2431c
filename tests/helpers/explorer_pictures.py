"""Make the pictures of ``docs/explorer.md`` again.

``PYTHONPATH=platform:dashboards:. python -m tests.helpers.explorer_pictures [NAME ...]``

The maps show all ICD-9-CM codes, placed by t-SNE on shared words and on shared letters, so that no trained model is needed. Runs
and the evaluation are those of the tests. Needs Chromium. Look at the pictures before they are committed.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from clinical_modernbert.artifacts import Store, open_store
from clinical_modernbert.encoder.neighbours import nearest
from clinical_modernbert.evaluation.codes.code_set import code_set
from clinical_modernbert.evaluation.codes.map_files import NEIGHBOURS_SHOWN, Placed
from clinical_modernbert.evaluation.codes.vectors import project, text_vectors
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, expect

from tests.helpers.explorer_browser import browsing, find_chromium, map_of, running_explorer
from tests.helpers.explorer_stores import fill_store
from tests.helpers.real_map import publish_real_map

REPOSITORY = Path(__file__).resolve().parents[2]
_TARGET = REPOSITORY / "docs" / "img"
_COLOURS = 128  # of a picture: a third of the bytes, and no difference to the eye


def _code_map(page: Page, address: str) -> None:
    page.goto(address)
    shown = map_of(page)
    page.get_by_role("combobox", name="Search", exact=True).fill("heart attack")
    expect(shown.locator(".count")).to_contain_text("found")
    page.wait_for_timeout(1500)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Control+Enter")
    expect(shown.get_by_role("button", name="My list: ")).to_be_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Nearest codes", exact=True)).to_be_visible()


def _dark(page: Page, address: str) -> None:
    page.emulate_media(color_scheme="dark")
    page.goto(address)
    map_of(page).get_by_role("button", name="Density").click()


def _compare(page: Page, address: str) -> None:
    page.goto(f"{address}/compare?code=410.00")
    expect(page.locator(".map[data-drawn]")).to_have_count(2)
    expect(page.get_by_text("Nearest to 410.00")).to_have_count(2)


def _evaluation(page: Page, address: str) -> None:
    page.goto(f"{address}/evaluation?evaluation=whole-1")
    expect(page.get_by_role("heading", name="Evaluation", exact=True)).to_be_visible()


def _runs(page: Page, address: str) -> None:
    page.goto(f"{address}/runs?mode=researcher&runs=first-1,second-1")
    expect(page.locator("[data-testid=stVegaLiteChart] :is(canvas, svg)").first).to_be_visible()
    page.get_by_role("heading", name="Finished").evaluate("heading => heading.scrollIntoView()")


# name -> the size, whether it is of the real maps, and what leads to what is seen.
_PICTURES: dict[str, tuple[tuple[int, int], bool, Callable[[Page, str], None]]] = {
    "explorer-code-map": ((1440, 900), True, _code_map),
    "explorer-dark": ((1440, 900), True, _dark),
    "explorer-compare": ((1440, 1200), True, _compare),
    "explorer-evaluation": ((1440, 1200), False, _evaluation),
    "explorer-runs": ((1440, 1400), False, _runs),
}


def main(wanted: list[str]) -> None:
    """Make the pictures that are named, or all."""
    with tempfile.TemporaryDirectory() as scratch:
        for real in (True, False):
            names = [name for name in wanted or _PICTURES if _PICTURES[name][1] is real]
            if not names:
                continue
            with _server(Path(scratch), real=real) as address:
                for name in names:
                    _take(name, address, Path(scratch))


def _take(name: str, address: str, scratch: Path) -> None:
    (width, height), _, lead = _PICTURES[name]
    with browsing(find_chromium(), address, width=width, height=height) as watched:
        lead(watched.page, address)
        expect(watched.page.locator("[data-testid=stStatusWidget]")).to_have_count(0)
        watched.page.wait_for_timeout(2000)
        watched.page.screenshot(path=scratch / "screen.png")
    picture = Image.open(scratch / "screen.png").convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
    picture.save(_TARGET / f"{name}.png", optimize=True)
    sys.stdout.write(f"{name}.png\n")


@contextmanager
def _server(scratch: Path, *, real: bool) -> Iterator[str]:
    store = open_store(f"file://{scratch}/{'real' if real else 'made'}")
    if real:
        _publish_maps(store, scratch)
    else:
        fill_store(store)
    with running_explorer(store, REPOSITORY) as address:
        yield address


def _publish_maps(store: Store, scratch: Path) -> None:
    for model, vectors in (("shared-letters", _of_letters), ("shared-words", text_vectors)):
        folder = scratch / model
        folder.mkdir()
        publish_real_map(store, folder, name=model, model=model, placed=_placed(vectors(_descriptions())))


@cache
def _descriptions() -> list[str]:
    return code_set("icd9cm", max_codes=None, seed=0).descriptions


def _of_letters(texts: list[str]) -> NDArray[np.float32]:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    matrix = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True, min_df=3).fit_transform(texts)
    reduced: NDArray[np.float32] = TruncatedSVD(128, random_state=0).fit_transform(matrix).astype(np.float32)
    return reduced


def _placed(vectors_ND: NDArray[np.float32]) -> Placed:
    near_NK, similar_NK = nearest(vectors_ND, k=NEIGHBOURS_SHOWN)
    return Placed(
        xy_N2=project(vectors_ND, perplexity=30, num_iterations=500, seed=0, num_cpus=2),
        held_out_N=np.zeros(len(vectors_ND), bool),
        neighbours_NK=near_NK,
        similarities_NK=similar_NK,
        vectors_ND=vectors_ND,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
