"""Engines, which hold optimizer state and exchange gradients: DeepSpeed (ZeRO 0 to 2) or plain torch.

Both get a loss that is already a share of the global batch's mean, and sum it over micro-batches and workers. DeepSpeed averages
over accumulation steps and ranks; that division is undone here, because masked counts differ between them.
The only module that imports deepspeed.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist

from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.encoder import PackedBatch, Precision, masked_loss_sum, products_in
from clinical_modernbert.recipe.optimizer import OptimizerSection
from clinical_modernbert.recipe.training_run import TrainScaling
from clinical_modernbert.training.optimizer import StableAdamW, build_optimizer, partition_of

_STATE = "state.pt"
_TAG = "state"
_MOMENTS = 2  # of every weight, in both optimizers
_PART = re.compile(r"zero_pp_rank_(\d+)_")


class Engine(Protocol):
    """Forward and backward of micro-batches, one optimizer step, resumable state."""

    def expect(self, num_micro_batches: int) -> None:
        """Say how many micro-batches of this worker the next step has."""

    def backward(self, batch: PackedBatch, *, num_masked: int) -> torch.Tensor:
        """Add the gradient of this micro-batch's share of the step's loss; return the share, detached."""

    def step(self, *, learning_rate: float) -> float:
        """Exchange gradients, clip, update; return the global gradient norm before clipping."""

    @property
    def state_bytes(self) -> int:
        """About how many bytes ``save`` writes on this worker."""

    def save(self, folder: Path) -> None:
        """Write this worker's share of the resumable state; every worker calls it."""

    def load(self, folder: Path) -> None:
        """Read the state that ``save`` wrote, from a folder that holds every worker's share."""


class MaskedLanguageLoss(torch.nn.Module):
    """The model as engines call it: from a packed batch to the summed loss."""

    def __init__(self, model: torch.nn.Module, *, precision: Precision) -> None:
        super().__init__()
        self.model = model
        self._precision = precision

    def forward(self, batch: PackedBatch) -> torch.Tensor:
        with products_in(self._precision, batch.input_ids_T.device):
            return masked_loss_sum(self.model, batch)


def build_engine(
    loss: MaskedLanguageLoss, *, scaling: TrainScaling, optimizer: OptimizerSection, num_micro_batches: int
) -> Engine:
    """Return the recipe's engine around ``loss``, whose parameters are the same on every worker."""
    if scaling.engine == "torch":
        return TorchEngine(loss, optimizer=optimizer)
    return DeepSpeedEngine(loss, scaling=scaling, optimizer=optimizer, num_micro_batches=num_micro_batches)


class TorchEngine:
    """Plain data parallelism: gradients are summed over the workers once a step, in one flat buffer."""

    def __init__(self, loss: torch.nn.Module, *, optimizer: OptimizerSection) -> None:
        """``loss`` is the model as ``backward`` calls it; a caller that adds gradients itself passes the model."""
        self._loss = loss
        self._optimizer = build_optimizer(loss, optimizer)
        self._max_norm = optimizer.max_gradient_norm
        self._parameters = list(loss.parameters())

    def expect(self, num_micro_batches: int) -> None:
        pass  # gradients add up until the step, however many there are

    def backward(self, batch: PackedBatch, *, num_masked: int) -> torch.Tensor:
        share = self._loss(batch) / num_masked
        share.backward()
        return share.detach()

    def step(self, *, learning_rate: float) -> float:
        if dist.is_initialized() and dist.get_world_size() > 1:
            gradients = [p.grad for p in self._parameters if p.grad is not None]
            flat = torch.cat([g.reshape(-1) for g in gradients])
            dist.all_reduce(flat)
            for gradient, summed in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(summed.view_as(gradient))
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self._max_norm or float("inf"))
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return float(norm)

    @property
    def state_bytes(self) -> int:
        return (1 + _MOMENTS) * _weight_bytes(self._loss) if _is_first_worker() else 0

    def save(self, folder: Path) -> None:
        if _is_first_worker():
            torch.save({"model": self._loss.state_dict(), "optimizer": self._optimizer.state_dict()}, folder / _STATE)

    def load(self, folder: Path) -> None:
        # Tensors and plain containers only: loading the file runs no code.
        # safe: weights_only loads tensors and plain containers
        state: dict[str, Any] = torch.load(folder / _STATE, map_location="cpu", weights_only=True)
        self._loss.load_state_dict(state["model"])
        with _keeping_settings(self._optimizer):
            self._optimizer.load_state_dict(state["optimizer"])


