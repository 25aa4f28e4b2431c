"""The order of rows is a permutation, a function of (seed, step), and the same for every number of workers."""

import numpy as np
from clinical_modernbert.training.row_order import RowOrder, permute
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(deadline=None)
@given(size=st.integers(1, 3000), seed=st.integers(0, 2**32), epoch=st.integers(0, 50))
def test_permute_is_a_permutation(size: int, seed: int, epoch: int) -> None:
    image = permute(np.arange(size), size, seed=seed, epoch=epoch)
    assert sorted(image.tolist()) == list(range(size))


def test_permutation_is_well_mixed() -> None:
    image = permute(np.arange(10_000), 10_000, seed=0, epoch=0)
    # Rank correlation with the identity of a random permutation has a standard deviation of 1/sqrt(n).
    assert abs(np.corrcoef(image, np.arange(10_000))[0, 1]) < 4 / 100
    assert (np.diff(image) == 1).sum() < 10


@settings(deadline=None)
@given(num_rows=st.integers(1, 200), batch_rows=st.integers(1, 64))
def test_epochs_visit_every_row_once(num_rows: int, batch_rows: int) -> None:
    order = RowOrder(num_rows=num_rows, batch_rows=batch_rows, seed=3)
    seen = np.concatenate([order.rows(step) for step in range(2 * num_rows // batch_rows + 2)])
    for epoch in range(2):
        assert sorted(seen[epoch * num_rows : (epoch + 1) * num_rows]) == list(range(num_rows))


def test_epochs_differ_and_steps_need_no_history() -> None:
    order = RowOrder(num_rows=100, batch_rows=100, seed=0)
    assert order.rows(0).tolist() != order.rows(1).tolist()
    assert order.rows(7).tolist() == RowOrder(num_rows=100, batch_rows=100, seed=0).rows(7).tolist()
    assert order.rows(0).tolist() != RowOrder(num_rows=100, batch_rows=100, seed=1).rows(0).tolist()


@settings(deadline=None)
@given(num_runs=st.integers(1, 50), run_rows=st.integers(1, 7), batch_runs=st.integers(1, 9))
def test_neighbours_stay_together_and_an_epoch_has_all(num_runs: int, run_rows: int, batch_runs: int) -> None:
    num_rows = num_runs * run_rows
    order = RowOrder(num_rows=num_rows, batch_rows=batch_runs * run_rows, seed=3, run_rows=run_rows)
    seen = np.concatenate([order.rows(step) for step in range(num_runs // batch_runs + 1)])
    assert sorted(seen[:num_rows]) == list(range(num_rows))
    runs = seen.reshape(-1, run_rows)
    assert (runs == runs[:, :1] + np.arange(run_rows)).all() and (runs[:, 0] % run_rows == 0).all()


def test_a_short_last_run_ends_with_the_first_rows() -> None:
    rows = RowOrder(num_rows=5, batch_rows=6, seed=0, run_rows=3).rows(0)
    assert sorted(rows.tolist()) == [0, 0, 1, 2, 3, 4]
