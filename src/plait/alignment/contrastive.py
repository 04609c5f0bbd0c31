"""Contrastive learning of vision and text: the logit scale, two objectives, and the two-tower model."""

from math import log
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import logsigmoid, normalize

from plait.alignment.gather import gathered, mean_over
from plait.alignment.infonce import info_nce, one_way
from plait.alignment.right import Right
from plait.config import unknown
from plait.data.world import ALONE, World

LARGEST_SCALE = 100.0  # CLIP's, "to prevent training instability"


class LogitScale(nn.Module):
    """What cosines are multiplied by: learned, 1 / temperature at first, and never above 100.

    At the bound, a gradient that leads further up is dropped and one that leads back is not, so that the number is not
    held there for ever, as it would be by ``clamp``.

    Raises:
        ValueError: a temperature below 0.01.
    """

    def __init__(self, temperature: float):
        super().__init__()
        if not 1 / LARGEST_SCALE <= temperature < float("inf"):
            raise ValueError(f"temperature = {temperature}: at least {1 / LARGEST_SCALE}; CLIP begins at 0.07")
        self.log_scale = nn.Parameter(torch.tensor(-log(temperature)))

    def forward(self) -> Float[Tensor, ""]:
        return _BoundedExp.apply(self.log_scale)  # pyright: ignore[reportReturnType]


class _BoundedExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        scale = x.exp().clamp(max=LARGEST_SCALE)
        ctx.save_for_backward(scale)
        return scale

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (scale,) = ctx.saved_tensors
        return torch.where((scale >= LARGEST_SCALE) & (gradient < 0), 0.0, gradient * scale)


