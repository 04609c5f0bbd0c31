"""Cross-attention fusion: image patches attend to words, and words attend to image patches."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from plait.config import refuse_outside
from plait.nn.attention import Attention
from plait.nn.readout import ReadoutName
from plait.nn.sequence import GroupEmbedding, GroupReadout, join, split
from plait.spec import is_camera
from plait.types import Fused, Mask, Shape, Tokens


@dataclass(frozen=True)
class CrossAttentionConfig:
    """Bidirectional cross-attention over real patch tokens, stackable.

    Attributes:
        dim: width of every token inside; a multiple of 4 and of heads.
        heads: attention heads.
        layers: how many times the two sides read each other.
        stages: channels of the residual blocks that each camera's grid goes through before it meets anything, one
            each; every one after the first halves the grid. () where the encoder is deep.
        readout: how a camera's grid becomes one token afterwards.
        width: of each fused token.
    """

    dim: int = 128
    heads: int = 4
    layers: int = 2
    stages: tuple[int, ...] = (48,)
    readout: ReadoutName = "flatten"
    width: int = 256

    def __post_init__(self) -> None:
        refuse_outside(self)

    def build(self, groups: dict[str, Shape]) -> "CrossAttention":
        return CrossAttention(groups, **vars(self))


class CrossModalAttention(nn.Module):
    """The tutorial's class, and a layer of ``CrossAttention``: vision attends to text and text to vision.

    Residual and LayerNorm after each (post-norm). Both directions read the inputs, not each other's output.

    >>> vision, text = torch.randn(2, 196, 768), torch.randn(2, 20, 768)
    >>> v, t = CrossModalAttention(d_model=768, n_heads=8)(vision, text)
    >>> v.shape, t.shape
    (torch.Size([2, 196, 768]), torch.Size([2, 20, 768]))
    """

    def __init__(self, d_model: int = 768, n_heads: int = 8):
        super().__init__()
        self.vision_to_text = Attention(d_model, n_heads)
        self.text_to_vision = Attention(d_model, n_heads)
        self.vision_norm, self.text_norm = nn.LayerNorm(d_model), nn.LayerNorm(d_model)

    def forward(
        self,
        vision: Float[Tensor, "b n d"],
        text: Float[Tensor, "b m d"],
        vision_mask: Mask | None = None,
        text_mask: Mask | None = None,
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b m d"]]:
        """Masks: True = valid, omitted = everything is; what stands at other positions has no influence."""
        seen, told = Tokens.of(vision, vision_mask), Tokens.of(text, text_mask)
        vision, text = seen.cleaned(), told.cleaned()
        new_vision = self.vision_norm(vision + self.vision_to_text(vision, text, told.mask))
        new_text = self.text_norm(text + self.text_to_vision(text, vision, seen.mask))
        return new_vision, new_text

    def weights(
        self,
        vision: Float[Tensor, "b n d"],
        text: Float[Tensor, "b m d"],
        vision_mask: Mask | None = None,
        text_mask: Mask | None = None,
    ) -> dict[str, Tensor]:
        """The weights that ``forward`` uses: ``vision_to_text [b h n m]`` and ``text_to_vision [b h m n]``."""
        seen, told = Tokens.of(vision, vision_mask), Tokens.of(text, text_mask)
        return {
            "vision_to_text": self.vision_to_text.weights(seen.cleaned(), told.cleaned(), told.mask),
            "text_to_vision": self.text_to_vision.weights(told.cleaned(), seen.cleaned(), seen.mask),
        }


class CrossAttention(nn.Module):
    """In a policy: all cameras' patches on one side, words and state on the other; ViLBERT's co-attention
    (https://arxiv.org/abs/1908.02265) between them. One token per modality comes out.

    One side alone has nothing to exchange, and has no layers: its tokens are read out as they are.

    ``reads`` holds, for each layer, ``vision_to_text.<layer>`` and ``text_to_vision.<layer>``; on either side, tokens
    stand in the order of the groups.
    """

    def __init__(
        self,
        groups: dict[str, Shape],
        dim: int,
        heads: int,
        layers: int,
        stages: tuple[int, ...],
        readout: ReadoutName,
        width: int,
    ):
        super().__init__()
        self.embed = GroupEmbedding(groups, dim, stages=stages)
        both_sides = len(set(map(is_camera, groups))) == 2
        self.layers = nn.ModuleList(CrossModalAttention(dim, heads) for _ in range(layers if both_sides else 0))
        self.readout = GroupReadout(self.embed.shapes, width, readout)
        self.shape = Shape(len(groups), width, modalities=tuple(groups))

    def forward(self, groups: dict[str, Tokens], reads: bool = False) -> Fused:
        groups = self.embed(groups)
        if not self.layers:
            return Fused(self.readout(groups))
        cameras = {name: tokens for name, tokens in groups.items() if is_camera(name)}
        others = {name: tokens for name, tokens in groups.items() if not is_camera(name)}
        seen, told, read = join(cameras), join(others), {}
        vision, text = seen.data, told.data
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, CrossModalAttention)
            if reads:
                weights = layer.weights(vision, text, seen.mask, told.mask)
                read |= {f"{name}.{index}": value for name, value in weights.items()}
            vision, text = layer(vision, text, seen.mask, told.mask)
        parts = split(vision, cameras) | split(text, others)
        return Fused(self.readout({name: parts[name] for name in groups}), reads=read)
