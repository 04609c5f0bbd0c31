import numpy as np
import pytest

from plait.data.png import decode_png, encode_png


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(64, 64, 3), (5, 9, 3)])
def test_png_is_lossless(shape: tuple[int, ...]):
    image = noise(*shape)
    decoded = decode_png(encode_png(image))
    assert decoded is not None and np.array_equal(decoded, image)


def test_what_is_no_image_is_none():
    assert decode_png(b"") is None
    assert decode_png(b"no image") is None
    assert decode_png(encode_png(noise(8, 8, 3))[:40]) is None