class InfoNCE(nn.Module):
    """CLIP's objective (https://arxiv.org/abs/2103.00020). See ``plait.alignment.infonce`` for its memory."""

    def __init__(self, temperature: float = 0.07):
        super().__init__()
        self.scale = LogitScale(temperature)

    def logits(self, vision: Float[Tensor, "n d"], text: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        return self.scale() * vision @ text.T

    @staticmethod
    def one_way(logits: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
        """Each row finds its column."""
        return one_way(logits)

    def forward(
        self,
        vision: Float[Tensor, "n d"],
        text: Float[Tensor, "n d"],
        world: World = ALONE,
        right: Right | None = None,
    ) -> Float[Tensor, ""]:
        """The loss over the pairs of all processes; rows are of unit length.

        Args:
            right: which texts are true of which images, see ``info_nce``; omitted, only those of pairs.
        """
        return info_nce(vision, text, self.scale(), world, right)


class Sigmoid(nn.Module):
    """SigLIP's objective (https://arxiv.org/abs/2303.15343): is this text this image's? Asked of each combination.

    Args:
        temperature, bias: where they begin; most combinations are wrong, so the bias begins low.
    """

    def __init__(self, temperature: float = 0.1, bias: float = -10.0):
        super().__init__()
        self.scale = LogitScale(temperature)
        self.bias = nn.Parameter(torch.tensor(bias))

    def logits(self, vision: Float[Tensor, "n d"], text: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        return self.scale() * vision @ text.T + self.bias

    @staticmethod
    def one_way(logits: Float[Tensor, "n m"], right: Bool[Tensor, "n m"] | None = None) -> Float[Tensor, ""]:
        """The mean over rows of the sum over columns; ``right``: which belong together, the diagonal when omitted."""
        logits = _wide(logits)
        right = torch.eye(*logits.shape, dtype=torch.bool, device=logits.device) if right is None else right
        return -logsigmoid(torch.where(right, logits, -logits)).sum() / len(logits)

    def forward(
        self,
        vision: Float[Tensor, "n d"],
        text: Float[Tensor, "n d"],
        world: World = ALONE,
        right: Right | None = None,
    ) -> Float[Tensor, ""]:
        """The loss over the pairs of all processes; rows are of unit length.

        With the logits s and R(i) the texts that are true of image i, it is

            -1 / n sum_i [sum_{j in R(i)} log sigmoid(s_ij) + sum_{j not in R(i)} log sigmoid(-s_ij)],

        which is SigLIP's where all R(i) = {i}. Each combination is a question of its own, so that nothing is shared.

        Args:
            right: the texts of this process and which of them are true of its images; omitted, only those of pairs.
                Otherwise a text that is true of two images would be right for the one and wrong for the other.
        """
        if right is None:
            numbers = torch.arange(len(vision), device=vision.device) + world.rank * len(vision)
            right = Right(numbers, numbers[:, None])
        logits = self.logits(vision, gathered(text, world))
        return mean_over(self.one_way(logits, right.gathered(world).tile()), world)


ObjectiveName = Literal["infonce", "sigmoid"]
OBJECTIVES = {"infonce": InfoNCE, "sigmoid": Sigmoid}


class ContrastiveMultiModal(nn.Module):
    """Two encoders, each with a projection into one space, as CLIP has them.

    Training needs no matrix of logits: ``model.objective(*model.encode(images, texts))`` is the loss.

    >>> vision, text = nn.Linear(32, 8), nn.Embedding(100, 8)
    >>> vision.output_dim = text.output_dim = 8
    >>> model = ContrastiveMultiModal(vision, text, embed_dim=512, temperature=0.07)
    >>> both = model(torch.randn(4, 32), torch.tensor([5, 9, 2, 7]))
    >>> [logits.shape for logits in both], model.compute_loss(*both).shape
    ([torch.Size([4, 4]), torch.Size([4, 4])], torch.Size([]))

    Args:
        vision_encoder, text_encoder: any input -> ``[n, output_dim]``; each tells its ``output_dim``.
        embed_dim: width of the common space.
        temperature: where it begins; omitted, 0.07 for infonce and 0.1 for sigmoid.
        objective: infonce (CLIP) or sigmoid (SigLIP).

    Raises:
        ValueError: an encoder without ``output_dim``, a temperature below 0.01, or an objective that does not exist.
    """

    def __init__(
        self,
        vision_encoder: nn.Module,
        text_encoder: nn.Module,
        embed_dim: int = 512,
        temperature: float | None = None,
        objective: ObjectiveName = "infonce",
    ):
        super().__init__()
        if objective not in OBJECTIVES:
            raise unknown("objective", objective, OBJECTIVES)
        self.vision_encoder, self.text_encoder = vision_encoder, text_encoder
        self.vision_projection, self.text_projection = (
            nn.Linear(_width(encoder), embed_dim, bias=False) for encoder in (vision_encoder, text_encoder)
        )
        self.objective = OBJECTIVES[objective](*(() if temperature is None else (temperature,)))

    def encode(self, images: Any, texts: Any) -> tuple[Float[Tensor, "n e"], Float[Tensor, "n e"]]:
        """The embeddings of both, of unit length."""
        vision = self.vision_projection(self.vision_encoder(images))
        text = self.text_projection(self.text_encoder(texts))
        return normalize(vision, dim=-1), normalize(text, dim=-1)

    def forward(self, images: Any, texts: Any) -> tuple[Float[Tensor, "n m"], Float[Tensor, "m n"]]:
        """``logits_per_image`` and ``logits_per_text``: each image with each text, and the other way round."""
        logits = self.objective.logits(*self.encode(images, texts))
        return logits, logits.T

    def compute_loss(self, *both: Any) -> Float[Tensor, ""]:
        """The objective over both directions, of what ``forward`` returns, as a pair or as two; row i belongs to
        column i.
        """
        logits_per_image, logits_per_text = both[0] if len(both) == 1 else both
        return (self.objective.one_way(logits_per_image) + self.objective.one_way(logits_per_text)) / 2


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _width(encoder: nn.Module) -> int:
    if not isinstance(width := getattr(encoder, "output_dim", None), int):
        name = type(encoder).__name__
        raise ValueError(f"{name}.output_dim = {width}: set it to the width of the features that the encoder returns")
    return width
