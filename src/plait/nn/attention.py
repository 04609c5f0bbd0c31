"""Multi-head attention on PyTorch's fused kernel; the weights are computed only when somebody reads them."""

from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

Mask = Bool[Tensor, "b m"] | Bool[Tensor, "b n m"]  # True = valid


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
        q, k, v = self._project(x, context)
        allowed, any_valid = _attendable(mask)
        dropout = self.dropout if self.training else 0.0
        mixed = scaled_dot_product_attention(q, k, v, attn_mask=allowed, dropout_p=dropout)
        return self.output(rearrange(mixed, "b h n e -> b n (h e)")) * any_valid

    def weights(
        self, x: Float[Tensor, "b n d"], context: Float[Tensor, "b m c"], mask: Mask
    ) -> Float[Tensor, "b h n m"]:
        """The weights that ``forward`` uses on the same arguments (without dropout); rows sum to 1."""
        q, k, _ = self._project(x, context)
        allowed, any_valid = _attendable(mask)
        scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
        return scores.masked_fill(~allowed, float("-inf")).softmax(-1) * any_valid[:, None]

    def _project(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        key, value = self.key_value(context).chunk(2, dim=-1)
        q, k, v = (rearrange(t, "b n (h e) -> b h n e", h=self.heads) for t in (self.query(x), key, value))
        return q, k, v


def _attendable(mask: Mask) -> tuple[Bool[Tensor, "b 1 #n m"], Bool[Tensor, "b #n 1"]]:
    """A mask in which no row is empty (softmax over nothing is NaN), and whether the row had anything valid."""
    mask = mask if mask.ndim == 3 else mask[:, None]
    any_valid = mask.any(dim=-1, keepdim=True)
    return (mask | ~any_valid)[:, None], any_valid
