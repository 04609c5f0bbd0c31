"""Pictures of what a model attends to and of where its embeddings lie, as matplotlib figures."""

from collections.abc import Mapping, Sequence
from math import isqrt
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def visualize_cross_attention(
    attention_weights: Mapping[str, Tensor],
    vision_patches: int | tuple[int, int] = 14,
    text_tokens: int | Sequence[str] = 10,
) -> "Figure":
    """Where each word looks in the image, and below, what each patch takes from the words.

    Of a batch, the first row is drawn; of several heads, the mean.

    >>> weights = {"vision_to_text": torch.rand(1, 8, 49, 6), "text_to_vision": torch.rand(1, 8, 6, 49)}
    >>> figure = visualize_cross_attention(weights, text_tokens=["pick", "up", "the", "red", "ball"])
    >>> [axes.get_title() for axes in figure.axes]
    ['pick', 'up', 'the', 'red', 'ball', 'each patch over the words']

    Args:
        attention_weights: ``vision_to_text`` ``[b, heads, patches, words]`` and ``text_to_vision``
            ``[b, heads, words, patches]``, from a model's ``weights``; both may come without heads.
        vision_patches: (rows, columns) of the grid that the patches tile. A number is that of the columns, for
            patches that tile no square; those that do are drawn as one.
        text_tokens: the words, or how many of them are drawn at most.

    Raises:
        ValueError: patches that do not tile the grid.
    """
    from matplotlib.figure import Figure  # only where it is used: it takes a second to load

    looks, taken = (_first(attention_weights[way]) for way in ("text_to_vision", "vision_to_text"))
    words = [f"word {i + 1}" for i in range(text_tokens)] if isinstance(text_tokens, int) else list(text_tokens)
    words = words[: looks.shape[0]]
    rows, columns = _grid(looks.shape[1], vision_patches)
    across = min(len(words), 5)
    down = -(-len(words) // across)
    figure = Figure(figsize=(2.2 * across, 2.4 * (down + 1)), layout="constrained")
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=(down, 1)).flat
    for index, word in enumerate(words):
        axes = upper.add_subplot(down, across, index + 1, title=word)
        axes.imshow(looks[index].view(rows, columns).numpy(), cmap="viridis")
        axes.set_axis_off()
    axes = lower.add_subplot(title="each patch over the words", xlabel="patch, row by row")
    axes.imshow(taken[:, : len(words)].T.numpy(), cmap="viridis", aspect="auto", interpolation="nearest")
    axes.set_yticks(range(len(words)), words)
    return figure


def plot_modality_embeddings(vision_embeds: Float[Tensor, "n d"], text_embeds: Float[Tensor, "m d"]) -> "Figure":
    """Both modalities' embeddings in two dimensions, by t-SNE (seed 42); needs the extra plait[plots].

    >>> figure = plot_modality_embeddings(torch.randn(8, 16), torch.randn(8, 16))
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['vision', 'text']

    Raises:
        ValueError: fewer than 3 embeddings together, which have no neighbours to keep.
    """
    from matplotlib.figure import Figure

    points = _tsne(torch.cat([vision_embeds, text_embeds]).detach().float().cpu())
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.add_subplot(title="t-SNE of the embeddings")
    parts = points.split([len(vision_embeds), len(text_embeds)])
    for name, marker, part in zip(("vision", "text"), "o^", parts, strict=True):
        axes.scatter(*part.T.numpy(), marker=marker, alpha=0.7, label=name)
    axes.legend()
    return figure


def _first(weights: Tensor) -> Float[Tensor, "n m"]:
    """The first row of the batch, the mean of its heads."""
    row = weights[0].detach().float().cpu()
    return row.mean(dim=0) if row.ndim == 3 else row


def _grid(patches: int, told: int | tuple[int, int]) -> tuple[int, int]:
    if isinstance(told, tuple):
        rows, columns = told
    else:
        columns = isqrt(patches) if isqrt(patches) ** 2 == patches else told
        rows = patches // columns
    if rows * columns != patches:
        raise ValueError(
            f"vision_patches: {patches} patches do not tile {rows} x {columns}; give the grid as (rows, columns)"
        )
    return rows, columns


def _tsne(points: Float[Tensor, "n d"]) -> Float[Tensor, "n 2"]:
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise ValueError("t-SNE needs scikit-learn; pip install 'plait[plots]'") from error
    if len(points) < 3:
        raise ValueError(f"embeddings: {len(points)} are too few to draw; at least 3")
    # the usual perplexity, which is a number of neighbours, as far as there are so many
    tsne = TSNE(perplexity=min(30.0, (len(points) - 1) / 3), init="random", random_state=42)
    return torch.from_numpy(tsne.fit_transform(points.numpy()))
