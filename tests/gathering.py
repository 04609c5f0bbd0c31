"""Contrastive losses that several processes compute together."""

from multiprocessing import get_context
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import TCPStore
from torch.multiprocessing.spawn import spawn
from torch.nn.functional import normalize

from plait.alignment.contrastive import InfoNCE, Sigmoid
from plait.alignment.infonce import info_nce
from plait.alignment.right import Right
from plait.data.world import ALONE, World

Found = dict[str, dict[str, list[float]]]  # objective -> the loss, and the gradient of each parameter
PAIRS = 12


def shared(world: World) -> Right:
    """Texts that occur in several processes, and pictures of which other processes' texts are true too."""
    texts = torch.arange(PAIRS) % 5
    true = torch.stack([texts, torch.where(torch.arange(PAIRS) % 2 == 0, (texts + 1) % 5, -1)], dim=1)
    return Right(world.part(texts), world.part(true))


class Tiled(InfoNCE):
    """In tiles that divide no process's part."""

    def forward(self, vision: Tensor, text: Tensor, world: World = ALONE) -> Tensor:
        return info_nce(vision, text, self.scale(), world, tile=4)


class TiledShared(InfoNCE):
    def forward(self, vision: Tensor, text: Tensor, world: World = ALONE) -> Tensor:
        return info_nce(vision, text, self.scale(), world, shared(world), tile=4)


class Shared(InfoNCE):
    def forward(self, vision: Tensor, text: Tensor, world: World = ALONE) -> Tensor:
        return super().forward(vision, text, world, shared(world))


class SharedSigmoid(Sigmoid):
    def forward(self, vision: Tensor, text: Tensor, world: World = ALONE) -> Tensor:
        return super().forward(vision, text, world, shared(world))


OBJECTIVES = {
    **{"infonce": InfoNCE, "tiled": Tiled, "infonce, shared": Shared, "tiled, shared": TiledShared},
    **{"sigmoid": Sigmoid, "sigmoid, shared": SharedSigmoid},
}


def alone() -> Found:
    return {name: _step(name, ALONE) for name in OBJECTIVES}


def together(processes: int) -> list[Found]:
    """By process; gradients are the mean over all, as data-parallel training takes it."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    results = get_context("spawn").SimpleQueue()
    spawn(_work, (processes, store.port, results), processes)
    found = dict(results.get() for _ in range(processes))
    return [found[rank] for rank in range(processes)]


def _work(rank: int, size: int, port: int, results: Any) -> None:
    torch.set_num_threads(1)
    world = World(rank, size)
    dist.init_process_group("gloo", store=TCPStore("127.0.0.1", port), rank=rank, world_size=size)
    results.put((rank, {name: _step(name, world) for name in OBJECTIVES}))
    dist.destroy_process_group()


def _step(objective: str, world: World) -> dict[str, list[float]]:
    torch.manual_seed(0)
    vision, text = (nn.Parameter(torch.randn(6, 4, dtype=torch.float64)) for _ in range(2))
    images, texts = (world.part(torch.randn(PAIRS, 6, dtype=torch.float64)) for _ in range(2))
    part = OBJECTIVES[objective](temperature=0.2).double()
    loss = part(normalize(images @ vision, dim=1), normalize(texts @ text, dim=1), world)
    loss.backward()
    found = {"loss": loss.detach()}
    for name, parameter in [("vision", vision), ("text", text), *part.named_parameters()]:
        assert isinstance(parameter.grad, Tensor)
        if world.size > 1:
            dist.all_reduce(parameter.grad)
        found[name] = parameter.grad / world.size
    return {name: value.flatten().tolist() for name, value in found.items()}
