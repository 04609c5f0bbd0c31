import io
import sys
import warnings
from importlib.util import find_spec

import jaxtyping
import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image

from plait.diagnose.overlay import overlaid
from plait.diagnose.plots import (
    ACROSS,
    attention_overlay,
    embedding_map,
    plot_modality_embeddings,
    visualize_cross_attention,
)
from plait.diagnose.style import webp
from plait.evaluate.lettering import legible

PICTURE = np.full((48, 64, 3), 200, np.uint8)
SEEN, READ = {"text_to_vision": torch.rand(1, 5, 12)}, {"vision_to_text": torch.rand(1, 12, 5)}
WORDS = ["pick", "up", "the", "red", "ball", "from", "there"]


def cut(picture: bytes) -> bool:
    """Whether something reaches the edge of a picture that has no ground."""
    with Image.open(io.BytesIO(picture)) as image:
        opaque = np.asarray(image.convert("RGBA"))[..., 3] > 0
    assert opaque.any()
    return bool(opaque[[0, -1]].any() or opaque[:, [0, -1]].any())


def test_the_overlay_shows_each_map_under_its_word() -> None:
    pictures = {camera: np.full((32, size, 3), 200, np.uint8) for camera, size in (("front", 32), ("wrist", 48))}
    maps = {"front": torch.rand(7, 4, 4), "wrist": torch.rand(7, 3, 5)}
    figure = attention_overlay(pictures, maps, WORDS)
    shown = {(axes.get_title(), axes.images[0].get_array().shape) for axes in figure.axes}
    assert ("front", (32, 32, 3)) in shown and ("red", (32, 48, 3)) in shown
    assert len(figure.axes) == 2 * (1 + len(WORDS)) > ACROSS
    assert np.array_equal(figure.axes[4].images[0].get_array(), overlaid(pictures["front"], maps["front"], 32)[3])


SENTENCES = [
    "Bypass a wall and press a button from the top",
    "Grasp the puck from one bin and place it into another bin",
    "Push the puck to a goal",
    *(f"Pick up a nut and place it onto a peg, then do thing {i} as nobody did before" for i in range(9)),
]


KOREAN = ["빨간 공을 집어 파란 상자 안에 넣어줘", "노란 원기둥을 초록 정육면체 왼쪽에 놓아줘", "파란 공을 밀어줘"]


@pytest.mark.parametrize(
    "labels",
    [["a", "b"], ["the red ball", "the blue cube", "the green cone"], SENTENCES, KOREAN, ["", "_b"], ["M" * 90]],
)
def test_however_long_the_labels_are_both_maps_have_their_place(labels: list[str]) -> None:
    embeddings = {name: torch.randn(48, 8) for name in ("the corner2 camera", "the words")}
    figure = embedding_map(embeddings, (labels * 48)[:48])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of axes that have no place left
        picture = webp(figure)
    for axes in figure.axes:
        place = axes.get_position()
        assert len(axes.get_legend().get_texts()) == len(axes.collections)
        assert place.width > 0.4 and place.height * figure.get_figheight() > 2.5
    assert not cut(picture)


def test_each_word_needs_its_map() -> None:
    with pytest.raises(ValueError, match="2 of camera 'front' for 7 words"):
        attention_overlay({"front": np.zeros((8, 8, 3), np.uint8)}, {"front": torch.rand(2, 4, 4)}, WORDS)


def test_nothing_of_a_figure_is_cut_and_its_ground_is_the_pages() -> None:
    figure = attention_overlay({"front": np.zeros((8, 8, 3), np.uint8)}, {"front": torch.rand(7, 4, 4)}, WORDS)
    assert not cut(webp(figure))
    assert mpl.rcParams["figure.facecolor"] == "white", "the style is nobody else's"


def test_embeddings_are_coloured_by_modality_and_by_label() -> None:
    generator = torch.Generator().manual_seed(0)
    embeddings = {name: torch.randn(24, 8, generator=generator) + 9 * i for i, name in enumerate(("front", "words"))}
    labels = [f"object {i % 12}" for i in range(24)]
    left, right = embedding_map(embeddings, labels).axes
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["front", "words"]
    assert "others" in [text.get_text() for text in right.get_legend().get_texts()], "more labels than colours"
    places = [collection.get_offsets() for collection in left.collections]
    assert [len(points) for points in places] == [24, 24]
    assert sum(len(collection.get_offsets()) for collection in right.collections) == 48
    apart = np.linalg.norm(places[0].mean(axis=0) - places[1].mean(axis=0))
    assert apart > places[0].std(axis=0).max(), "what lies apart is drawn apart"
    assert left.get_xlabel() == "t-SNE 1"


def test_without_umap_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ValueError, match=r"pip install 'plait\[umap\]'"):
        embedding_map({"front": torch.randn(8, 4)}, ["a"] * 8, "UMAP")


@pytest.mark.skipif(find_spec("umap") is None, reason="umap-learn is not installed; pip install 'plait[umap]'")
@pytest.mark.parametrize("count", [2, 40])
def test_umap_draws_apart_what_lies_apart_and_the_same_each_time(count: int) -> None:
    embeddings = {"front": torch.randn(count, 8), "words": torch.randn(count, 8) + 20}
    figures = [embedding_map(embeddings, ["a"] * count, "UMAP") for _ in range(2)]
    (front, words), again = ([each.get_offsets() for each in figure.axes[0].collections] for figure in figures)
    assert np.array_equal(front, again[0]) and np.isfinite(words).all()
    assert figures[0].axes[0].get_xlabel() == "UMAP 1"
    if count > 2:  # fewer are all neighbours
        apart = np.linalg.norm(front.mean(axis=0) - words.mean(axis=0))
        assert apart > 2 * max(front.std(axis=0).max(), words.std(axis=0).max())


