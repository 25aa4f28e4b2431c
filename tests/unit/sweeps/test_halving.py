"""Who goes on beyond a rung, and what is kept of those that do not."""

import math

import pytest
from clinical_modernbert.artifacts import Store, make_plan, open_store
from clinical_modernbert.errors import ModelError
from clinical_modernbert.recipe import PretrainRecipe, build_recipe
from clinical_modernbert.recipe.sweep import HalvingSection
from clinical_modernbert.sweeps import halving
from clinical_modernbert.sweeps.board import Board, Reached
from clinical_modernbert.sweeps.halving import lags, rungs, train_while_it_keeps_up
from clinical_modernbert.sweeps.kinds import PRETRAINING, VECTORS
from clinical_modernbert.training.launch import pretrain_in_process
from clinical_modernbert.training.state import HeldOutPoint

from tests.helpers.tiny import TINY_PRETRAIN, publish_tiny_corpus

CURVE = (
    HeldOutPoint(1, {"uniform_loss": 5.0}),
    HeldOutPoint(3, {"uniform_loss": 4.0}),
    HeldOutPoint(5, {"entity_loss": 4.0}),
)


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(str(tmp_path_factory.mktemp("store")))


def test_rungs_lie_a_factor_apart_and_the_end_is_none() -> None:
    section = HalvingSection(grace_steps=50, reduction_factor=3)
    assert rungs(section, num_steps=451) == [50, 150, 450]
    assert rungs(section, num_steps=450) == [50, 150]


@pytest.mark.parametrize(
    ("loss", "others", "factor", "lagging"),
    [
        (9.0, [], 3, False),  # the first
        (4.0, [5.0], 3, False),  # the best of few
        (5.0, [4.0], 3, True),
        (5.0, [5.0], 3, False),  # as good as the best
        (5.0, [4.0, 6.0, 7.0], 2, False),  # the second of four
        (6.0, [4.0, 5.0, 7.0], 2, True),
        (5.0, [4.0, 6.0, 7.0], 4, True),
        (5.0, [None, None], 2, False),  # others have not been there
        (math.nan, [], 2, True),
        (math.inf, [], 2, True),
        (5.0, [math.nan], 2, False),
    ],
)
def test_the_best_one_in_so_many_goes_on(loss: float, others: list[float | None], factor: int, lagging: bool) -> None:
    assert lags(loss, others, factor=factor) is lagging


def test_a_board_keeps_what_each_trial_reached_until_it_is_cleared(store: Store) -> None:
    board = Board(store, "s-1")
    assert board.read("a") is None and board.others("a") == []
    board.write("a", Reached(CURVE))
    board.write("b", Reached(CURVE[:1], lost_rung=2, stopped_after=3))
    assert board.read("b") == Reached(CURVE[:1], lost_rung=2, stopped_after=3)
    assert board.others("b") == [Reached(CURVE)] and Board(store, "s-2").others("c") == []
    board.clear()
    assert board.read("a") is None and list(store.walk("work")) == []


def test_losses_are_those_of_the_uniform_mask_at_equal_steps() -> None:
    reached = Reached(CURVE)
    assert [reached.value_after(steps, "uniform_loss") for steps in (1, 2, 3, 4, 6)] == [None, 5.0, None, 4.0, None]
    assert Reached(CURVE[:2]).last_value("uniform_loss") == 4.0 and Reached(()).last_value("uniform_loss") is None


def test_of_a_recall_the_highest_goes_on() -> None:
    costs = [VECTORS.cost(recall) for recall in (0.7, 0.6, 0.5, None)]
    assert (
        not lags(costs[0], costs[1:], factor=3) and lags(costs[2], costs[:2], factor=3) and lags(costs[3], [], factor=3)
    )
    assert PRETRAINING.cost(2.0) < PRETRAINING.cost(3.0) < PRETRAINING.cost(math.nan)


def test_a_stopped_trial_is_decided_and_is_not_trained_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_tiny_corpus(store)
    plan = make_plan(build_recipe(PretrainRecipe, TINY_PRETRAIN, origin="test"), store)
    board = Board(store, "s-1")
    board.write(plan.id, Reached(CURVE[:2], lost_rung=2, stopped_after=4))
    monkeypatch.setattr(halving, "launch", lambda plan: pytest.fail("trained again"))
    assert train_while_it_keeps_up(plan, HalvingSection(grace_steps=2), board, PRETRAINING) == 4.0


def test_a_rung_that_was_passed_stays_passed_when_the_sweep_starts_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an unbroken sweep no later arrival changes what was decided."""
    publish_tiny_corpus(store)
    overrides = ["held_out_loss.every_steps=2", "checkpoint.every_steps=null"]
    plan = make_plan(build_recipe(PretrainRecipe, TINY_PRETRAIN, overrides=overrides, origin="test"), store)
    board = Board(store, "s-1")
    board.write(plan.id, Reached(CURVE[:1]))  # after 2 steps a loss of 5.0
    board.write("other", Reached((HeldOutPoint(1, {"uniform_loss": 1.0}),)))
    monkeypatch.setattr(halving, "launch", pretrain_in_process)
    monkeypatch.setattr(halving, "_POLL_S", 0.05)
    section = HalvingSection(grace_steps=2, reduction_factor=100)
    value = train_while_it_keeps_up(plan, section, board, PRETRAINING)
    existing = plan.existing()
    assert existing is not None and value == existing.summary["held_out"]["uniform_loss"]


def test_nobody_is_measured_against_a_trial_that_failed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_tiny_corpus(store)
    plan = make_plan(build_recipe(PretrainRecipe, TINY_PRETRAIN, origin="test"), store)
    board = Board(store, "s-1")
    board.write(plan.id, Reached(CURVE))

    def diverging(plan: object) -> None:
        raise ModelError("step 4: no number")

    monkeypatch.setattr(halving, "launch", diverging)
    with pytest.raises(ModelError, match="step 4"):
        train_while_it_keeps_up(plan, HalvingSection(grace_steps=2), board, PRETRAINING)
    assert [reached.value_after(2, "uniform_loss") for reached in board.others("another")] == [None]
