import io
import warnings
from importlib.util import find_spec

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image

from plait.diagnose.overlay import overlaid
from plait.diagnose.plots import ACROSS, attention_overlay, embedding_map
from plait.diagnose.style import webp
from plait.evaluate.lettering import legible

WORDS = ["pick", "up", "the", "red", "ball", "from", "there"]


def test_the_overlay_shows_each_map_under_its_word() -> None:
    pictures = {camera: np.full((32, size, 3), 200, np.uint8) for camera, size in (("front", 32), ("wrist", 48))}
    maps = {"front": torch.rand(7, 4, 4), "wrist": torch.rand(7, 3, 5)}
    figure = attention_overlay(pictures, maps, WORDS)
    shown = {(axes.get_title(), axes.images[0].get_array().shape) for axes in figure.axes}
    assert ("front", (32, 32, 3)) in shown and ("red", (32, 48, 3)) in shown
    assert len(figure.axes) == 2 * (1 + len(WORDS)) > ACROSS
    assert np.array_equal(figure.axes[4].images[0].get_array(), overlaid(pictures["front"], maps["front"], 32)[3])


def test_each_word_needs_its_map() -> None:
    with pytest.raises(ValueError, match="2 of camera 'front' for 7 words"):
        attention_overlay({"front": np.zeros((8, 8, 3), np.uint8)}, {"front": torch.rand(2, 4, 4)}, WORDS)


def test_nothing_of_a_figure_is_cut_and_its_ground_is_the_pages() -> None:
    figure = attention_overlay({"front": np.zeros((8, 8, 3), np.uint8)}, {"front": torch.rand(7, 4, 4)}, WORDS)
    with Image.open(io.BytesIO(webp(figure))) as image:
        opaque = np.asarray(image.convert("RGBA"))[..., 3] > 0
    assert not opaque[[0, -1]].any() and not opaque[:, [0, -1]].any()
    assert opaque.any()
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
    assert apart > places[0].std(), "what lies apart is drawn apart"
    assert left.get_xlabel() == "t-SNE 1"


@pytest.mark.skipif(find_spec("umap") is not None, reason="umap-learn is installed")
def test_without_umap_it_says_what_to_install() -> None:
    with pytest.raises(ValueError, match=r"pip install 'plait\[umap\]'"):
        embedding_map({"front": torch.randn(8, 4)}, ["a"] * 8, "UMAP")


@pytest.mark.skipif(find_spec("umap") is None, reason="umap-learn is not installed")
def test_umap() -> None:
    assert embedding_map({"front": torch.randn(8, 4)}, ["a"] * 8, "UMAP").axes[0].get_xlabel() == "UMAP 1"


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
