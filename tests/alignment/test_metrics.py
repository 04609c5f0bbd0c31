"""Each number against what it must be in a case that can be worked out by hand, or against its definition."""

import json
from collections.abc import Callable
from math import exp, inf, log, sqrt
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.linalg import svdvals
from scipy.spatial.distance import euclidean, pdist
from scipy.stats import entropy, rankdata
from sklearn.metrics import top_k_accuracy_score
from sklearn.metrics.pairwise import cosine_similarity, linear_kernel, paired_distances
from sklearn.preprocessing import KernelCenterer, StandardScaler
from sklearn.preprocessing import normalize as unit
from torch import Tensor

from plait.alignment import metrics as module
from plait.alignment.metrics import (
    alignment,
    compute_alignment_metrics,
    effective_rank,
    linear_cka,
    measure_modality_gap,
    uniformity,
)

Measure = Callable[[Tensor, Tensor], dict[str, float]]
EYE = torch.eye(6)
WORST = {"r1": 0, "r5": 0, "r10": 1, "median_rank": 6}  # of six


def noise(n: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def rotation(width: int) -> Tensor:
    return torch.linalg.qr(noise(width, width, seed=9))[0]


def test_pairs_that_are_the_same_and_orthogonal_to_others() -> None:
    found = compute_alignment_metrics(EYE, 3 * EYE)
    expected = {"matched_similarity": 1, "mean_similarity": 1 / 6, "retrieval_acc": 1, "alignment": 0, "cka": 1}
    expected |= {"uniformity_vision": -4, "uniformity_text": -4}  # every two rows are sqrt(2) apart
    expected |= {"effective_rank_vision": 5, "effective_rank_text": 5}  # of six, one is their mean
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert json.loads(json.dumps(found)) == found


def test_pairs_that_are_opposed_and_pairs_that_are_mixed_up() -> None:
    expected = {"matched_similarity": -1, "mean_similarity": -1 / 6, "retrieval_acc": 0, "alignment": 4}
    expected |= {f"{way}_{key}": WORST[key] for way in ("vision_to_text", "text_to_vision") for key in WORST}
    assert compute_alignment_metrics(EYE, -EYE) == pytest.approx(compute_alignment_metrics(EYE, EYE) | expected)
    found = compute_alignment_metrics(EYE, EYE.roll(1, dims=0))
    assert found["matched_similarity"] == 0 and found["mean_similarity"] == pytest.approx(1 / 6)
    assert found["retrieval_acc"] == 0 and found["alignment"] == 2


@pytest.mark.parametrize("function", [compute_alignment_metrics, measure_modality_gap])
def test_length_of_embeddings_and_rotations_of_both_do_not_matter(function: Measure) -> None:
    vision, text = noise(30, 8), noise(30, 8) + noise(30, 8, seed=1)
    lengths = noise(30, 1).abs() + 0.1
    expected = function(vision, text)
    assert function(lengths * vision @ rotation(8), lengths.flip(0) * text @ rotation(8)) == pytest.approx(
        expected, rel=1e-4
    )


def test_alignment_and_uniformity_are_those_of_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    """Written as in Wang & Isola's figure 5."""
    monkeypatch.setattr(module, "CHUNK", 7)
    x, y = noise(30, 8), noise(30, 8, seed=1)
    a, b = (each / each.norm(dim=1, keepdim=True) for each in (x.double(), y.double()))
    assert alignment(x, y) == pytest.approx((a - b).norm(p=2, dim=1).pow(2).mean().item())
    assert uniformity(x) == pytest.approx(torch.pdist(a, p=2).pow(2).mul(-2).exp().mean().log().item())
    assert uniformity(torch.ones(5, 3)) == pytest.approx(0)
    assert uniformity(torch.tensor([[1.0, 0], [-1, 0]])) == pytest.approx(-8)
    assert uniformity(noise(500, 512)) == pytest.approx(-4, abs=0.02)


@pytest.mark.parametrize("k", [1, 5, 10])
def test_retrieval_is_that_of_scikit_learn(k: int) -> None:
    """Where only the other half of a pair is right, recall at k is the top-k accuracy of n classes."""
    vision, text = noise(60, 8), noise(60, 8) + noise(60, 8, seed=1)
    found = compute_alignment_metrics(vision, text)
    similarity, pairs = cosine_similarity(vision.double(), text.double()), np.arange(60)
    for way, scores in (("vision_to_text", similarity), ("text_to_vision", similarity.T)):
        expected = top_k_accuracy_score(pairs, scores, k=k, labels=pairs)
        assert 0 < expected < 1 and found[f"{way}_r{k}"] == pytest.approx(expected)
        places = rankdata(-scores, axis=1)[pairs, pairs]
        assert found[f"{way}_median_rank"] == pytest.approx(np.median(places))


def test_similarities_and_spreads_are_those_of_scikit_learn_and_scipy() -> None:
    x, y = noise(40, 8) + 1, noise(40, 8) + noise(40, 8, seed=1)
    similarity = cosine_similarity(x.double(), y.double())
    vision, text = unit(x.double()), unit(y.double())
    found = compute_alignment_metrics(x, y) | measure_modality_gap(x, y)
    expected = {
        "matched_similarity": np.diag(similarity).mean(),
        "mean_similarity": similarity.mean(),
        "alignment": np.mean(paired_distances(vision, text) ** 2),
        "uniformity_vision": np.log(np.mean(np.exp(-2 * pdist(vision, "sqeuclidean")))),
        "uniformity_text": np.log(np.mean(np.exp(-2 * pdist(text, "sqeuclidean")))),
        "cka": cka_of_scikit_learn(vision, text),
        "effective_rank_vision": rank_of_scipy(vision - vision.mean(axis=0)),
        "effective_rank_text": rank_of_scipy(text - text.mean(axis=0)),
        "modality_gap": euclidean(vision.mean(axis=0), text.mean(axis=0)),
        "vision_variance": StandardScaler().fit(vision).var_.sum(),
        "text_variance": StandardScaler().fit(text).var_.sum(),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def cka_of_scikit_learn(x: np.ndarray, y: np.ndarray) -> float:
    k, m = (KernelCenterer().fit_transform(linear_kernel(each)).reshape(1, -1) for each in (x, y))
    return cosine_similarity(k, m).item()


def rank_of_scipy(x: np.ndarray) -> float:
    return np.exp(entropy(svdvals(x)))


def cka_by_definition(x: Tensor, y: Tensor) -> float:
    n = len(x)
    centre = torch.eye(n, dtype=torch.float64) - 1 / n
    k, m = (centre @ each.double() @ each.double().T @ centre for each in (x, y))
    return ((k * m).sum() / (k.norm() * m.norm())).item()


def hsic_unbiased(k: Tensor, m: Tensor) -> Tensor:
    """Song et al. 2012, equation 5."""
    n = len(k)
    k, m = k - k.diag().diag(), m - m.diag().diag()
    ones = torch.ones(n, dtype=torch.float64)
    rest = (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (ones @ k @ m @ ones)
    return ((k @ m).trace() + rest) / (n * (n - 3))


def test_cka_is_that_of_its_definition() -> None:
    x, y = noise(20, 6) + 2, noise(20, 6) @ noise(6, 9, seed=1) + noise(20, 9, seed=2)
    assert linear_cka(x, y) == pytest.approx(cka_by_definition(x, y))
    k, m = (each.double() @ each.double().T for each in (x, y))
    expected = hsic_unbiased(k, m) / (hsic_unbiased(k, k) * hsic_unbiased(m, m)).sqrt()
    assert linear_cka(x, y, debiased=True) == pytest.approx(expected.item())


@pytest.mark.parametrize("debiased", [False, True])
def test_cka_sees_through_rotation_scale_and_shift(debiased: bool) -> None:
    x = noise(40, 6)
    assert linear_cka(x, 5 * x @ rotation(6) + 3, debiased) == pytest.approx(1)
    assert linear_cka(x, torch.ones(40, 3), debiased) == 0


def test_cka_of_noise_is_nothing_only_when_debiased() -> None:
    x, y = noise(50, 500), noise(50, 500, seed=1)
    assert linear_cka(x, y) > 0.8 and abs(linear_cka(x, y, debiased=True)) < 0.02
    with pytest.raises(ValueError, match="linear_cka: 3 rows; debiased, it needs at least 4"):
        linear_cka(x[:3], y[:3], debiased=True)


def test_effective_rank_is_that_of_its_definition() -> None:
    assert effective_rank(torch.outer(torch.arange(1.0, 6), torch.arange(1.0, 4))) == pytest.approx(1)
    shares = [0.5, 0.25, 0.25]
    entropy = -sum(share * log(share) for share in shares)
    matrix = rotation(7)[:, :3] @ torch.diag(torch.tensor(shares)) @ rotation(3)
    assert effective_rank(9 * matrix) == pytest.approx(exp(entropy), rel=1e-5)
    assert effective_rank(torch.zeros(4, 3)) == 0


def test_the_gap_is_a_length_over_a_length() -> None:
    """Both on circles of radius r around poles of the sphere; height h above the equator's plane."""
    around = torch.arange(12) * torch.pi / 6
    for height in (0.8, 0.6):
        radius = sqrt(1 - height**2)
        circle = torch.stack([radius * around.cos(), radius * around.sin(), torch.full((12,), height)], dim=1)
        found = measure_modality_gap(circle, circle * torch.tensor([1.0, 1.0, -1.0]))
        expected = {"modality_gap": 2 * height, "vision_variance": radius**2, "text_variance": radius**2}
        assert found == pytest.approx(expected | {"gap_to_variance_ratio": 2 * height / radius}, rel=1e-5)


def test_the_ratio_does_not_depend_on_the_width() -> None:
    """Coordinates that are repeated are a rotation of longer vectors, which have unit length again."""
    vision, text = noise(30, 8) + 1, noise(30, 8, seed=1)
    wide = measure_modality_gap(vision.repeat(1, 16), text.repeat(1, 16))
    assert wide == pytest.approx(measure_modality_gap(vision, text))


def test_no_gap_and_nothing_but_gap() -> None:
    x = noise(20, 5)
    assert measure_modality_gap(x, x.flip(0))["gap_to_variance_ratio"] == pytest.approx(0, abs=1e-12)
    chance = measure_modality_gap(noise(400, 64), noise(400, 64, seed=1))["gap_to_variance_ratio"]
    assert chance == pytest.approx(sqrt(2 / 400), rel=0.2)
    up, aside = torch.tensor([[0.3, 0.4]]).repeat(9, 1), torch.tensor([[1.0, 0.0]]).repeat(9, 1)
    assert measure_modality_gap(up, up) == dict.fromkeys(measure_modality_gap(up, up), 0)
    assert measure_modality_gap(up, aside)["gap_to_variance_ratio"] == inf


def test_collapsed_embeddings_are_seen() -> None:
    found = SimpleNamespace(**compute_alignment_metrics(torch.ones(30, 4), noise(30, 4)))
    assert found.effective_rank_vision == 0 and found.uniformity_vision == pytest.approx(0) and found.cka == 0
    assert found.vision_to_text_r1 == pytest.approx(1 / 30) and found.text_to_vision_r1 == 0


@pytest.mark.parametrize("function", [compute_alignment_metrics, measure_modality_gap])
def test_what_cannot_be_compared_is_refused(function: Measure) -> None:
    broken = EYE.clone()
    broken[2, 3], broken[4, 0] = torch.nan, torch.inf
    with pytest.raises(ValueError, match="text_embeds: 2 of 6 rows are not finite; look for what made them so"):
        function(EYE, broken)
    for vision, text in ((EYE, EYE[:5]), (EYE, EYE[:, :5]), (EYE[:1], EYE[:1]), (EYE[0], EYE[0])):
        with pytest.raises(ValueError, match=r"embeddings of shape .*: both must be \[n, d\], the same, with at least"):
            function(vision, text)


@pytest.mark.parametrize("function", [compute_alignment_metrics, measure_modality_gap])
def test_rows_without_a_direction_are_refused(function: Measure) -> None:
    some = EYE.clone()
    some[:2] = 0
    for vision, count in ((torch.zeros_like(EYE), 6), (some, 2)):
        with pytest.raises(ValueError, match=f"vision_embeds: {count} of 6 rows are zero, .*; leave them out"):
            function(vision, EYE)
