"""Which waiting texts form the next batch: the oldest, those overtaken too often, then those of similar length.

Texts of similar length need the fewest attention buckets, and a short text does not wait for a long text's pass. Pure functions.
"""

from collections.abc import Sequence


def choose_batch(
    lengths: Sequence[int], num_overtakes: Sequence[int], *, max_batch_tokens: int, max_overtakes: int
) -> list[int]:
    """Return the ascending positions of the next batch, given the waiting texts in order of arrival.

    The first text is always in, even if it exceeds the budget alone. Overdue texts (``max_overtakes`` or more) follow by age; the
    first one that does not fit ends the batch, so that nothing overtakes it again. The remaining texts follow by difference in
    length from the first.

    Example, 10 tokens and 4 overtakes at most; the number after the colon counts overtakes:

        waiting   a=6:0  b=3:0  c=6:0  d=4:0      a is the oldest; 4 tokens are left
                  by difference: c (0), d (2), b (3); c does not fit, d fits, b does not
        batch     a, d                            b and c are older than d: one overtake each
        waiting   b=3:1  c=6:1  e=3:0             e is as long as b and fits: 6; c does not fit
        batch     b, e                            c was overtaken again; at 4 overtakes it precedes all texts but the oldest
    """
    # 1. The oldest text: without this rule it could wait forever.
    taken, num_tokens = [0], lengths[0]
    # 2. Overdue texts, oldest first.
    for i in range(1, len(lengths)):
        if num_overtakes[i] < max_overtakes:
            continue
        if num_tokens + lengths[i] > max_batch_tokens:
            return sorted(taken)
        taken.append(i)
        num_tokens += lengths[i]
    # 3. Texts of similar length, as long as they fit.
    by_similarity = sorted(
        (i for i in range(1, len(lengths)) if num_overtakes[i] < max_overtakes),
        key=lambda i: (abs(lengths[i] - lengths[0]), i),
    )
    for i in by_similarity:
        if num_tokens + lengths[i] <= max_batch_tokens:
            taken.append(i)
            num_tokens += lengths[i]
    return sorted(taken)
