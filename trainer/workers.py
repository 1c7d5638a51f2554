"""The processes of a run: who samples what, and what they tell each other.

Started by `accelerate launch` or `torchrun`; alone otherwise. Every process holds the whole batch of rollouts and makes
the same decisions from it; only the passes through the network are shared out. Gradients are summed over processes.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from entropy_theory.network import parameters_set_to
from trainer.config import TrainConfig

T = TypeVar("T")


@dataclass(frozen=True)
class Workers:
    """The processes of a run, seen from one of them.

    Args:
        rank: which one this is.
        count: how many there are.
        accelerator: accelerate's view of them; None for a process alone.
    """

    rank: int = 0
    count: int = 1
    accelerator: Any = None

    @property
    def main(self) -> bool:
        """Whether this process writes the run directory."""
        return self.rank == 0

    def part(self, count: int) -> range:
        """Return which of `count` things are this process's: a contiguous share."""
        return range(self.rank * count // self.count, (self.rank + 1) * count // self.count)

    def gather(self, value: T) -> list[T]:
        """Return every process's value, by rank; tensors come back on the CPU unless there is one process."""
        if self.count == 1:
            return [value]
        gathered: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(gathered, value)
        return gathered

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over the processes."""
        if self.count == 1:
            return values
        # GPUs sum what lies on them alone.
        summed = values.to(self.accelerator.device)
        torch.distributed.all_reduce(summed)
        return summed.to(values.device)

    def agree(self, value: T) -> T:
        """Return the main process's value."""
        return self.gather(value)[0]

    def any(self, flag: bool) -> bool:
        """Return whether any process says so."""
        return any(self.gather(flag))

    def say(self, text: str) -> None:
        """Print a line on stderr, once for all processes, beside progress bars."""
        if self.main:
            tqdm.write(text, file=sys.stderr)

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.count > 1:
            self.accelerator.wait_for_everyone()

    def share(self, network: Any, parallel: str) -> nn.Module:
        """Return the network as the processes share it: a copy each (`ddp`) or a shard each (`fsdp2`)."""
        if self.count == 1:
            return network
        if parallel == "fsdp2":
            network.shares_prompts = False
            return shard(network, self.accelerator.device.type, self.count)
        return self.accelerator.prepare_model(network)

    def share_frozen(self, network: Any, parallel: str) -> nn.Module:
        """Return a network that does not train, as the processes hold it: copies need nothing of each other."""
        return self.share(network, parallel) if parallel == "fsdp2" else network

    def device(self, name: str) -> str:
        """Return the device of this process: its own GPU, or what was asked for where it is alone."""
        return name if self.count == 1 else str(self.accelerator.device)

    def accumulating(self, network: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """Return the context of a backward pass; copies exchange gradients in the last one alone."""
        if self.count == 1 or last or is_sharded(network):
            return nullcontext()
        return self.accelerator.no_sync(network)


ALONE = Workers()


def find_workers(config: TrainConfig) -> Workers:
    """Return the processes that a launcher started, or this one alone.

    Raises:
        ValueError: more processes than prompts, or a launcher that would share the model out by itself.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"):
        if os.environ.get(name, "false").lower() == "true":
            raise ValueError(
                f"find_workers(): the launcher must leave the model to the trainer; got {name}=true. Take a plain "
                "multi-GPU configuration of accelerate, and set model.parallel: fsdp2 for shards."
            )
    from accelerate import Accelerator

    on_cpu = config.model.device == "cpu" or not torch.cuda.is_available()
    accelerator = Accelerator(cpu=on_cpu)
    workers = Workers(accelerator.process_index, accelerator.num_processes, accelerator)
    if workers.count > config.rollout.prompts:
        raise ValueError(
            f"rollout.prompts={config.rollout.prompts} must be at least one a process; got {workers.count} processes. "
            "Start fewer."
        )
    return workers


def leave() -> None:
    """End this process with success where a launcher started it beside others; return where it is alone.

    It ends at once. Python's own way out destroys what the threads of the connection still use: one that frees a tensor
    then aborts the process (seen in 1 of 32 starts on a busy machine), and caches of torch keep those threads alive
    whoever closes the connection. All files must be closed.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    torch.distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def shard(network: nn.Module, device: str, count: int) -> nn.Module:
    """Return the network with every parameter sharded over the processes, a decoder layer at a time (FSDP2)."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device, (count,))
    for layer in decoder_layers(network):
        fully_shard(layer, mesh=mesh)
    fully_shard(network, mesh=mesh)
    return network


def decoder_layers(network: nn.Module) -> list[nn.Module]:
    """Return the layers of the longest list of modules, which are those of the decoder."""
    lists = [module for module in network.modules() if isinstance(module, nn.ModuleList)]
    return max((list(modules) for modules in lists), key=len, default=[])


def is_shard(value: Tensor) -> bool:
    """Return whether this process holds but a shard of a tensor."""
    return hasattr(value, "full_tensor")


def is_sharded(network: nn.Module) -> bool:
    """Return whether the network's parameters are shards."""
    return any(is_shard(parameter) for parameter in network.parameters())


def inner(network: nn.Module) -> nn.Module:
    """Return the network without the wrapper of its copies; shards have none."""
    return network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network


@contextmanager
def whole_weights(network: nn.Module) -> Iterator[None]:
    """Hold the whole weights for a while, so that processes may make different numbers of passes.

    Decoding ends at different lengths; shards that were gathered in every pass would wait for each other for ever.
    """
    modules = sharded_modules(network)
    for module in modules:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    try:
        yield
    finally:
        for module in modules:
            module.reshard()
            module.set_reshard_after_forward(module is not modules[0], recurse=False)


@contextmanager
def weights_set_to(network: nn.Module, parameters: Sequence[nn.Parameter], values: Sequence[Tensor]) -> Iterator[None]:
    """Give the parameters other values for a while, as `parameters_set_to`, where they may be shards.

    What a pass has gathered of the outermost module stays gathered after it, and the next pass would not see its shards
    change.
    """
    modules = sharded_modules(network)
    for module in modules:
        module.reshard()
    try:
        with parameters_set_to(parameters, values):
            yield
    finally:
        for module in modules:
            module.reshard()


def sharded_modules(network: nn.Module) -> list[Any]:
    """Return the modules whose parameters are shards, the outermost first."""
    if not is_sharded(network):
        return []
    from torch.distributed.fsdp import FSDPModule

    return [module for module in network.modules() if isinstance(module, FSDPModule)]


def whole_weights_of(model: nn.Module) -> dict[str, Tensor] | None:
    """Return a sharded model's weights in full on the CPU, by name; None for one that is no shards.

    Tied weights come as one tensor. All processes must ask together.
    """
    if not is_sharded(model):
        return None
    found: dict[int, Tensor] = {}
    weights = {}
    for name, value in model.state_dict().items():
        key = local(value).data_ptr()
        if not local(value).numel() or key not in found:
            found[key] = whole(value).cpu()
        weights[name] = found[key]
    return weights


def whole(value: Any) -> Tensor:
    """Return a tensor in full: all processes must ask for it where it is a shard."""
    return value.full_tensor() if is_shard(value) else value


def local(value: Any) -> Tensor:
    """Return what this process holds of a tensor: its shard, or all of it."""
    return value.to_local() if is_shard(value) else value


def like(value: Tensor, other: Any) -> Tensor:
    """Return a full tensor as a shard where the other is one of the same shape, on its device."""
    if not is_shard(other) or value.shape != other.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(other.device), other.device_mesh, other.placements)


def shares(sizes: Sequence[int], count: int) -> list[range]:
    """Return `count` contiguous ranges of about equal total size that cover the places of `sizes`.

    >>> shares([4, 1, 1, 2], 2)
    [range(0, 1), range(1, 4)]
    >>> shares([5], 2)
    [range(0, 0), range(0, 1)]
    """
    bounds, done, total = [0], 0, sum(sizes)
    for place, size in enumerate(sizes):
        # A place belongs to the share in which its middle lies.
        while len(bounds) < count and (done + size / 2) * count >= len(bounds) * total:
            bounds.append(place)
        done += size
    bounds += [len(sizes)] * (count + 1 - len(bounds))
    return [range(first, last) for first, last in pairwise(bounds)]
