"""The models of an endpoint, and which of them answers a request.

One replica holds them all, in one process behind one gate. A deployment for each model would need a router in front of them: one
more process on the way of every request, which would have to know their queues to refuse in time, and a replica of each on every
node. The price is memory: each replica has the weights of every model.
"""

from collections.abc import Sequence

from clinical_modernbert.errors import RecipeError
from clinical_modernbert.serving import problems
from clinical_modernbert.serving.engine import Engine
from clinical_modernbert.serving.metrics import TALLY, Record, Tally
from clinical_modernbert.serving.scheduler import compute_thread
from clinical_modernbert.serving.service import EmbeddingService
from clinical_modernbert.serving.tracing import Trace


class ServedModels:
    """The services of an endpoint, one a model; the first answers requests that name none. Raises ``RecipeError``."""

    def __init__(self, services: Sequence[EmbeddingService]) -> None:
        self.services = tuple(services)
        self.ids = tuple(service.engine.model_id for service in services)
        for number, model_id in enumerate(self.ids[1:]):
            if model_id in self.ids[: number + 1]:
                raise RecipeError(f"more_models[{number}]: {model_id} is served already; name each model once")

    @classmethod
    def of_engines(cls, engines: Sequence[Engine], *, record: Record, trace: Trace) -> "ServedModels":
        """Return the models of one replica, which share one compute thread."""
        thread = compute_thread()
        return cls([EmbeddingService(engine, record=record, trace=trace, thread=thread) for engine in engines])

    @property
    def names(self) -> tuple[str, ...]:
        """What a request's ``model`` may be: the ids, and each name alone that only one model has."""
        names = [model_id.rpartition("-")[0] for model_id in self.ids]
        return (*self.ids, *(name for name in names if name and names.count(name) == 1))

    def choose(self, *names: str | None) -> EmbeddingService:
        """Return the model that a request names in its body or in its address, and note it for the audit line.

        Without a name it is the first model that the request's key may use. Raises ``ProblemError``.
        """
        given = {name for name in names if name is not None}
        if len(given) > 1:
            raise problems.two_models()
        tally = TALLY.get(None) or Tally()
        allowed = tally.allowed_models
        name = given.pop() if given else allowed[0] if allowed else None
        service = self.services[0] if name is None else self._find(name)
        if service is None:
            raise problems.unknown_model(self.ids)
        if service not in self.allowed():
            raise problems.wrong_model()
        tally.model = service.engine.model_id
        return service

    def allowed(self) -> list[EmbeddingService]:
        """Return the models that the request's key may use."""
        allowed = (TALLY.get(None) or Tally()).allowed_models
        if allowed is None:
            return list(self.services)
        found = [self._find(name) for name in allowed]
        return [service for service in self.services if service in found]

    def _find(self, name: str) -> EmbeddingService | None:
        """Return the model of an id, or of a name alone that only one model has."""
        if name in self.ids:
            return self.services[self.ids.index(name)]
        found = [service for service in self.services if service.engine.serves(name)]
        return found[0] if len(found) == 1 else None

    def check_threads(self) -> None:
        """Raise ``ProblemError`` (503) if a thread of any model has run one job for too long."""
        for service in self.services:
            service.check_threads()

    def close(self) -> None:
        """Stop the threads."""
        for service in self.services:
            service.close()
