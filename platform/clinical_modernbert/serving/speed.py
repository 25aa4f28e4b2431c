"""How fast a replica works through its queue: the basis for refusing texts that would wait too long."""

_WEIGHT = 0.2


class SpeedEstimate:
    """Tokens per second of the compute thread: a moving average over recent batches, the last one with weight 0.2.

    Batches below ``min_tokens`` do not count. A small batch takes almost as long as a full one, so its speed is not the speed at
    which a queue shrinks.
    """

    def __init__(self, *, min_tokens: float, tokens_per_s: float | None = None) -> None:
        self._min_tokens = min_tokens
        self.tokens_per_s = tokens_per_s
        """None until the first batch counts, unless it was measured before."""

    def note(self, num_tokens: int, seconds: float) -> None:
        """Take one finished batch into account."""
        if num_tokens < self._min_tokens:
            return
        latest = num_tokens / max(seconds, 1e-6)
        if self.tokens_per_s is None:
            self.tokens_per_s = latest
        else:
            self.tokens_per_s += _WEIGHT * (latest - self.tokens_per_s)

    def tokens_in(self, seconds: float) -> int | None:
        """Return how many tokens are computed in ``seconds``, None while no speed is known."""
        return None if self.tokens_per_s is None else int(seconds * self.tokens_per_s)

    def seconds_for(self, num_tokens: int) -> float | None:
        """Return how long ``num_tokens`` take, None while no speed is known."""
        return None if self.tokens_per_s is None else num_tokens / self.tokens_per_s