def test_too_few_to_draw() -> None:
    with pytest.raises(ValueError, match="at least 3"):
        embedding_map({"front": torch.randn(1, 4), "words": torch.randn(1, 4)}, ["a"])


def test_korean_words_and_labels_are_drawn_without_boxes() -> None:
    picture = {"front": np.zeros((8, 8, 3), np.uint8)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of each letter that its font lacks
        overlay = attention_overlay(picture, {"front": torch.rand(2, 4, 4)}, ["빨간", "공을"])
        overlay.canvas.draw()
        embedding_map({"front": torch.randn(8, 4)}, ["빨간", "ball"] * 4).canvas.draw()
    assert [axes.get_title() for axes in overlay.axes] == ["front", legible("빨간"), legible("공을")]


def test_more_modalities_than_colours_are_all_drawn_and_told_apart() -> None:
    embeddings = {f"camera {i}": torch.randn(5, 4) for i in range(14)}
    left, right = embedding_map(embeddings, ["a", "b", "c", "d", "e"]).axes
    assert sum(len(each.get_offsets()) for each in left.collections) == 70
    assert {text.get_text() for text in left.get_legend().get_texts()} == set(embeddings)
    looks = {(each.get_facecolor().tobytes(), each.get_paths()[0].vertices.tobytes()) for each in left.collections}
    assert len(looks) == 14
    assert sum(len(each.get_offsets()) for each in right.collections) == 70


@pytest.fixture
def untyped(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is for users: these tests check annotations, a program does not."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.parametrize(
    ("pictures", "maps", "message"),
    [
        ({}, {}, "pictures: there is none to draw; give that of at least one camera"),
        (
            {"front": PICTURE, "wrist": PICTURE},
            {"front": torch.rand(7, 6, 8)},
            r"maps: none of camera 'wrist', only of \[",
        ),
        (
            {"front": PICTURE / 255},
            {"front": torch.rand(7, 6, 8)},
            r"'front' is float64 \[48, 64, 3\]; give RGB as uint8",
        ),
        ({"front": PICTURE[..., 0]}, {"front": torch.rand(7, 6, 8)}, r"'front' is uint8 \[48, 64\]; give RGB as uint8"),
        (
            {"front": PICTURE},
            {"front": torch.rand(6, 8)},
            r"maps: \[6, 8\] of camera 'front' for 7 words; one for each",
        ),
        (
            {"front": PICTURE},
            {"front": torch.full((7, 6, 8), torch.nan)},
            "'front' go from nan to nan; finite, at least",
        ),
        ({"front": PICTURE}, {"front": torch.full((7, 6, 8), -1.0)}, "'front' go from -1 to -1; finite, at least 0"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_what_no_overlay_can_show_is_told(pictures: dict, maps: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attention_overlay(pictures, maps, WORDS)


@pytest.mark.parametrize(
    ("embeddings", "projection", "message"),
    [
        ({"front": torch.randn(5, 4)}, "t-SNE", "labels: 8 for 5 embeddings of 'front'; one for each row"),
        ({"front": torch.randn(8, 4), "words": torch.randn(9, 4)}, "t-SNE", "labels: 8 for 9 embeddings of 'words'"),
        (
            {"front": torch.randn(8, 4), "words": torch.randn(8, 3)},
            "t-SNE",
            r"\{'front': \[8, 4\], 'words': \[8, 3\]\}",
        ),
        ({"front": torch.randn(8)}, "t-SNE", r"their shapes are \{'front': \[8\]\}; they must be \[n, d\], all of one"),
        ({"front": torch.full((8, 4), torch.nan)}, "t-SNE", "8 of 8 rows of 'front' are not finite; leave them out"),
        ({}, "t-SNE", "embeddings: 0 are too few to draw; at least 3"),
        ({"front": torch.randn(8, 4)}, "t-sne", r"no projection 't-sne'; choose one of \['UMAP', 't-SNE'\]"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_what_no_map_can_show_is_told(embeddings: dict, projection: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        embedding_map(embeddings, ["a"] * 8, projection)  # pyright: ignore[reportArgumentType]


def test_two_widths_have_no_common_map() -> None:
    with pytest.raises(
        ValueError, match=r"\{'vision': \[8, 4\], 'text': \[8, 3\]\}; they must be \[n, d\], all of one"
    ):
        plot_modality_embeddings.__wrapped__(torch.randn(8, 4), torch.randn(8, 3))  # pyright: ignore


@pytest.mark.parametrize(
    ("weights", "grid", "words", "message"),
    [
        (SEEN, (3, 4), 5, r"no 'vision_to_text', only \['text_to_vision'\]; give both ways"),
        (
            SEEN | {"vision_to_text": torch.rand(12, 5)},
            (3, 4),
            5,
            r"vision_to_text is \[12, 5\]; it must be \[b, heads",
        ),
        (
            SEEN | {"vision_to_text": torch.rand(1, 12, 4)},
            (3, 4),
            5,
            r"\[5, 12\] and \[12, 4\]; \[words, patches\] and",
        ),
        (SEEN | READ, (3, 4), WORDS, "text_tokens: 7 words, but the weights have 5; name the first of those"),
        (SEEN | READ, (3, 4), 0, "text_tokens: 0 is too small; at least 1"),
        (SEEN | READ, 0, 5, "vision_patches: 0 is too small; at least 1"),
    ],
)
def test_what_no_picture_of_attention_can_show_is_told(
    weights: dict, grid: object, words: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        visualize_cross_attention(weights, grid, words)  # pyright: ignore[reportArgumentType]
