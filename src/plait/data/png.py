"""PNG in and out. Loads no torch, so that the processes that simulate stay light."""

import cv2
import numpy as np


def encode_png(image: np.ndarray) -> bytes:
    """uint8 ``[h, w, 3]`` RGB -> PNG bytes. Rendered pictures are flat: no filter is both quickest and smallest."""
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
    _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    return data.tobytes()


def decode_png(data: bytes) -> np.ndarray | None:
    """PNG (or JPEG) bytes -> uint8 ``[h, w, 3]`` RGB; None when the bytes are not an image."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
