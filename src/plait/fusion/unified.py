"""Unified fusion: every token of every modality, and the actions' own, in one sequence for one transformer."""

from dataclasses import dataclass
from functools import partial

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from plait.config import refuse_outside
from plait.nn.embedding import Mark
from plait.nn.pooling import masked_mean
from plait.nn.positions import grid_coordinates
from plait.nn.readout import ReadoutName
from plait.nn.sequence import GroupEmbedding, GroupReadout, join, split
from plait.nn.transformer import TransformerLayer
from plait.spec import INSTRUCTION
from plait.types import Fused, Mask, Shape, Tokens

ACTIONS = "actions"  # the part of the sequence that no modality gave


@dataclass(frozen=True)
class UnifiedConfig:
    """One joint transformer over all tokens; one token per modality comes out, or one per action.

    Attributes:
        dim: width of every token inside; a multiple of 4 and of heads.
        heads: attention heads.
        layers: transformer layers.
        stride: makes each camera's grid coarser before it enters, so that attention costs less.
        stages: channels of the residual blocks that each camera's grid goes through before it meets anything, one
            each; every one after the first halves the grid. () where the encoder is deep.
        actions: learned action tokens in the sequence, each told the instruction and where it looks; only they come
            out. 0: none, and every modality comes out. On the tabletop the discrete head reads 82 % from them, for 86
            with twice the parameters; flow does not train reliably from them (72, 93 and 29 %).
        readout: how a camera's grid becomes one token afterwards (without action tokens).
        cells: rows and columns that the flatten read-out tells apart.
        width: of each fused token.
    """

    dim: int = 96
    heads: int = 4
    layers: int = 3
    stride: int = 2
    stages: tuple[int, ...] = (48,)
    actions: int = 0
    readout: ReadoutName = "flatten"
    cells: int = 8
    width: int = 256

    def __post_init__(self) -> None:
        refuse_outside(self, actions="[0, inf)")

    def build(self, groups: dict[str, Shape]) -> "Unified":
        return Unified(groups, **vars(self))


