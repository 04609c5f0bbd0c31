"""Any vision encoder with any language encoder; each text is right for every picture that it is true of."""

import pytest
import torch
from torch import Tensor

from plait.alignment.aligner import AlignConfig, Aligner, PairBatch
from plait.config import from_dict, to_dict
from plait.encoders.tokenizer import Tokenizer
from policies import SINGLE, random_observation

TEXTS = ["the red ball left of the cube", "the cube behind the ball", "the red ball left of the cube", "a cube"]
TRUE = torch.tensor([[0, 1, -1], [1, 5, -1], [0, 2, 4], [2, 4, -1]])  # of each picture; 4 and 5 are told of none
MATCHES = torch.tensor([[1, 1, 1, 0], [0, 1, 0, 0], [1, 0, 1, 1], [0, 0, 0, 1]]).bool()
PARTS = {name: parts for name, parts in SINGLE.items() if name.startswith(("vision=", "language="))}


def small(**config: object) -> Aligner:
    torch.manual_seed(0)
    size = 64 if "timm" in str(config.get("vision", "")).lower() else 32
    return AlignConfig(**({"image_size": size, "stages": (16,), "embed_dim": 8} | config)).build(Tokenizer.build(TEXTS))  # pyright: ignore


def batch(aligner: Aligner) -> PairBatch:
    images = random_observation(4, size=aligner.config.image_size).images["front"]
    words, mask = aligner.tokenizer.encode(TEXTS)
    return PairBatch(images, words, mask, torch.tensor([0, 1, 0, 2]), TRUE)


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_every_encoder_learns(parts: dict) -> None:
    aligner = small(**parts)
    aligner.loss(batch(aligner))["loss"].backward()
    for name, parameter in aligner.named_parameters():
        if parameter.requires_grad and "cls_token" not in name:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    for tower in (aligner.vision_encoder, aligner.text_encoder):
        learned = [p for p in tower.encoder.parameters() if p.requires_grad]
        assert not learned or any(p.grad.abs().sum() > 0 for p in learned)
    assert from_dict(AlignConfig, to_dict(aligner.config)) == aligner.config


def test_embeddings_are_what_is_trained() -> None:
    aligner = small().eval()
    given = batch(aligner)
    vision, text = aligner.encode(given.images, (given.words, given.word_mask))
    torch.testing.assert_close(aligner.embed_images(given.images), vision.detach())
    torch.testing.assert_close(aligner.embed_texts(TEXTS), text.detach())


def soft_targets(aligner: Aligner, given: PairBatch) -> Tensor:
    """Cross-entropy to targets that are shared evenly among the right answers, both ways, written out."""
    logits, _ = aligner(given.images, (given.words, given.word_mask))
    ways = (logits, MATCHES.float()), (logits.T, MATCHES.T.float())
    return sum(-(t / t.sum(1, keepdim=True) * s.log_softmax(dim=1)).sum(dim=1).mean() for s, t in ways) / 2  # pyright: ignore


def all_right(aligner: Aligner, given: PairBatch) -> Tensor:
    """SigLIP's loss, written out, where a text is right for every picture that it is true of."""
    logits, _ = aligner(given.images, (given.words, given.word_mask))
    return -(torch.where(MATCHES, 1.0, -1.0) * logits).sigmoid().log().sum() / len(given)


@pytest.mark.parametrize(("objective", "expected"), [("infonce", soft_targets), ("sigmoid", all_right)])
def test_every_text_is_right_for_each_picture_that_it_is_true_of(objective: str, expected: object) -> None:
    aligner = small(objective=objective, temperature=0.5)
    given = batch(aligner)
    losses = aligner.loss(given)["loss"], expected(aligner, given)  # pyright: ignore
    torch.testing.assert_close(*losses)
    mine, theirs = (torch.autograd.grad(loss, list(aligner.parameters())) for loss in losses)
    assert sum(each.abs().sum() for each in theirs) > 1
    torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("image_size", 4, "4 is too small; at least 8"),
        ("embed_dim", 0, "0 is too small; at least 1"),
        ("stages", (24, 0), "0 is too small; at least 1"),
        ("temperature", float("nan"), "nan is not finite; at least 0.01"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(field: str, value: int, message: str) -> None:
    with pytest.raises(ValueError, match=rf"align\.{field}: {message}"):
        AlignConfig(**{field: value})  # pyright: ignore
