"""Pictures of what a model attends to and of where its embeddings lie, as matplotlib figures."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import isqrt
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from plait.diagnose.overlay import overlaid
from plait.diagnose.style import COLOURS, styled
from plait.evaluate.lettering import font_for, legible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

ACROSS = 6  # pictures beside each other
LABELS = len(COLOURS) - 1  # that have a colour of their own; the others share the last one
Projection = Literal["t-SNE", "UMAP"]


@styled
def attention_overlay(
    pictures: Mapping[str, UInt8[np.ndarray, "_ _ 3"]],
    maps: Mapping[str, Float[Tensor, "words _ _"]],
    words: Sequence[str],
) -> "Figure":
    """Where a policy looks at one moment: each camera's picture, and beside it, one for each word, the picture lit by
    the word's map. A camera's maps have one scale.

    >>> picture = np.full((64, 64, 3), 200, np.uint8)
    >>> figure = attention_overlay({"front": picture}, {"front": torch.rand(2, 8, 8)}, ["red", "ball"])
    >>> [axes.get_title() for axes in figure.axes]
    ['front', 'red', 'ball']

    Args:
        pictures: camera -> RGB.
        maps: camera -> a map for each of ``words``, never below 0; ``plait.diagnose.heatmaps`` makes them.
        words: what stands above the maps.

    Raises:
        ValueError: more or fewer maps than words.
    """
    from matplotlib.figure import Figure  # only where it is used: it takes a second to load

    words = list(map(legible, words))
    rows: list[list[tuple[str, np.ndarray]]] = []
    for camera, picture in pictures.items():
        if len(maps[camera]) != len(words):
            raise ValueError(f"maps: {len(maps[camera])} of camera {camera!r} for {len(words)} words; one for each")
        lit = overlaid(picture, maps[camera], picture.shape[1])
        tiles = [(camera, picture), *zip(words, lit, strict=True)]
        rows += [tiles[start : start + ACROSS] for start in range(0, len(tiles), ACROSS)]
    across = max(map(len, rows))
    figure = Figure(figsize=(1.5 * across, 1.75 * len(rows) + 0.3), layout="constrained")
    for down, row in enumerate(rows):
        for column, (title, picture) in enumerate(row):
            axes = figure.add_subplot(len(rows), across, down * across + column + 1)
            _lettered(axes.set_title(title, fontsize=10))
            axes.imshow(picture, interpolation="bicubic")
            axes.set_axis_off()
    figure.supxlabel("bright where it looks; one scale for each camera", fontsize=9)
    return figure


@styled
def embedding_map(
    embeddings: Mapping[str, Float[Tensor, "n d"]], labels: Sequence[str], projection: Projection = "t-SNE"
) -> "Figure":
    """Where embeddings lie, in two dimensions, coloured by modality and, beside it, by label; needs plait[plots].

    >>> figure = embedding_map({"front": torch.randn(8, 16), "words": torch.randn(8, 16)}, ["ball", "cube"] * 4)
    >>> [axes.get_title() for axes in figure.axes]
    ['by modality', 'by label']

    Args:
        embeddings: modality -> one row per scene, all of one width.
        labels: of the scenes. The rarest share a colour where there are many.
        projection: ``"t-SNE"`` or ``"UMAP"`` (which needs plait[umap]), with seed 42.

    Raises:
        ValueError: fewer than 3 embeddings together, or the library is missing.
    """
    from matplotlib.figure import Figure

    every = torch.cat(list(embeddings.values())).detach().float().cpu()
    points = (_tsne if projection == "t-SNE" else _umap)(every)
    modalities = [name for name, rows in embeddings.items() for _ in rows]
    often = [label for label, _ in Counter(labels).most_common(LABELS)]
    shown = [label if label in often else "others" for label in labels]
    figure = Figure(figsize=(8.6, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    _scatter(left, points, modalities, "by modality", projection)
    _scatter(right, points, shown * len(embeddings), "by label", projection)
    return figure


def _scatter(axes: "Axes", points: Tensor, labels: Sequence[str], title: str, projection: str) -> None:
    names = sorted(set(labels), key=lambda name: (name == "others", name))
    for colour, name in zip(COLOURS, names, strict=False):
        here = points[[label == name for label in labels]]
        axes.scatter(*here.T.numpy(), s=14, alpha=0.75, linewidths=0, color=colour, label=legible(name))
    axes.set(title=title, xlabel=f"{projection} 1", ylabel=f"{projection} 2", xticks=[], yticks=[])
    legend = axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=3, frameon=False, fontsize=9)
    _lettered(*legend.get_texts())


def visualize_cross_attention(
    attention_weights: Mapping[str, Tensor],
    vision_patches: int | tuple[int, int] = 14,
    text_tokens: int | Sequence[str] = 10,
) -> "Figure":
    """Where each word looks in the image, and below, what each patch takes from the words.

    Of a batch, the first row is drawn; of several heads, the mean. Words in letters that no font here has are spelled
    in Latin ones (Korean), or escaped.

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
    words = list(map(legible, words[: looks.shape[0]]))
    rows, columns = _grid(looks.shape[1], vision_patches)
    across = min(len(words), 5)
    down = -(-len(words) // across)
    figure = Figure(figsize=(2.2 * across, 2.4 * (down + 1)), layout="constrained")
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=(down, 1)).flat
    for index, word in enumerate(words):
        axes = upper.add_subplot(down, across, index + 1)
        _lettered(axes.set_title(word))
        axes.imshow(looks[index].view(rows, columns).numpy(), cmap="viridis")
        axes.set_axis_off()
    axes = lower.add_subplot(title="each patch over the words", xlabel="patch, row by row")
    axes.imshow(taken[:, : len(words)].T.numpy(), cmap="viridis", aspect="auto", interpolation="nearest")
    axes.set_yticks(range(len(words)), words)
    _lettered(*axes.get_yticklabels())
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


def _lettered(*texts: "Text") -> None:
    """Draw each ``legible`` text in a font that has its letters, which matplotlib's own lacks for Korean."""
    from matplotlib.font_manager import FontProperties

    for text in texts:
        font = font_for(text.get_text(), 10).path
        text.set_fontproperties(FontProperties(fname=str(font), size=text.get_fontsize()))


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


def _umap(points: Float[Tensor, "n d"]) -> Float[Tensor, "n 2"]:
    try:
        from umap import UMAP  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError("UMAP needs umap-learn; pip install 'plait[umap]'") from error
    _refuse_few(points)
    umap: Any = UMAP(n_neighbors=min(15, len(points) - 1), init="random", random_state=42, n_jobs=1)
    return torch.from_numpy(umap.fit_transform(points.numpy()))


def _tsne(points: Float[Tensor, "n d"]) -> Float[Tensor, "n 2"]:
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise ValueError("t-SNE needs scikit-learn; pip install 'plait[plots]'") from error
    _refuse_few(points)
    # the usual perplexity, which is a number of neighbours, as far as there are so many
    tsne = TSNE(perplexity=min(30.0, (len(points) - 1) / 3), init="random", random_state=42)
    return torch.from_numpy(tsne.fit_transform(points.numpy()))


def _refuse_few(points: Tensor) -> None:
    if len(points) < 3:
        raise ValueError(f"embeddings: {len(points)} are too few to draw; at least 3")
