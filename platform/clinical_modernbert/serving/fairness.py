"""Whose turn it is: keys share a replica's speed by tokens, however many texts each has queued.

Start-time fair queueing: a text's turn is the virtual time at which its key's earlier texts end, or the present if the key has
none. The present is the turn of the text that was taken last. Texts of one key keep their order of arrival, and so do all texts
where there are no keys. Pure state: no clock.

    turns     key a queues three texts of 10 tokens: turns 0, 10, 20; key b then queues two of 5 tokens: turns 0, 5
    order     a0 b0 b5 a10 a20
"""

from collections import Counter
from collections.abc import Iterable

Owner = str | None
"""Name of a key; None where there are no keys."""
Text = tuple[Owner, float, int]
"""Owner, turn and tokens of a text."""


class Turns:
    """The virtual time of each key."""

    def __init__(self) -> None:
        self._now = 0.0
        self._ends: dict[Owner, float] = {}
        self._taken: dict[Owner, float] = {}

    def next(self, owner: Owner, num_tokens: int) -> float:
        """Return the turn of a new text."""
        turn = max(self._now, self._ends.get(owner, 0.0))
        self._ends[owner] = turn + num_tokens
        return turn

    def take(self, texts: Iterable[Text]) -> None:
        """Note the texts of a batch, and move the present to its first text, whose turn it is."""
        for i, (owner, turn, num_tokens) in enumerate(texts):
            if i == 0:
                self._now = max(self._now, turn)
            self._taken[owner] = max(self._taken.get(owner, 0.0), turn + num_tokens)

    def keep(self, waiting: Iterable[Text]) -> None:
        """Forget texts that were dropped; ``waiting`` are those that stay. What was taken still counts."""
        self._taken = {owner: end for owner, end in self._taken.items() if end > self._now}
        self._ends = dict(self._taken)
        for owner, turn, num_tokens in waiting:
            self._ends[owner] = max(self._ends.get(owner, 0.0), turn + num_tokens)


class QueuedTokens:
    """Tokens that wait, by key."""

    def __init__(self) -> None:
        self._of: Counter[Owner] = Counter()

    def add(self, owner: Owner, num_tokens: int) -> None:
        """Count tokens that joined, or left with a negative number."""
        self._of[owner] += num_tokens
        if not self._of[owner]:
            del self._of[owner]

    @property
    def total(self) -> int:
        """Of all keys."""
        return self._of.total()

    def before(self, owner: Owner, num_tokens: int) -> int:
        """Return about how many are computed before ``num_tokens`` new ones of ``owner`` end.

        These are its own, and as many of each other key.
        """
        own = self._of[owner]
        return own + sum(min(queued, own + num_tokens) for other, queued in self._of.items() if other != owner)