class DeepSpeedEngine:
    """DeepSpeed with ZeRO 0, 1 or 2 around the recipe's optimizer, in float32 state; on CPU it needs no compiler."""

    def __init__(
        self, loss: MaskedLanguageLoss, *, scaling: TrainScaling, optimizer: OptimizerSection, num_micro_batches: int
    ) -> None:
        deepspeed = _import_deepspeed()
        self._num_micro_batches = num_micro_batches
        inner = build_optimizer(loss, optimizer)
        self._engine, *_ = deepspeed.initialize(
            model=loss,
            optimizer=inner,
            config={
                "train_micro_batch_size_per_gpu": scaling.micro_batch_rows,
                "gradient_accumulation_steps": num_micro_batches,
                "gradient_clipping": optimizer.max_gradient_norm or 0.0,
                "zero_optimization": {"stage": scaling.zero_stage, "overlap_comm": scaling.overlap},
                "zero_allow_untested_optimizer": True,
                "steps_per_print": 2**31 - 1,
            },
        )
        self._loss, self._zero_stage = loss, scaling.zero_stage
        # Without ZeRO, DeepSpeed keeps no gradient norm.
        self._measured = () if scaling.zero_stage else tuple(loss.parameters())
        if scaling.zero_stage and isinstance(inner, StableAdamW):
            _bind_partitions(inner, self._engine.optimizer)

    def expect(self, num_micro_batches: int) -> None:
        if num_micro_batches != self._num_micro_batches:
            engine, self._num_micro_batches = self._engine, num_micro_batches
            engine.set_train_batch_size(
                engine.train_micro_batch_size_per_gpu() * engine.dp_world_size * num_micro_batches
            )
            # DeepSpeed steps where its count of micro-batches divides by their number, so the count begins again.
            engine.micro_steps = 0

    def backward(self, batch: PackedBatch, *, num_masked: int) -> torch.Tensor:
        share = self._engine(batch) / num_masked
        # DeepSpeed divides by accumulation steps in backward and by workers in the exchange.
        self._engine.backward(share * (self._num_micro_batches * self._engine.dp_world_size))
        if not self._engine.is_gradient_accumulation_boundary():
            self._engine.step()  # only advances DeepSpeed's count of micro-batches
        return share.detach()

    def step(self, *, learning_rate: float) -> float:
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        # After the last backward pass these are the gradients of the global batch, not yet clipped.
        gradients = [parameter.grad for parameter in self._measured if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients) if gradients else None
        self._engine.step()
        if norm is None:
            norm = self._engine.get_global_grad_norm()
        assert norm is not None, "DeepSpeed keeps no gradient norm"
        return float(norm)

    @property
    def state_bytes(self) -> int:
        size = _weight_bytes(self._loss)
        if not self._zero_stage:
            return (1 + _MOMENTS) * size if _is_first_worker() else 0
        # ZeRO writes each worker's range of the moments and of a second copy of the weights; the first one also writes the model.
        of_range = (1 + _MOMENTS) * size // self._engine.dp_world_size
        return of_range + (size if _is_first_worker() else 0)

    def save(self, folder: Path) -> None:
        self._engine.save_checkpoint(str(folder), tag=_TAG)

    def load(self, folder: Path) -> None:
        with _keeping_settings(self._engine.optimizer):
            # safe: DeepSpeed unpickles; the caller has copied every file of the folder and checked it against its manifest
            path, _ = self._engine.load_checkpoint(str(folder), tag=_TAG)
        if path is None:
            raise FileNotFoundError(f"DeepSpeed found no state in {folder}")


def _is_first_worker() -> bool:
    return not dist.is_initialized() or dist.get_rank() == 0


def _weight_bytes(module: torch.nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *module.buffers()))


def reads(path: str, *, rank: int) -> bool:
    """Return whether a worker reads this file of a checkpoint: all but the parts of DeepSpeed's state of other workers."""
    part = _PART.search(path)
    return part is None or int(part[1]) == rank


def saved_weights(checkpoint: Artifact, *, cache_path: Path) -> dict[str, torch.Tensor]:
    """Return the model's weights in a checkpoint of either engine; its optimizer state is not fetched."""
    paths = [entry.path for entry in checkpoint.manifest.files]
    ours = _STATE in paths
    path = _STATE if ours else next(path for path in paths if path.endswith("_model_states.pt"))
    # safe: DeepSpeed's file needs unpickling; it is verified against its signed manifest first
    loaded = torch.load(
        checkpoint.file(path, cache_path=cache_path, copied=True), map_location="cpu", weights_only=ours
    )
    weights: dict[str, torch.Tensor] = loaded["model" if ours else "module"]
    return {name.removeprefix("model."): tensor for name, tensor in weights.items()}


@contextmanager
def _keeping_settings(optimizer: Any) -> Iterator[None]:
    """Keep betas and weight decay of the recipe: a loaded state brings those of the run that wrote it."""
    settings = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    yield
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own)


def _bind_partitions(inner: StableAdamW, zero: Any) -> None:
    """Tell the optimizer where its tensors are in ZeRO's flat buffers: one buffer a group, of which this worker holds a range."""
    for number, flat in enumerate(zero.single_partition_of_fp32_groups):
        process_group = zero.real_dp_process_group[number]
        partition = partition_of(
            [parameter.numel() for parameter in zero.round_robin_bit16_groups[number]],
            list(zero.round_robin_bit16_offsets[number]),
            start=dist.get_rank(process_group) * flat.numel(),
            length=flat.numel(),
            process_group=process_group,
        )
        inner.bind(flat, partition)


def _import_deepspeed() -> Any:
    # DeepSpeed reads it on import; without it DeepSpeed warns and guesses.
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
    import deepspeed
    from deepspeed.ops import __compatible_ops__

    # A shared-memory op for inference, which would be compiled on the first start and is not used in training.
    __compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed
