"""The split is by group, stable, and of the size asked for."""

from clinical_modernbert.corpus import is_held_out
from clinical_modernbert.recipe.corpus import HeldOutSection


def test_share_is_the_recipes() -> None:
    section = HeldOutSection(fraction=0.1)
    share = sum(is_held_out(f"pmid:{n}", section) for n in range(20_000)) / 20_000
    assert abs(share - 0.1) < 4 * (0.1 * 0.9 / 20_000) ** 0.5


def test_group_decides_and_seed_changes_the_draw() -> None:
    first, second = HeldOutSection(seed=0), HeldOutSection(seed=1)
    groups = [f"subject_id:{n}" for n in range(2000)]
    drawn = [is_held_out(group, first) for group in groups]
    assert drawn == [is_held_out(group, first) for group in groups]
    assert drawn != [is_held_out(group, second) for group in groups]


def test_the_split_never_moves() -> None:
    held_out = [n for n in range(200) if is_held_out(f"pmid:{n}", HeldOutSection())]
    assert held_out == FROZEN


# A change here would put what older models were trained on into the held-out split.
FROZEN = [1, 51, 54, 66, 91, 105, 117, 126, 144, 185]
