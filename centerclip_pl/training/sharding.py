"""Fully sharded training (FSDP2): each process keeps a part of every weight, its gradient and its optimiser's state.

``--trainer.strategy=fsdp`` asks for it. Lightning's own strategy of that name is FSDP1, which wants the forward pass of
one whole module and GPUs; this one shards the towers and the head, each of which is called by itself, and also runs on
CPUs. PyTorch FSDP: arXiv 2304.11277; its second form is `torch.distributed.fsdp.fully_shard`.
"""

from __future__ import annotations

import warnings
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.distributed as dist
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.strategies.strategy import Strategy
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.constants import default_pg_timeout
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from transformers.modeling_layers import GradientCheckpointingLayer
from typing_extensions import override

from centerclip_pl.errors import ConfigError

if TYPE_CHECKING:
    from centerclip_pl.training.module import TextVideoRetrieval


class ShardedStrategy(ModelParallelStrategy):
    """FSDP2 over all processes, with checkpoints as one process writes and reads them.

    For evaluations the weights are put together on every process, so that processes may pass different numbers of
    batches through the model, and one of them may measure its cost alone. Memory of an evaluation is therefore that of
    a whole model (without gradients and optimiser); a training's is what sharding saves.

    Args:
        process_group_backend: as torch names it; None: by the device.
        timeout: of collectives: how long a process waits for the others.
    """

    def __init__(
        self, process_group_backend: str | None = None, timeout: timedelta | None = default_pg_timeout
    ) -> None:
        super().__init__(
            save_distributed_checkpoint=False, process_group_backend=process_group_backend, timeout=timeout
        )

    @override
    def setup_environment(self) -> None:
        self._data_parallel_size, self._tensor_parallel_size = self.num_nodes * self.num_processes, 1
        super().setup_environment()

    @override
    def on_validation_start(self) -> None:
        self._gather()

    @override
    def on_validation_end(self) -> None:
        self._scatter()

    @override
    def on_test_start(self) -> None:
        self._gather()

    @override
    def on_test_end(self) -> None:
        self._scatter()

    @override
    def on_predict_start(self) -> None:
        self._gather()

    @override
    def on_predict_end(self) -> None:
        self._scatter()

    # Lightning's own number the optimiser's parameters in the model's order, torch in that of the optimiser's groups.
    # Only the latter lets a training go on with another strategy.

    @override
    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The whole state, as `Optimizer.state_dict` has it, in process 0; empty in the others."""
        assert self.model is not None
        optimizer = optimizer._optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        found: dict[str, Any] = get_optimizer_state_dict(self.model, optimizer, options=options)
        if not found:
            return found
        numbers = {name: number for number, name in enumerate(_names(found))}
        groups = [{**group, "params": [numbers[name] for name in group["params"]]} for group in found["param_groups"]]
        return {"state": {numbers[name]: state for name, state in found["state"].items()}, "param_groups": groups}

    @override
    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads a checkpoint that was written with any number of processes, and keeps this process's part of it."""
        assert self.model is not None
        path = self.broadcast(checkpoint_path)
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=weights_only, mmap=True)
        options = StateDictOptions(full_state_dict=True)
        set_model_state_dict(self.model, checkpoint.pop("state_dict"), options=options)
        for optimizer, stored in zip(self.optimizers, checkpoint.pop("optimizer_states", []), strict=False):
            names = dict(enumerate(_names(get_optimizer_state_dict(self.model, optimizer))))
            groups = [{**group, "params": [names[n] for n in group["params"]]} for group in stored["param_groups"]]
            state = {names[number]: values for number, values in stored["state"].items()}
            set_optimizer_state_dict(self.model, optimizer, {"state": state, "param_groups": groups}, options=options)
        return checkpoint

    def _gather(self) -> None:
        for part in self._sharded_parts():
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()

    def _scatter(self) -> None:
        for part in self._sharded_parts():
            part.set_reshard_after_forward(True, recurse=False)
            part.reshard()

    def _sharded_parts(self) -> list[FSDPModule]:
        assert self.model is not None
        return [part for part in self.model.modules() if isinstance(part, FSDPModule)]


def _names(state: dict[str, Any]) -> list[str]:
    """An optimiser's parameters in the order of its groups."""
    return [name for group in state["param_groups"] for name in group["params"]]


def strategy_by_name(given: Any) -> Any:
    """What to give `Trainer` for ``--trainer.strategy``: `ShardedStrategy` for ``"fsdp"``, all else as it is."""
    return ShardedStrategy() if given == "fsdp" else given


def shard(module: TextVideoRetrieval, strategy: Strategy) -> None:
    """Shards a module where the trainer's strategy asks for it; to be called from the hook ``configure_model``.

    Every transformer block is gathered, used and freed by itself, then what is left of the video tower, the text tower
    and the head. The logit scale is a number and stays whole. The weights of process 0 count. A module that is sharded
    already is left as it is, as are all modules under other strategies.

    Args:
        module: whole, the same architecture in all processes.
        strategy: the trainer's.

    Raises:
        ConfigError: a strategy that would split the work on one sample.
    """
    if not isinstance(strategy, ModelParallelStrategy) or isinstance(module.video, FSDPModule):
        return
    mesh = strategy.device_mesh
    if mesh["tensor_parallel"].size() > 1:
        raise ConfigError(
            "the strategy asks for tensor parallelism, of which this model knows nothing",
            "shard over all processes: --trainer.strategy=fsdp",
        )
    warnings.filterwarnings("ignore", ".*returned a view tensor.*")  # on which nothing here works in place
    module.to(strategy.root_device)
    for tensor in (*module.parameters(), *module.buffers()):
        dist.broadcast(tensor.detach(), 0)
    processes = mesh["data_parallel"]
    for root in (module.video, module.text, module.similarity_head):
        for block in [part for part in root.modules() if isinstance(part, GradientCheckpointingLayer)]:
            fully_shard(block, mesh=processes)
        if any(not isinstance(parameter, DTensor) for parameter in root.parameters()):
            fully_shard(root, mesh=processes)
    for parameter in module.parameters():
        if parameter.requires_grad and not isinstance(parameter, DTensor):
            parameter.register_post_accumulate_grad_hook(_mean_over_processes)


def _mean_over_processes(parameter: Tensor) -> None:
    """As DDP and FSDP do it for theirs. What was accumulated before is a mean already, and remains one."""
    gradient = cast(Tensor, parameter.grad)
    dist.all_reduce(gradient)
    gradient.div_(dist.get_world_size())
