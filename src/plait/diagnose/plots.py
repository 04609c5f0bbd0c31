"""Pictures of what a model attends to and of where its embeddings lie, as matplotlib figures."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from math import isqrt
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from plait.config import refuse_small, unknown
from plait.diagnose.overlay import overlaid
from plait.diagnose.style import COLOURS, mark, styled
from plait.evaluate.lettering import font_for, legible, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

ACROSS = 6  # pictures beside each other
LETTERS, PANEL, MARK = 9, 250, 34  # points: size, width of a legend's text below one of two panels, beside it
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
        maps: camera of a picture -> a map for each of ``words``, finite and never below 0; ``plait.diagnose.heatmaps``
            makes them.
        words: what stands above the maps.

    Raises:
        ValueError: no picture, one that is no RGB in bytes or has no maps, more or fewer maps than words, or maps of
            other numbers.
    """
    from matplotlib.figure import Figure  # only where it is used: it takes a second to load

    if not pictures:
        raise ValueError("pictures: there is none to draw; give that of at least one camera")
    words = list(map(legible, words))
    rows: list[list[tuple[str, np.ndarray]]] = []
    for camera, picture in pictures.items():
        lit = overlaid(picture, _maps(camera, picture, maps, len(words)), picture.shape[1])
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


def _maps(
    camera: str, picture: np.ndarray, maps: Mapping[str, Float[Tensor, "words _ _"]], words: int
) -> Float[Tensor, "words _ _"]:
    """The camera's maps, once it is known that they and the picture can be drawn."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        kind = f"{picture.dtype} {list(picture.shape)}"
        raise ValueError(f"pictures: {camera!r} is {kind}; give RGB as uint8 [height, width, 3], 0 to 255")
    if camera not in maps:
        raise ValueError(
            f"maps: none of camera {camera!r}, only of {list(maps)}; give its maps, or leave its picture out"
        )
    own = torch.as_tensor(maps[camera]).detach().cpu()
    if own.ndim != 3 or len(own) != words:
        number = f"{len(own)}" if own.ndim == 3 else f"{list(own.shape)}"
        raise ValueError(f"maps: {number} of camera {camera!r} for {words} words; one for each, [words, rows, columns]")
    if not (own.isfinite() & (own >= 0)).all():
        raise ValueError(f"maps: those of camera {camera!r} go from {own.min():g} to {own.max():g}; finite, at least 0")
    return own


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
        labels: one of each scene. The rarest share a colour where there are many.
        projection: ``"t-SNE"`` or ``"UMAP"`` (which needs plait[umap]), with seed 42.

    Raises:
        ValueError: fewer than 3 embeddings together, of several widths, not finite, or not one for each label; a
            projection that does not exist, or whose library is missing.
    """
    from matplotlib.figure import Figure

    if projection not in PROJECTED_BY:
        raise unknown("projection", projection, PROJECTED_BY)
    every = _together(embeddings)
    for name, rows in embeddings.items():
        if len(rows) != len(labels):
            raise ValueError(f"labels: {len(labels)} for {len(rows)} embeddings of {name!r}; one for each row")
    points = PROJECTED_BY[projection](every)
    modalities = [name for name, rows in embeddings.items() for _ in rows]
    often = [label for label, _ in Counter(labels).most_common(LABELS)]
    shown = [label if label in often else "others" for label in labels]
    rows = max(_told(names)[2] for names in (set(modalities), set(shown)))
    figure = Figure(figsize=(8.6, 4.0 + 0.19 * rows), layout="constrained")  # the legends lie below
    left, right = figure.subplots(1, 2)
    _scatter(left, points, modalities, "by modality", projection)
    _scatter(right, points, shown * len(embeddings), "by label", projection)
    return figure


def _scatter(axes: "Axes", points: Tensor, labels: Sequence[str], title: str, projection: str) -> None:
    names, handles = sorted(set(labels), key=lambda name: (name == "others", name)), []
    for number, name in enumerate(names):
        colour, marker = mark(number)
        here = points[[label == name for label in labels]]
        handles.append(axes.scatter(*here.T.numpy(), s=14, alpha=0.75, linewidths=0, color=colour, marker=marker))
    axes.set(title=title, xlabel=f"{projection} 1", ylabel=f"{projection} 2", xticks=[], yticks=[])
    texts, columns, _ = _told(names)
    place: Any = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.08), "frameon": False}
    legend = axes.legend(handles, texts, ncols=columns, fontsize=LETTERS, **place)
    _lettered(*legend.get_texts())


def _short(text: str) -> str:
    """At most two or three lines of a legend, and no word longer than one."""
    words = [word if len(word) <= 24 else f"{word[:23]}…" for word in text.split()]
    return shorten(" ".join(words), 99, placeholder=" …")


