"""How well aligned encoders find the text of a picture that they never saw, and the picture of a text."""

from collections import Counter
from typing import Any

import numpy as np

from plait.alignment.aligner import Aligner
from plait.alignment.metrics import compute_alignment_metrics, measure_modality_gap
from plait.alignment.pairs import Pairs, Scenes
from plait.alignment.recognition import placed
from plait.evaluate.statistics import share


def measure(aligner: Aligner, pairs: Pairs) -> dict[str, Any]:
    """Everything of ``plait.alignment.metrics`` for one text of each picture, at least two; for scenes of the tabletop
    also ``pc_placed``, the percentage of ``plait.alignment.recognition``, with its interval.

    Equal texts are right answers to each other's pictures; ``chance_r1`` is the R@1 of guessing.
    """
    texts, count = pairs.drawn(np.random.default_rng(0)), len(pairs)
    pictures, words = aligner.embed_images(pairs.images), aligner.embed_texts(texts)
    return {
        "pictures": count,
        "chance_r1": sum(n * n for n in Counter(texts).values()) / count**2,
        **compute_alignment_metrics(pictures, words, texts),
        **measure_modality_gap(pictures, words),
        **(share(placed(aligner, pairs), "pc_placed") if isinstance(pairs, Scenes) else {}),
    }
