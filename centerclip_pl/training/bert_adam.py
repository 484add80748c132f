"""Adam as CLIP4Clip trains with it: without bias correction, with decoupled decay, each gradient clipped by itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, overload

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from centerclip_pl.errors import ConfigError


class BertAdam(Optimizer):
    """The optimiser that CLIP4Clip (arXiv 2104.08860) is trained with; BERT (arXiv 1810.04805) was trained like this.

    For each parameter p with gradient g::

        g <- g * min(1, max_grad_norm / (|g| + 1e-6))      |g|: the L2 norm of this parameter's gradient alone
        m <- beta1 m + (1 - beta1) g
        v <- beta2 v + (1 - beta2) g^2
        p <- p - lr (m / (sqrt(v) + eps) + weight_decay p)

    The first steps are therefore small: m and v start at zero and nothing makes up for it. The clipped gradient is a
    copy; ``p.grad`` stays as it was. Decay and update reach p in one addition, so that at the rate of CLIP's weights
    (1e-7) decay is not rounded away by itself.

    Every option may also be given per parameter group. The state of each parameter is ``exp_avg`` (m) and
    ``exp_avg_sq`` (v), of its shape and dtype.

    Args:
        params: parameters, or groups of them.
        lr: the rate, a plain number.
        betas: decay of the running means of gradient and squared gradient.
        eps: added to the root of the squared gradient's mean.
        weight_decay: times the rate, the share of a parameter that is taken from it in each step.
        max_grad_norm: the longest gradient of a single parameter; ``math.inf`` does not clip.
        foreach: update all parameters of a group together (few kernels, but temporary copies of the whole group) or
            one by one; None: together where they all are on an accelerator.

    Raises:
        ConfigError: on impossible options, when stepping on sparse gradients, and when loading another optimiser's
            state.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-6,
        weight_decay: float = 0.2,
        max_grad_norm: float = 1.0,
        *,
        foreach: bool | None = None,
    ) -> None:
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, options | {"max_grad_norm": max_grad_norm, "foreach": foreach})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group; what it does not say itself it takes from the constructor's options."""
        _check({**self.defaults, **param_group})
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads what `state_dict` gave; what another optimiser gave is refused, for it would mean something else."""
        if not all("max_grad_norm" in group for group in state_dict["param_groups"]):
            raise ConfigError(
                "the stored state of the optimiser is not that of BertAdam",
                "go on with the recipe that the training began with (see config.yaml in its run's folder)",
            )
        super().load_state_dict(state_dict)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step of all parameters that have a gradient.

        Args:
            closure: computes the loss and its gradients anew.

        Returns:
            What the closure returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        work = [(group, self._members(group)) for group in self.param_groups]  # refuses before anything has changed
        for group, members in work:
            together = group["foreach"]
            if together is None:
                together = all(parameter.device.type != "cpu" for parameter in members)
            for batch in [members] if together else [[parameter] for parameter in members]:
                if batch:
                    self._update(batch, group)
        return loss

    def _members(self, group: dict[str, Any]) -> list[Tensor]:
        members = [parameter for parameter in group["params"] if parameter.grad is not None]
        for parameter in members:
            if parameter.grad.layout != torch.strided:
                raise ConfigError(
                    f"BertAdam takes dense gradients only, but a parameter of shape {list(parameter.shape)} has one of "
                    f"layout {parameter.grad.layout}",
                    "build the embedding with sparse=False",
                )
        return members

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        (beta1, beta2), rate, decay = group["betas"], group["lr"], group["weight_decay"]
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                for name in ("exp_avg", "exp_avg_sq"):
                    state[name] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        means = [self.state[parameter]["exp_avg"] for parameter in parameters]
        squares = [self.state[parameter]["exp_avg_sq"] for parameter in parameters]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if group["max_grad_norm"] < math.inf:
            gradients = _clipped(gradients, group["max_grad_norm"])
        torch._foreach_mul_(means, beta1)
        torch._foreach_add_(means, gradients, alpha=1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - beta2)
        del gradients  # the copies, before the next ones are made
        divisors = torch._foreach_sqrt(squares)
        torch._foreach_add_(divisors, group["eps"])
        if decay == 0:
            torch._foreach_addcdiv_(parameters, means, divisors, value=-rate)
        else:
            changes = torch._foreach_mul(parameters, decay)
            torch._foreach_addcdiv_(changes, means, divisors, value=1.0)
            torch._foreach_add_(parameters, changes, alpha=-rate)


def _clipped(gradients: list[Tensor], longest: float) -> list[Tensor]:
    """Copies, each at most `longest` long; the factors stay on the device, so that the host need not wait for them."""
    factors = _norms(gradients)
    torch._foreach_add_(factors, 1e-6)  # as torch.nn.utils.clip_grad_norm_ has it
    torch._foreach_reciprocal_(factors)
    torch._foreach_mul_(factors, longest)
    torch._foreach_clamp_max_(factors, 1.0)
    return list(torch._foreach_mul(gradients, factors))


def _norms(gradients: list[Tensor]) -> list[Tensor]:
    """The L2 norm of each, on the device; also of gradients of which each process holds a shard."""
    sharded = [isinstance(gradient, DTensor) for gradient in gradients]
    norms = list(torch._foreach_norm([g.to_local() if isinstance(g, DTensor) else g for g in gradients]))
    if any(sharded):  # one exchange for all of them
        mesh = next(gradient for gradient in gradients if isinstance(gradient, DTensor)).device_mesh
        squares = torch.stack([norm.square() for norm, shard in zip(norms, sharded, strict=True) if shard])
        dist.all_reduce(squares, group=mesh.get_group())
        whole = iter(squares.sqrt().unbind())
        norms = [next(whole) if shard else norm for norm, shard in zip(norms, sharded, strict=True)]
    return norms


def _check(options: dict[str, Any]) -> None:
    for name in ("lr", "eps", "weight_decay"):
        if not options[name] >= 0:
            raise ConfigError(f"BertAdam: {name} is {options[name]}, but cannot be negative")
    if not all(0 <= beta < 1 for beta in options["betas"]):
        raise ConfigError(f"BertAdam: betas is {list(options['betas'])}, but must be two numbers from 0 to below 1")
    if not options["max_grad_norm"] > 0:
        raise ConfigError(
            f"BertAdam: max_grad_norm is {options['max_grad_norm']}, but must be positive",
            "give math.inf to leave gradients as they are",
        )
