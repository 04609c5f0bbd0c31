"""A pre-norm transformer encoder over masked tokens."""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from plait.nn.attention import Attention
from plait.nn.noise import Dropout


class TransformerLayer(nn.Module):
    """Self-attention and a GELU MLP, each with a pre-normalised residual (https://arxiv.org/abs/2002.04745)."""

    def __init__(self, dim: int, heads: int, expansion: int = 4, dropout: float = 0.0):
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, dropout=dropout)
        self.mlp = nn.Sequential(
            nn.Linear(dim, expansion * dim), nn.GELU(), Dropout(dropout), nn.Linear(expansion * dim, dim)
        )

    def forward(self, x: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        normed = self.attention_norm(x)
        x = x + self.attention(normed, normed, mask)
        return x + self.mlp(self.mlp_norm(x))

    def weights(self, x: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "b h n n"]:
        """The attention weights that ``forward`` uses on the same arguments (without dropout)."""
        normed = self.attention_norm(x)
        return self.attention.weights(normed, normed, mask)
