"""The models of an endpoint, and which of them answers a request.

One replica holds them all, in one process behind one gate. A deployment for each model would need a router in front of them: one
more process on the way of every request, which would have to know their queues to refuse in time, and a replica of each on every
node. The price is memory: each replica has the weights of every model.

An alias divides keys among models, not requests: vectors of two models in one index would be compared as if they were of one.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence

from clinical_modernbert.errors import RecipeError
from clinical_modernbert.serving import problems
from clinical_modernbert.serving.engine import Engine
from clinical_modernbert.serving.metrics import TALLY, Record, Tally
from clinical_modernbert.serving.scheduler import compute_thread
from clinical_modernbert.serving.service import EmbeddingService
from clinical_modernbert.serving.tracing import Trace


def share_of(key: str, weights: Mapping[str, float], *, alias: str) -> str:
    """Return the model that an alias gives to a key: the same on every replica, and the more keys the higher its weight.

    Each model gets a score from a hash of alias, key and model, and the highest wins (weighted rendezvous hashing). So a changed
    weight moves keys to or from its own model only, and a new model takes keys without moving others:

        weights    a=9, b=1      key k: u_a=0.5, u_b=0.9     scores -9/ln(0.5)=13, -1/ln(0.9)=9.5: a
        weights    a=9, b=2      the same u                  13 and 19: k moves to b, and no key moves to a
    """

    def score(model: str) -> float:
        digest = hashlib.sha256("\0".join((alias, key, model)).encode()).digest()
        place = ((int.from_bytes(digest[:8], "big") >> 12) + 0.5) / 2**52  # between 0 and 1, and neither
        return -weights[model] / math.log(place)

    return max(sorted(weights), key=score)


class ServedModels:
    """The services of an endpoint, one a model; the first answers requests that name none. Raises ``RecipeError``.

    The aliases are those of the first model's recipe.
    """

    def __init__(self, services: Sequence[EmbeddingService]) -> None:
        self.services = tuple(services)
        self.ids = tuple(service.engine.model_id for service in services)
        for number, model_id in enumerate(self.ids[1:]):
            if model_id in self.ids[: number + 1]:
                raise RecipeError(f"more_models[{number}]: {model_id} is served already; name each model once")
        self.aliases = {alias: self._ids_of(alias, w) for alias, w in services[0].engine.recipe.aliases.items()}

    @classmethod
    def of_engines(cls, engines: Sequence[Engine], *, record: Record, trace: Trace) -> "ServedModels":
        """Return the models of one replica, which share one compute thread."""
        thread = compute_thread()
        return cls([EmbeddingService(engine, record=record, trace=trace, thread=thread) for engine in engines])

    @property
    def names(self) -> tuple[str, ...]:
        """What a request's ``model`` may be: the ids, the aliases, and each name alone that only one model has."""
        names = [model_id.rpartition("-")[0] for model_id in self.ids]
        alone = (name for name in names if name and names.count(name) == 1 and name not in self.aliases)
        return (*self.ids, *self.aliases, *alone)

    @property
    def needs_keys(self) -> bool:
        """Whether an alias divides keys among models."""
        return any(len(weights) > 1 for weights in self.aliases.values())

    def choose(self, *names: str | None) -> EmbeddingService:
        """Return the model that a request names in its body or in its address, and note it for the audit line.

        Without a name it is the first model that the request's key may use and that is served. Raises ``ProblemError``.
        """
        given = {name for name in names if name is not None}
        if len(given) > 1:
            raise problems.two_models()
        tally = TALLY.get(None) or Tally()
        if given:
            service = self._find(given.pop())
            if service is None:
                raise problems.unknown_model(self.names)
        elif tally.allowed_models is None:
            service = self.services[0]
        else:
            service = next(filter(None, map(self._find, tally.allowed_models)), None)
        if service is None or service not in self.allowed():
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

    def allowed_aliases(self) -> dict[str, list[EmbeddingService]]:
        """Return the models of each alias that the request's key may use."""
        allowed = (TALLY.get(None) or Tally()).allowed_models
        return {
            alias: [self.services[self.ids.index(model_id)] for model_id in weights]
            for alias, weights in self.aliases.items()
            if allowed is None or alias in allowed
        }

    def _ids_of(self, alias: str, weights: Mapping[str, float]) -> dict[str, float]:
        """Return an alias's weights by model id; raises ``RecipeError``."""
        if alias in self.ids:
            raise RecipeError(f"aliases.{alias}: this is the id of a served model; choose another name")
        found = {name: self._named(name) for name in weights}
        unclear = [name for name, service in found.items() if service is None]
        if unclear:
            raise RecipeError(f"aliases.{alias}: {unclear[0]} must be one of {', '.join(self.ids)}")
        return {service.engine.model_id: weights[name] for name, service in found.items() if service}

    def _find(self, name: str) -> EmbeddingService | None:
        """Return the model of an alias for the request's key, of an id, or of a name alone that only one model has."""
        if name not in self.aliases:
            return self._named(name)
        key = (TALLY.get(None) or Tally()).key or ""
        return self._named(share_of(key, self.aliases[name], alias=name))

    def _named(self, name: str) -> EmbeddingService | None:
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
