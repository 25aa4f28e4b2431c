"""Runs in a pod (``cluster_load``): clients that send one request after the other; each second a line of JSON says what they met.

python load_pod.py URL MODEL CLIENTS
"""

import json
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

from clinical_modernbert.serving.client import Attempts, Client, EndpointError

PAUSE_S = 0.2
REPORT_S = 1.0


@dataclass(slots=True)
class Load:
    """What all clients met. ``lost`` are requests that the project's client, which retries, gave up."""

    url: str
    model: str
    attempts: list[Attempts] = field(default_factory=list)
    answered: int = 0
    lost: int = 0
    wrong: int = 0
    longest_gap_s: float = 0
    longest_gap_ended: str = ""
    last: float = field(default_factory=time.monotonic)
    longest_stall_s: float = 0
    reported: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def send_one_after_the_other(self) -> None:
        """Send the same text until the pod ends; each answer must equal the first."""
        attempts = Attempts()
        self.attempts.append(attempts)
        client = Client(self.url, attempts=attempts)
        first = None
        while True:
            try:
                vector = client.embed(["chest pain"], model=self.model)[0]
            except EndpointError:
                with self.lock:
                    self.lost += 1
            else:
                first = vector if first is None else first
                self.answer(at=time.monotonic(), wrong=float(abs(vector - first).max()) > 1e-5)
            time.sleep(PAUSE_S)

    def report(self, *, at: float) -> str:
        """Return the counts as JSON; a gap between answers that still lasts counts.

        A late report is a stall of the clients themselves, such as a node without a free CPU: the endpoint has no part in it.
        """
        with self.lock:
            self.longest_stall_s = max(self.longest_stall_s, at - self.reported - REPORT_S)
            self.reported = at
            counts = {
                "answered": self.answered,
                "lost": self.lost,
                "wrong": self.wrong,
                "first_failures": sum((attempts.first_failures for attempts in self.attempts), Counter[str]()),
                "longest_gap_s": round(max(self.longest_gap_s, at - self.last), 1),
                "longest_gap_ended": self.longest_gap_ended,
                "longest_stall_s": round(self.longest_stall_s, 1),
            }
        return json.dumps(counts)

    def answer(self, *, at: float, wrong: bool) -> None:
        """Count an answer; the time before the first one is no gap."""
        with self.lock:
            if self.answered and at - self.last > self.longest_gap_s:
                self.longest_gap_s = at - self.last
                self.longest_gap_ended = datetime.now(UTC).isoformat(timespec="seconds")
            self.last = at
            self.answered += 1
            self.wrong += wrong


def main() -> None:
    """Start the clients and report until the pod ends."""
    url, model, number = sys.argv[1:]
    load = Load(url, model)
    for _ in range(int(number)):
        threading.Thread(target=load.send_one_after_the_other, daemon=True).start()
    while True:
        time.sleep(REPORT_S)
        sys.stdout.write(load.report(at=time.monotonic()) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
