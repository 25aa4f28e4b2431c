"""The demo's overrides go to the recipe of their kind; a wrong one is refused before Ray starts."""

from pathlib import Path

import pytest
from clinical_modernbert.artifacts import open_store
from clinical_modernbert.demo import run
from clinical_modernbert.demo.run import main, run_demo
from clinical_modernbert.errors import RecipeError


@pytest.fixture(autouse=True)
def _ray_must_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "start_ray", lambda **options: pytest.fail("Ray was started"))


@pytest.mark.parametrize("override", ["corpse.name=x", "training.num_steps=3", "serve.model=demo", "corpus"])
def test_an_override_must_begin_with_a_kind(tmp_path: Path, override: str) -> None:
    with pytest.raises(
        RecipeError,
        match=r"must begin with one of corpus\., pretrain\., sweep\., evaluate\., pairs\., contrast\., map\.",
    ):
        run_demo(open_store(str(tmp_path)), overrides=[override])


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("map.max_code=200", "max_code: unknown key"),
        ("evaluate.max_rows=0", "max_rows: "),
        ("pretrain.training.num_step=6", "training.num_step: unknown key"),
        ('sweep.overrides=["training.num_step=6"]', "training.num_step: unknown key"),
        ("corpus.sources=[]", "sources: "),
    ],
)
def test_a_mistake_in_a_late_step_is_told_before_the_first_one(tmp_path: Path, override: str, named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        run_demo(open_store(str(tmp_path)), overrides=[override])


def test_a_folder_without_data_ends_with_2_and_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--data", str(tmp_path / "nowhere"), "--root", str(tmp_path)])
    assert stop.value.code == 2
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")] == [
        f"error: DATA={tmp_path / 'nowhere'} is not a folder"
    ]