def _told(names: Collection[str]) -> tuple[list[str], int, int]:
    """What a legend below one of two panels says of these names, in how many columns, and how many lines it has."""
    short = [_short(legible(name)) or "(empty)" for name in names]
    texts = ["\n".join(wrapped(text, PANEL, LETTERS)) for text in short]
    widest = max(font_for(line, LETTERS).getlength(line) for text in texts for line in text.splitlines())
    columns = max(1, min(3, int((PANEL + MARK) // (widest + MARK))))
    return texts, columns, -(-sum(text.count("\n") + 1 for text in texts) // columns)


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
        text_tokens: the words, the first of those in the weights, or how many of them are drawn at most.

    Raises:
        ValueError: patches that do not tile the grid, weights of one way alone or of other shapes, no words, or more
            than the weights have.
    """
    from matplotlib.figure import Figure  # only where it is used: it takes a second to load

    looks, taken = _both_ways(attention_weights)
    words = list(map(legible, _words(text_tokens, len(looks))))
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
        ValueError: fewer than 3 embeddings together, which have no neighbours to keep; of two widths, or not finite.
    """
    from matplotlib.figure import Figure

    points = _tsne(_together({"vision": vision_embeds, "text": text_embeds}))
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


def _both_ways(weights: Mapping[str, Tensor]) -> tuple[Float[Tensor, "words patches"], Float[Tensor, "patches words"]]:
    ways = ("text_to_vision", "vision_to_text")
    if missing := [way for way in ways if way not in weights]:
        raise ValueError(f"attention_weights: no {missing[0]!r}, only {list(weights)}; give both ways")
    for way in ways:
        if weights[way].ndim not in (3, 4) or not weights[way].numel():
            shape = list(weights[way].shape)
            raise ValueError(
                f"attention_weights: {way} is {shape}; it must be [b, heads, n, m] or [b, n, m], none of them 0"
            )
    looks, taken = (_first(weights[way]) for way in ways)
    if looks.shape != taken.T.shape:
        shapes = f"{list(looks.shape)} and {list(taken.shape)}"
        raise ValueError(f"attention_weights: {shapes}; [words, patches] and [patches, words] of the same numbers")
    return looks, taken


def _words(told: int | Sequence[str], most: int) -> list[str]:
    """Those that are drawn, at most as many as the weights have."""
    if isinstance(told, int):
        refuse_small(text_tokens=(told, 1))
        return [f"word {i + 1}" for i in range(min(told, most))]
    if not 1 <= len(told) <= most:
        raise ValueError(
            f"text_tokens: {len(told)} words, but the weights have {most}; name the first of those, at least 1"
        )
    return list(told)


def _first(weights: Tensor) -> Float[Tensor, "n m"]:
    """The first row of the batch, the mean of its heads."""
    row = weights[0].detach().float().cpu()
    return row.mean(dim=0) if row.ndim == 3 else row


def _grid(patches: int, told: int | tuple[int, int]) -> tuple[int, int]:
    if isinstance(told, tuple):
        rows, columns = told
    else:
        refuse_small(vision_patches=(told, 1))
        columns = isqrt(patches) if isqrt(patches) ** 2 == patches else told
        rows = patches // columns
    if rows * columns != patches:
        raise ValueError(
            f"vision_patches: {patches} patches do not tile {rows} x {columns}; give the grid as (rows, columns)"
        )
    return rows, columns


def _together(embeddings: Mapping[str, Float[Tensor, "n d"]]) -> Float[Tensor, "m d"]:
    """All rows, one modality after the other, once it is known that they can be drawn in one map."""
    each = {name: torch.as_tensor(rows).detach().float().cpu() for name, rows in embeddings.items()}
    shapes = {name: list(rows.shape) for name, rows in each.items()}
    if any(rows.ndim != 2 for rows in each.values()) or len({rows.shape[1] for rows in each.values()}) > 1:
        raise ValueError(f"embeddings: their shapes are {shapes}; they must be [n, d], all of one width d")
    if (count := sum(map(len, each.values()))) < 3:
        raise ValueError(f"embeddings: {count} are too few to draw; at least 3")
    for name, rows in each.items():
        if broken := int((~rows.isfinite()).any(dim=1).sum()):
            raise ValueError(f"embeddings: {broken} of {len(rows)} rows of {name!r} are not finite; leave them out")
    return torch.cat(list(each.values()))


def _umap(points: Float[Tensor, "n d"]) -> Float[Tensor, "n 2"]:
    try:
        from umap import UMAP  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError("UMAP needs umap-learn; pip install 'plait[umap]'") from error
    umap: Any = UMAP(n_neighbors=min(15, len(points) - 1), init="random", random_state=42, n_jobs=1)
    return torch.from_numpy(umap.fit_transform(points.numpy()))


def _tsne(points: Float[Tensor, "n d"]) -> Float[Tensor, "n 2"]:
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise ValueError("t-SNE needs scikit-learn; pip install 'plait[plots]'") from error
    # the usual perplexity, which is a number of neighbours, as far as there are so many
    tsne = TSNE(perplexity=min(30.0, (len(points) - 1) / 3), init="random", random_state=42)
    return torch.from_numpy(tsne.fit_transform(points.numpy()))


PROJECTED_BY = {"t-SNE": _tsne, "UMAP": _umap}
