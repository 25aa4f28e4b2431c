"""`[MASK]` as people type it: a model that was trained by the job answers with and without blanks before it, in every place.

A mask that is typed after a blank once became two tokens, the first of which was beside no mask in training: no answer was right.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clinical_modernbert.artifacts import open_store
from clinical_modernbert.serving.client import Client
from transformers import pipeline

from benchmarks.kits.training_runs import finish, start_job
from tests.helpers.bare_server import KEYS, Server, key_lines
from tests.helpers.tiny import DRUGS, publish_tiny_corpus, tiny_pretrain_plan

PLACES = {"ward", "clinic", "theatre", "hospital"}
BLANKS = ("", " ", "  ")
QUESTIONS = [
    f"The patient took {DRUGS[number % len(DRUGS)]} {1 + number % 8} mg daily in the{BLANKS[number % 3]}[MASK]."
    for number in range(200)
]
STEPS = "training.num_steps=400"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the model of 400 steps."""
    scratch = tmp_path_factory.mktemp("masks")
    store = open_store(str(scratch / "store"))
    publish_tiny_corpus(store)
    overrides = (STEPS, "checkpoint.every_steps=400", "logging.every_steps=100")
    finish(start_job(store, scratch, *overrides), tiny_pretrain_plan(store, *overrides))
    return scratch / "store"


@pytest.fixture
def server(trained: Path) -> Iterator[Server]:
    running = Server(trained, key_lines())
    yield running
    running.close()


def share_right(answer: Callable[[str], str]) -> dict[str, float]:
    """Return the share of questions whose first answer is one of the places, by the blanks before the mask."""
    right = {blanks: [0, 0] for blanks in BLANKS}
    for number, question in enumerate(QUESTIONS):
        counts = right[BLANKS[number % 3]]
        counts[0] += answer(question).strip() in PLACES
        counts[1] += 1
    return {blanks: found / asked for blanks, (found, asked) in right.items()}


@pytest.mark.ray
def test_two_hundred_questions_to_the_endpoint(server: Server) -> None:
    client = Client(server.url, key=KEYS["full"])
    found = share_right(lambda text: str(client.fill_mask(text, top_k=1)[0]["token_str"]))
    assert min(found.values()) >= 0.95, found


@pytest.mark.ray
def test_two_hundred_questions_to_a_pipeline_of_the_export(trained: Path) -> None:
    (folder,) = (trained / "model").glob("*/model")
    answers = pipeline("fill-mask", model=str(folder))
    found = share_right(lambda text: str(answers(text, top_k=1)[0]["token_str"]))
    assert min(found.values()) >= 0.95, found
