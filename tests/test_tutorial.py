"""The tutorial's names: each does what it promises, and what such models often get wrong is right."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from capture import capture, exported
from plait import tutorial
from plait.evaluate.lettering import legible
from plait.tutorial import (
    ContextAwareMultiModal,
    ContrastiveMultiModal,
    CrossModalAttention,
    EarlyFusion,
    HierarchicalMultiModal,
    LateFusion,
    MultiModalTransformer,
    SimpleMultiModalVLA,
    TransformerBlock,
    VLAMultiModal,
    compute_alignment_metrics,
    measure_modality_gap,
    plot_modality_embeddings,
    train_multimodal_vla,
    visualize_cross_attention,
)
from plait.types import flags
from policies import TEXT_MODEL

VISION, TEXT = torch.randn(2, 49, 768), torch.randn(2, 6, 768)
IMAGES, IDS = torch.randn(2, 3, 64, 64), torch.tensor([[5, 8, 2, 9, 3, 4], [5, 8, 0, 0, 0, 0]])
MASK = IDS != 0
BATCH = {"image": VISION, "instruction": TEXT, "action": torch.zeros(2, 7)}


@pytest.fixture(scope="module")
def simple() -> SimpleMultiModalVLA:
    torch.manual_seed(0)
    return SimpleMultiModalVLA("resnet10t").eval()


class Pooled(nn.Linear):
    output_dim = 8


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[Any, ...]]] = {
    "early": (EarlyFusion, (VISION[:, 0], TEXT[:, 0])),
    "late": (LateFusion, (VISION[:, 0], TEXT[:, 0])),
    "cross": (CrossModalAttention, (VISION, TEXT)),
    "block": (lambda: TransformerBlock(768, 12), (TEXT,)),
    "transformer": (lambda: MultiModalTransformer(16, n_heads=4, n_layers=2, vocabulary=50), (VISION, IDS)),
    "vla": (VLAMultiModal, (VISION, TEXT)),
    "narrow vla": (lambda: VLAMultiModal(language_dim=5), (VISION, TEXT[..., :5])),
    "context": (ContextAwareMultiModal, (VISION[:, 0], TEXT[:, 0])),
    "hierarchical": (lambda: HierarchicalMultiModal(grid=(7, 7), words=6), (VISION, TEXT)),
    "contrastive": (lambda: ContrastiveMultiModal(Pooled(768, 8), Pooled(768, 8)), (VISION[:, 0], TEXT[:, 0])),
    "simple": (lambda: SimpleMultiModalVLA("resnet10t"), (IMAGES, IDS)),
}


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_made_that_is_not_used(name: str) -> None:
    build, inputs = MODELS[name]
    model = build().eval()
    if name == "context":  # at the first moment there is nothing to carry on
        inputs = (*inputs, model(*inputs)[1])
    results = model(*inputs)
    tensors = [
        each for each in (results if isinstance(results, tuple) else [results]) if isinstance(each, torch.Tensor)
    ]
    torch.stack([(tensor * torch.randn_like(tensor)).sum() for tensor in tensors]).sum().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    silent = [name for name, p in model.named_parameters() if not p.grad.any()]
    assert all(".backbone." in name for name in silent), "the blocks of a new ResNet begin as the identity"


def test_every_width_has_an_effect() -> None:
    model = VLAMultiModal(vision_dim=5, language_dim=9, action_dim=4)
    assert model(torch.randn(2, 49, 5), torch.randn(2, 6, 9)).shape == (2, 4)
    sizes = [tuple(layer.weight.shape) for layer in VLAMultiModal().head if isinstance(layer, nn.Linear)]
    assert sizes == [(512, 1536), (256, 512), (7, 256)]
    assert SimpleMultiModalVLA("resnet10t", action_dim=3).eval()(IMAGES, IDS).shape == (2, 3)


def test_padding_takes_no_part() -> None:
    model = VLAMultiModal().eval()
    poisoned = torch.where(MASK[..., None], TEXT, torch.nan)
    torch.testing.assert_close(model(VISION, poisoned, text_mask=MASK), model(VISION, TEXT, text_mask=MASK))
    torch.testing.assert_close(model(VISION, TEXT, text_mask=MASK)[1:], model(VISION[1:], TEXT[1:, :2]))
    model.train()(VISION, poisoned, text_mask=MASK).sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


MASKED: dict[str, tuple[Any, ...]] = {
    "cross": (VISION, TEXT, None, MASK),
    "block": (TEXT, MASK),
    "transformer": (VISION, IDS, MASK),
    "vla": (VISION, TEXT, None, MASK),
    "hierarchical": (VISION, TEXT, MASK),
    "simple": (IMAGES, torch.where(MASK, IDS, 7), MASK),
}


@pytest.mark.parametrize("name", MASKED)
def test_the_attention_mask_of_hugging_face_is_one_of_valid_words(name: str) -> None:
    model, (*given, mask) = MODELS[name][0]().eval(), MASKED[name]
    expected = model(*given, mask)
    torch.testing.assert_close(model(*given, mask.long()), expected)
    if hasattr(model, "weights"):
        torch.testing.assert_close(model.weights(*given, mask.long()), model.weights(*given, mask))


def test_a_mask_that_is_added_to_scores_means_the_opposite_and_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mask of torch\.float32: it must be True or 1 where a token is valid"):
        flags(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="mask with -10000: it must be True or 1 where a token is valid"):
        flags(torch.tensor([[0, 0, -10000, -10000]]))
    with pytest.raises(ValueError, match="mask with 2: it must be"):
        VLAMultiModal()(VISION, TEXT, text_mask=2 * MASK.long())


def test_a_mask_of_ones_and_zeros_is_exported() -> None:
    class Flags(nn.Module):
        def forward(self, mask: torch.Tensor) -> torch.Tensor:
            return flags(mask)

    capture(Flags(), (MASK.long(),), (exported,))


def test_words_and_pixels_that_do_not_fit_are_refused(
    simple: SimpleMultiModalVLA, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as it is for users
    with pytest.raises(ValueError, match=r"image of torch\.uint8: give floats, standardised per channel"):
        simple(IMAGES.to(torch.uint8), IDS)
    with pytest.raises(ValueError, match="instruction_ids without words: give at least one column"):
        simple(IMAGES, IDS[:, :0])
    for word in (10_000, -1):
        with pytest.raises(ValueError, match=rf"instruction_ids with {word}: the vocabulary has words 0 to 9999"):
            simple(IMAGES, torch.full((2, 3), word))


def test_a_reset_may_be_of_ones_and_zeros() -> None:
    model, pair = ContextAwareMultiModal(), (VISION[:, 0], TEXT[:, 0])
    _, memory = model(*pair)
    reset = torch.tensor([1, 0])
    torch.testing.assert_close(model(*pair, memory, reset)[0], model(*pair, memory, reset.bool())[0])


@pytest.mark.parametrize("language", ["bert-base", TEXT_MODEL], ids=["lstm", "hugging_face"])
def test_padded_words_take_no_part(language: str) -> None:
    model = SimpleMultiModalVLA("resnet10t", language).eval()
    torch.testing.assert_close(model(IMAGES, IDS)[1:], model(IMAGES[1:], IDS[1:, :2]))
    torch.testing.assert_close(model(IMAGES, torch.where(MASK, IDS, 7), text_mask=MASK), model(IMAGES, IDS))
    assert not torch.allclose(model(IMAGES, torch.where(MASK, IDS, 7)), model(IMAGES, IDS), atol=1e-5)


def test_the_names_choose_the_encoders(simple: SimpleMultiModalVLA) -> None:
    assert simple.language.embedding.num_embeddings == 10_000 and simple.language.lstm.hidden_size == 768
    other = SimpleMultiModalVLA("test_vit", TEXT_MODEL)
    assert type(other.language.model).__name__ == "BertModel" and other.language.model.config.hidden_size == 32
    assert other.vision.shapes[0].dim == 64 and simple.vision.shapes[0].dim == 512
    assert other.eval()(torch.randn(2, 3, 224, 224), IDS).shape == (2, 7)
    with pytest.raises(ValueError, match=r"no timm model 'resnet5O'.*'resnet50"):
        SimpleMultiModalVLA("resnet5O")
    with pytest.raises(ValueError, match="no text model 'no/such/folder'"):
        SimpleMultiModalVLA("resnet10t", "no/such/folder")


def test_a_pretrained_backbone_stays_as_it_is_batch_norm_included(tmp_path: Path) -> None:
    source = timm.create_model("resnet10t", num_classes=0)
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    model = SimpleMultiModalVLA("resnet10t", weights=str(tmp_path / "weights.safetensors"))
    batch = {"image": IMAGES, "instruction": IDS, "action": torch.randn(2, 7)}
    head = model.policy.head[0].weight.clone()
    train_multimodal_vla(model, [batch], epochs=1, device="cpu")
    after = model.vision.backbone.state_dict()
    assert all(torch.equal(after[name], value) for name, value in source.state_dict().items() if name in after)
    assert "bn1.running_mean" in after and not torch.equal(model.policy.head[0].weight, head)


def test_the_weights_are_those_that_were_used_over_real_patches(simple: SimpleMultiModalVLA) -> None:
    used: list[dict[str, torch.Tensor]] = []
    attention = simple.policy.attention
    hook = attention.register_forward_pre_hook(lambda module, inputs: used.append(module.weights(*inputs)))
    simple(IMAGES, IDS)
    hook.remove()
    weights = simple.weights(IMAGES, IDS)
    torch.testing.assert_close(weights, used[0])
    assert weights["text_to_vision"].shape == (2, 8, 6, 4) and weights["text_to_vision"].std(dim=-1).min() > 0
    assert weights["vision_to_text"][1, :, :, 2:].eq(0).all(), "padding is not looked at"


def test_aligned_pairs_are_found_and_lie_together() -> None:
    model = ContrastiveMultiModal(Pooled(768, 8), Pooled(768, 8))
    assert [logits.shape for logits in model(VISION[0], VISION[0])] == [(49, 49)] * 2
    vision, text = model.encode(VISION[0], VISION[0])
    metrics = compute_alignment_metrics(vision, vision)
    assert metrics["matched_similarity"] == pytest.approx(1) and metrics["mean_similarity"] < 0.9
    assert metrics["retrieval_acc"] == 1 > compute_alignment_metrics(vision, text)["retrieval_acc"]
    names = {"modality_gap", "vision_variance", "text_variance", "gap_to_variance_ratio"}
    assert measure_modality_gap(vision, vision).keys() == names and measure_modality_gap(vision, text)["modality_gap"]


def test_training_sets_mode_and_device_and_learns(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    seen: list[tuple[bool, str]] = []

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(768, 7)

        def forward(self, image: torch.Tensor, instruction: torch.Tensor) -> torch.Tensor:
            seen.append((self.training, image.device.type))
            return self.linear(image + instruction)

    model = Model().eval()
    batches = [{"image": VISION[:, 0], "instruction": TEXT[:, 0], "action": torch.ones(2, 7)} for _ in range(3)]
    losses = train_multimodal_vla(model, batches, epochs=4, device="cpu")
    assert seen == [(True, "cpu")] * 12 and not model.training
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0]
    assert re.findall(r"epoch (\d) of 4: loss [\d.]+\n", capsys.readouterr().out) == ["1", "2", "3", "4"]


def test_the_device_is_the_one_that_was_named() -> None:
    class Where(nn.Linear):
        def forward(self, image: torch.Tensor, instruction: torch.Tensor) -> torch.Tensor:
            assert image.device == instruction.device == self.weight.device == torch.device("meta")
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train_multimodal_vla(
            Where(2, 2), [{key: torch.ones(1, 2) for key in ("image", "instruction", "action")}], device="meta"
        )


@pytest.mark.parametrize(("batches", "epoch"), [(list, 1), (lambda: iter([BATCH]), 2)], ids=["empty", "iterator"])
def test_an_epoch_without_batches_is_refused(batches: Callable[[], Any], epoch: int) -> None:
    model = VLAMultiModal()
    with pytest.raises(
        ValueError, match=rf"no batches in epoch {epoch}: give a DataLoader or a list .*not an iterator"
    ):
        train_multimodal_vla(model, batches(), epochs=3, device="cpu")
    assert not model.training


@pytest.mark.parametrize("shape", [(2, 1), (7,), (1, 7)])
def test_actions_are_not_spread_over_the_models(shape: tuple[int, ...]) -> None:
    model = VLAMultiModal()
    with pytest.raises(ValueError, match=rf"action of shape {re.escape(str(shape))}: the model's is \(2, 7\)"):
        train_multimodal_vla(model, [{**BATCH, "action": torch.zeros(shape)}], epochs=1, device="cpu")
    assert not model.training


@pytest.mark.parametrize(
    ("grid", "told"), [((7, 7), 14), ((28, 28), 14), ((15, 20), 20), ((3, 4), (3, 4)), ((1, 1), 1)]
)
@pytest.mark.parametrize("words", [1, 3, 12])
def test_any_grid_and_any_number_of_words_are_drawn(grid: tuple[int, int], told: Any, words: int) -> None:
    patches = grid[0] * grid[1]
    weights = {
        "vision_to_text": torch.rand(2, 8, patches, words),
        "text_to_vision": torch.rand(2, 8, words, patches).softmax(dim=-1),
    }
    figure = visualize_cross_attention(weights, told)
    heatmaps, rest = figure.axes[:-1], figure.axes[-1]
    assert [axes.get_title() for axes in heatmaps] == [f"word {i}" for i in range(1, min(words, 10) + 1)]
    for index, axes in enumerate(heatmaps):
        shown = torch.tensor(axes.images[0].get_array())
        torch.testing.assert_close(shown, weights["text_to_vision"][0, :, index].mean(dim=0).view(grid))
    assert rest.images[0].get_array().shape == (min(words, 10), patches)
    figure.canvas.draw()


def test_words_are_named_and_a_grid_that_does_not_fit_is_refused() -> None:
    weights = {"vision_to_text": torch.rand(1, 12, 3), "text_to_vision": torch.rand(1, 3, 12)}
    named = visualize_cross_attention(weights, (3, 4), ["red", "ball"])
    assert [axes.get_title() for axes in named.axes[:2]] == ["red", "ball"]
    with pytest.raises(ValueError, match="12 patches do not tile 0 x 14; give the grid as"):
        visualize_cross_attention(weights)
    with pytest.raises(ValueError, match="12 patches do not tile 3 x 5"):
        visualize_cross_attention(weights, (3, 5))


def test_korean_words_are_drawn_without_boxes() -> None:
    weights = {"vision_to_text": torch.rand(1, 4, 3), "text_to_vision": torch.rand(1, 3, 4)}
    words = ["빨간", "공을", "pick"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of each letter that its font lacks
        figure = visualize_cross_attention(weights, text_tokens=words)
        figure.canvas.draw()
    *maps, rest = figure.axes
    shown = [legible(word) for word in words]
    assert [axes.get_title() for axes in maps] == [label.get_text() for label in rest.get_yticklabels()] == shown


def test_the_loss_takes_both_logits_as_a_pair_or_as_two() -> None:
    model = ContrastiveMultiModal(Pooled(768, 8), Pooled(768, 8))
    both = model(VISION[:, 0], TEXT[:, 0])
    assert torch.equal(model.compute_loss(both), model.compute_loss(*both))


@pytest.mark.parametrize(("vision", "text"), [(1, 2), (4, 4), (12, 3), (20, 20)])
def test_t_sne_works_with_few_points(vision: int, text: int) -> None:
    embeddings = torch.randn(vision, 8), torch.randn(text, 8) + 3
    axes = plot_modality_embeddings(*embeddings).axes[0]
    assert [len(dots.get_offsets()) for dots in axes.collections] == [vision, text]
    assert all(torch.tensor(dots.get_offsets()).isfinite().all() for dots in axes.collections)
    again = plot_modality_embeddings(*embeddings).axes[0]
    assert (again.collections[0].get_offsets() == axes.collections[0].get_offsets()).all(), "the seed is fixed"


def test_two_points_have_no_neighbourhood() -> None:
    with pytest.raises(ValueError, match="2 are too few to draw; at least 3"):
        plot_modality_embeddings(torch.randn(1, 8), torch.randn(1, 8))


def test_nothing_deprecated_is_used(simple: SimpleMultiModalVLA) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SimpleMultiModalVLA("resnet10t")
        visualize_cross_attention(simple.weights(IMAGES, IDS)).canvas.draw()
        plot_modality_embeddings(torch.randn(4, 8), torch.randn(4, 8)).canvas.draw()


def test_the_file_is_short() -> None:
    assert len(Path(tutorial.__file__ or "").read_text(encoding="utf-8").splitlines()) <= 200
