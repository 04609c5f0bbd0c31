import numpy as np

from plait.data import statistics


def test_folding_episodes_gives_the_moments_of_everything():
    rng = np.random.default_rng(0)
    parts = [rng.normal(i, 1 + i, (n, 3)) for i, n in enumerate((5, 40, 17))]
    total = None
    for part in parts:
        total = statistics.fold(total, statistics.of_vectors(part))
    whole = statistics.of_vectors(np.concatenate(parts))
    assert total is not None
    for name in ("min", "max", "mean", "std", "count"):
        np.testing.assert_allclose(total[name], whole[name], rtol=1e-9)
    assert (total["q01"] < total["q50"]).all() and (total["q50"] < total["q99"]).all()


def test_vectors_against_numpy():
    values = np.random.default_rng(1).normal(size=(200, 2))
    stats = statistics.of_vectors(values)
    np.testing.assert_allclose(stats["q10"], np.quantile(values, 0.1, axis=0))
    np.testing.assert_allclose(stats["std"], values.std(0))
    assert stats["count"].tolist() == [200]


def test_images_against_numpy():
    images = np.random.default_rng(2).integers(10, 240, (3, 8, 8, 3), dtype=np.uint8)
    images[..., 2] = 51
    stats, pixels = statistics.of_images(images), images.reshape(-1, 3) / 255
    np.testing.assert_allclose(stats["mean"].ravel(), pixels.mean(0))
    np.testing.assert_allclose(stats["std"].ravel(), pixels.std(0), atol=1e-12)
    np.testing.assert_allclose(stats["min"].ravel(), pixels.min(0))
    np.testing.assert_allclose(stats["max"].ravel(), pixels.max(0))
    np.testing.assert_allclose(stats["q50"].ravel(), np.quantile(pixels, 0.5, axis=0), atol=1 / 255)
    assert stats["mean"].shape == (3, 1, 1) and stats["q99"][2] == 0.2 and stats["count"].tolist() == [3]