class Unified(nn.Module):
    """In a policy: a pre-norm transformer over [cameras, state, words, actions], each token marked with its modality
    and place (VisualBERT, https://arxiv.org/abs/1908.03557; action tokens as the queries of ACT,
    https://arxiv.org/abs/2304.13705, which are asked by the instruction here, as those of bottleneck).

    ``reads["attention.<layer>"]`` is ``[b, heads, n, n]`` over the whole sequence: the cameras, the other groups,
    the action tokens; a camera's part is its coarser grid, row by row.
    """

    def __init__(
        self,
        groups: dict[str, Shape],
        dim: int,
        heads: int,
        layers: int,
        stride: int,
        stages: tuple[int, ...],
        actions: int,
        readout: ReadoutName,
        cells: int,
        width: int,
    ):
        super().__init__()
        groups = dict(sorted(groups.items(), key=lambda group: group[1].grid is None))  # cameras first
        self.embed = GroupEmbedding(groups, dim, stride, stages)
        self.actions = nn.Parameter(0.02 * torch.randn(actions, dim)) if actions else None
        self.told = nn.Linear(dim, dim) if actions and INSTRUCTION in groups else None
        grids = [shape.grid for shape in self.embed.shapes.values() if shape.grid]
        layer = partial(ActingLayer, grids=grids, actions=actions) if actions else TransformerLayer
        self.layers = nn.ModuleList(layer(dim, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.output = nn.Linear(dim, width) if actions else GroupReadout(self.embed.shapes, width, readout, cells)
        self.shape = Shape(actions, width) if actions else Shape(len(groups), width, modalities=tuple(groups))

    def forward(self, groups: dict[str, Tokens], reads: bool = False) -> Fused:
        parts = self.embed({name: groups[name] for name in self.embed.shapes})
        if self.actions is not None:
            tokens = repeat(self.actions, "k d -> b k d", b=len(next(iter(groups.values())).mask))
            if self.told is not None:
                tokens = tokens + self.told(masked_mean(parts[INSTRUCTION]))[:, None]
            parts[ACTIONS] = Tokens.valid(tokens)
        sequence, weights = join(parts), {}
        x = sequence.data
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, TransformerLayer)
            if reads:
                weights[f"attention.{index}"] = layer.weights(x, sequence.mask)
            x = layer(x, sequence.mask)
        parts = split(self.norm(x), parts)
        tokens = self.output(parts) if self.actions is None else Tokens.valid(self.output(parts[ACTIONS].data))
        return Fused(tokens, reads=weights)


class ActingLayer(TransformerLayer):
    """A layer of the joint transformer whose last tokens, those of the actions, are also told *where* in each camera
    they look: under each head's weights the mean place (the spatial soft-argmax of https://arxiv.org/abs/1504.00702)
    times the camera's share, and that share. What attention gathers is a mean over patches, from which a head has to
    guess that. The one token of an absent camera counts as the first of its grid.

    Args:
        grids: of the cameras, whose tokens begin the sequence.
        actions: how many action tokens end it.
    """

    places: Tensor

    def __init__(self, dim: int, heads: int, grids: list[tuple[int, int]], actions: int):
        super().__init__(dim, heads)
        self.actions = actions
        x_y_one = [nn.functional.pad(grid_coordinates(grid), (0, 1), value=1.0) for grid in grids]
        self.register_buffer("places", torch.block_diag(*x_y_one), persistent=False)
        self.where = nn.Linear(heads * self.places.shape[1], dim) if grids else None

    def forward(self, x: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        normed = self.attention_norm(x)
        read = self.attention.read(normed, mask)
        x = x + self.attention.attend(normed, read)
        if self.where is not None:
            weights = self.attention.look(normed[:, -self.actions :], read)
            seen = weights[..., : len(self.places)] @ self.places
            told = self.where(rearrange(seen, "b h k places -> b k (h places)"))
            x = x + nn.functional.pad(told, (0, 0, x.shape[1] - self.actions, 0))
        return x + self.mlp(self.mlp_norm(x))


class TransformerBlock(TransformerLayer):
    """The tutorial's layer: self-attention and a GELU MLP of 4 times the width, residual and LayerNorm after each
    (post-norm).

    >>> TransformerBlock(d_model=768, n_heads=12)(torch.randn(2, 216, 768)).shape
    torch.Size([2, 216, 768])
    """

    def __init__(self, d_model: int, n_heads: int):
        super().__init__(d_model, n_heads)

    def forward(self, x: Float[Tensor, "b n d"], mask: Mask | None = None) -> Float[Tensor, "b n d"]:
        """The mask is True = valid, omitted = everything is; what stands at other positions has no influence."""
        tokens = Tokens.of(x, mask)
        x = tokens.cleaned()
        x = self.attention_norm(x + self.attention(x, x, tokens.mask))
        return self.mlp_norm(x + self.mlp(x))

    def weights(self, x: Float[Tensor, "b n d"], mask: Mask | None = None) -> Float[Tensor, "b h n n"]:
        """The attention weights that ``forward`` uses on the same arguments."""
        tokens = Tokens.of(x, mask)
        return self.attention.weights(tokens.cleaned(), tokens.cleaned(), tokens.mask)


class MultiModalTransformer(nn.Module):
    """The tutorial's model: patches and words with position and modality-type embeddings in one sequence.

    >>> model = MultiModalTransformer(d_model=768, n_heads=12, n_layers=6)
    >>> output, vision, text = model(torch.randn(2, 196, 768), torch.randint(0, 50_000, (2, 20)))
    >>> output.shape, vision.shape, text.shape
    (torch.Size([2, 216, 768]), torch.Size([2, 196, 768]), torch.Size([2, 20, 768]))

    Args:
        patches, words: the most that one image and one sentence can have.
        vocabulary: how many different words there are.
    """

    def __init__(
        self,
        d_model: int = 768,
        n_heads: int = 12,
        n_layers: int = 6,
        patches: int = 196,
        words: int = 512,
        vocabulary: int = 50_000,
    ):
        super().__init__()
        self.vision = nn.Sequential(nn.Linear(768, d_model), Mark(patches, d_model, "patches"))
        self.text = nn.Sequential(nn.Embedding(vocabulary, d_model), Mark(words, d_model, "words"))
        self.layers = nn.ModuleList(TransformerBlock(d_model, n_heads) for _ in range(n_layers))
        self.norm = nn.LayerNorm(d_model)

    def forward(
        self,
        vision_features: Float[Tensor, "b n 768"],
        text_ids: Int[Tensor, "b m"],
        text_mask: Mask | None = None,
    ) -> tuple[Float[Tensor, "b n+m d"], Float[Tensor, "b n d"], Float[Tensor, "b m d"]]:
        """The whole sequence, and its two parts. The mask is True = valid, omitted = every word is.

        Raises:
            ValueError: more patches or words than the model was built for.
        """
        vision, text = Tokens.valid(self.vision(vision_features)), Tokens.of(self.text(text_ids), text_mask)
        x = torch.cat([vision.data, text.data], dim=1)
        mask = torch.cat([vision.mask, text.mask], dim=1)
        for layer in self.layers:
            x = layer(x, mask)
        x, patches = self.norm(x), vision_features.shape[1]
        return x, x[:, :patches], x[:, patches:]
