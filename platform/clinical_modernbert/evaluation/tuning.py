"""Train a model on examples in one process: AdamW, linear warm-up and decay, the best epoch by its development figure.

A ``Problem`` gives the loss of a batch and the development figure, so that any task can be trained. Order and dropout come from
the seed: a repeated run gives the same model.

Legend: N examples of a batch, T tokens, C classes.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch

from clinical_modernbert.encoder.embed import batches_by_tokens, longest_first
from clinical_modernbert.errors import ModelError
from clinical_modernbert.evaluation.results import Epoch
from clinical_modernbert.recipe.tasks import TuningSection

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Problem:
    """The loss of training examples, and the figure that selects the epoch."""

    lengths: Sequence[int]
    """Tokens of each training example."""
    targets: Sequence[int]
    """Number of labels of each training example: its weight in the mean loss."""
    loss_sum: Callable[[Sequence[int]], torch.Tensor]
    """(numbers of training examples) -> their summed loss."""
    development_figure: Callable[[], float]
    """Higher is better."""


ModelT = TypeVar("ModelT", bound=torch.nn.Module)


@dataclass(frozen=True, slots=True)
class BestRate(Generic[ModelT]):
    """A trained model, and the learning rate that it was trained with."""

    model: ModelT
    epochs: list[Epoch]
    number: int
    """Of the best epoch, from 0."""
    rate: float


def tune(
    model: torch.nn.Module, problem: Problem, *, section: TuningSection, seed: int, max_batch_tokens: int
) -> tuple[list[Epoch], int]:
    """Train ``model`` in place and leave the best epoch's weights in it; return (epochs, number of the best, from 0)."""
    num = len(problem.lengths)
    steps_an_epoch = math.ceil(num / section.batch_size)
    num_epochs = max(section.num_epochs, math.ceil(section.min_steps / steps_an_epoch))
    total = steps_an_epoch * num_epochs
    warmup = math.ceil(section.warmup_fraction * total)
    optimizer = torch.optim.AdamW(_groups(model, section), lr=section.learning_rate, eps=1e-8)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: s / max(warmup, 1) if s < warmup else max((total - s) / max(total - warmup, 1), 0.0)
    )
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    epochs: list[Epoch] = []
    best, best_weights = 0, None
    for number in range(num_epochs):
        model.train()
        began, loss_total, target_total = time.perf_counter(), 0.0, 0
        order = rng.permutation(num).tolist()
        for start in range(0, num, section.batch_size):
            # Similar lengths together: if a step takes several passes, each is padded to its longest text only.
            members = sorted(order[start : start + section.batch_size], key=problem.lengths.__getitem__, reverse=True)
            targets = sum(problem.targets[i] for i in members)
            for part in batches_by_tokens(members, problem.lengths, max_batch_tokens=max_batch_tokens):
                loss = problem.loss_sum(part)
                (loss / max(targets, 1)).backward()
                loss_total += _finite(float(loss.detach()), "loss", number)
            torch.nn.utils.clip_grad_norm_(model.parameters(), section.max_gradient_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            target_total += targets
        model.eval()
        figure = _finite(problem.development_figure(), "development figure", number)
        epochs.append(Epoch(loss_total / max(target_total, 1), figure, time.perf_counter() - began))
        _logger.info("epoch %d: loss %.4f, development %.4f, %.0f s", number + 1, *_facts(epochs[-1]))
        if best_weights is None or figure > epochs[best].development:
            best = number
            best_weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        elif number - best >= section.patience:
            break
    assert best_weights is not None
    model.load_state_dict(best_weights)
    return epochs, best


def tune_best_rate(
    make: Callable[[], tuple[ModelT, Problem]], *, section: TuningSection, seed: int, max_batch_tokens: int
) -> BestRate[ModelT]:
    """Train a new model with each of the section's learning rates, and return the one with the best development figure.

    A rate with which training diverges is left out, unless all do.
    """
    rates = section.learning_rates or (section.learning_rate,)
    best: BestRate[ModelT] | None = None
    figures: dict[float, float | None] = {}
    for rate in rates:
        model, problem = make()
        of_rate = section.model_copy(update={"learning_rate": rate})
        try:
            epochs, number = tune(model, problem, section=of_rate, seed=seed, max_batch_tokens=max_batch_tokens)
        except DivergedError as error:
            if rate == rates[-1] and best is None:
                raise
            _logger.warning("learning rate %g: %s", rate, error)
            figures[rate] = None
            continue
        figures[rate] = epochs[number].development
        if best is None or epochs[number].development > best.epochs[best.number].development:
            best = BestRate(model, epochs, number, rate)
    assert best is not None
    if len(rates) > 1:
        _logger.info("learning rate %g of %s", best.rate, figures)
    return best


class DivergedError(ModelError):
    """Training gave a loss or a development figure that is not finite."""


def _finite(value: float, name: str, epoch: int) -> float:
    """Return the value; a comparison with one that is not finite would silently keep the first epoch."""
    if not math.isfinite(value):
        raise DivergedError(
            f"the {name} of epoch {epoch + 1} is {value}: training diverged; lower tuning.learning_rate"
        )
    return value


def _facts(epoch: Epoch) -> tuple[float, float, float]:
    return epoch.loss, epoch.development, epoch.seconds


def _groups(model: torch.nn.Module, section: TuningSection) -> list[dict[str, float | list[torch.nn.Parameter]]]:
    named = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in named if p.dim() > 1], "weight_decay": section.weight_decay},
        {"params": [p for p in named if p.dim() <= 1], "weight_decay": 0.0},
    ]


def by_length(lengths: Sequence[int], *, max_batch_tokens: int) -> Iterator[list[int]]:
    """Yield all positions, longest first, in batches of at most ``max_batch_tokens`` tokens with little padding."""
    for part in batches_by_tokens(longest_first(lengths), lengths, max_batch_tokens=max_batch_tokens):
        yield from (part[start : start + 256] for start in range(0, len(part), 256))


def linear_probe(
    features_ND: torch.Tensor,
    targets: torch.Tensor,
    development_ND: torch.Tensor,
    *,
    num_labels: int,
    loss_sum: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    figure: Callable[[torch.Tensor], float],
    seed: int,
) -> torch.nn.Module:
    """Train a linear layer on standardised frozen vectors; return a model that standardises its inputs too.

    ``loss_sum`` is the summed loss of logits [N, C] and ``targets`` [N] or [N, C], ``figure`` the development figure of logits.
    The best of 50 epochs is kept.
    """
    mean_D, scale_D = features_ND.mean(0), features_ND.std(0).clamp(min=1e-6)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layer = torch.nn.Linear(features_ND.shape[1], num_labels)
    model = torch.nn.Sequential(_Standardise(mean_D, scale_D), layer)

    def loss_of(members: Sequence[int]) -> torch.Tensor:
        index = torch.tensor(members)
        return loss_sum(model(features_ND[index]), targets[index])

    def development_figure() -> float:
        with torch.inference_mode():
            return figure(model(development_ND))

    ones = [1] * len(features_ND)
    section = TuningSection(learning_rate=5e-3, batch_size=128, num_epochs=50, patience=10)
    tune(model, Problem(ones, ones, loss_of, development_figure), section=section, seed=seed, max_batch_tokens=1 << 20)
    return model


class _Standardise(torch.nn.Module):
    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, mean_D: torch.Tensor, scale_D: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean_D)
        self.register_buffer("scale", scale_D)

    def forward(self, features_ND: torch.Tensor) -> torch.Tensor:
        return (features_ND - self.mean) / self.scale
