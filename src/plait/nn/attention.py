"""Multi-head attention on PyTorch's fused kernel; the weights are computed only when somebody reads them."""

from typing import NamedTuple

from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

Mask = Bool[Tensor, "b m"] | Bool[Tensor, "b n m"] | None  # True = valid; None: everything is


class Read(NamedTuple):
    """What is attended to, ready for any number of queries: keys and values, and which of them each query may read.

    Attributes:
        allowed: None where everything may be read; a row that may read nothing has all.
        any_valid: False for such a row, whose result is zero.
    """

    key: Float[Tensor, "b h m e"]
    value: Float[Tensor, "b h m e"]
    allowed: Bool[Tensor, "b 1 #n m"] | None = None
    any_valid: Bool[Tensor, "b #n 1"] | None = None


class Attention(nn.Module):
    """Scaled dot-product attention (Vaswani et al., https://arxiv.org/abs/1706.03762).

    Args:
        dim: width of queries and output; divisible by ``heads``.
        heads: number of heads.
        context_dim: width of what is attended to (``dim`` when omitted).
        dropout: on the attention weights, in training.
    """

    def __init__(self, dim: int, heads: int, context_dim: int | None = None, dropout: float = 0.0):
        super().__init__()
        if dim % heads:
            raise ValueError(
                f"attention: a width of {dim} cannot be split over {heads} heads; choose a divisor of {dim}"
            )
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(context_dim or dim, 2 * dim)
        self.output = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "b n d"], context: Float[Tensor, "b m c"], mask: Mask) -> Float[Tensor, "b n d"]:
        """Attend from ``x`` to the valid (``mask`` True) positions of ``context``; nothing valid gives zeros.

        A mask ``[b, n, m]`` says for each position of ``x`` what it may attend to, such as only what came before it.
        """
        return self.attend(x, self.read(context, mask))

    def read(self, context: Float[Tensor, "b m c"], mask: Mask) -> Read:
        """What ``attend`` needs of ``context``, which stays the same when only ``x`` changes."""
        key, value = map(self._by_head, self.key_value(context).chunk(2, dim=-1))
        return Read(key, value) if mask is None else Read(key, value, *_attendable(mask))

    def attend(self, x: Float[Tensor, "b n d"], read: Read) -> Float[Tensor, "b n d"]:
        """``forward`` on what was read before."""
        dropout = self.dropout if self.training else 0.0
        query = self._by_head(self.query(x))
        mixed = scaled_dot_product_attention(query, read.key, read.value, attn_mask=read.allowed, dropout_p=dropout)
        out = self.output(rearrange(mixed, "b h n e -> b n (h e)"))
        return out if read.any_valid is None else out * read.any_valid

    def weights(
        self, x: Float[Tensor, "b n d"], context: Float[Tensor, "b m c"], mask: Mask
    ) -> Float[Tensor, "b h n m"]:
        """The weights that ``forward`` uses on the same arguments (without dropout); rows sum to 1."""
        return self.look(x, self.read(context, mask))

    def look(self, x: Float[Tensor, "b n d"], read: Read) -> Float[Tensor, "b h n m"]:
        """``weights`` of what was read before."""
        query = self._by_head(self.query(x))
        scores = (query @ read.key.transpose(-1, -2)) * query.shape[-1] ** -0.5
        if read.allowed is None or read.any_valid is None:
            return scores.softmax(-1)
        return scores.masked_fill(~read.allowed, float("-inf")).softmax(-1) * read.any_valid[:, None]

    def mix(self, weights: Float[Tensor, "b h n m"], read: Read) -> Float[Tensor, "b n d"]:
        """What ``attend`` makes of these weights."""
        out = self.output(rearrange(weights @ read.value, "b h n e -> b n (h e)"))
        return out if read.any_valid is None else out * read.any_valid

    def _by_head(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b h n e"]:
        return rearrange(x, "b n (h e) -> b h n e", h=self.heads)


def _attendable(mask: Bool[Tensor, "b *n m"]) -> tuple[Bool[Tensor, "b 1 #n m"], Bool[Tensor, "b #n 1"]]:
    """A mask in which no row is empty (softmax over nothing is NaN), and whether the row had anything valid."""
    mask = mask if mask.ndim == 3 else mask[:, None]
    any_valid = mask.any(dim=-1, keepdim=True)
    return (mask | ~any_valid)[:, None], any_valid
