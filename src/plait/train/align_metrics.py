"""How well aligned encoders find the texts of a picture that they never saw, and the picture of a text."""

from itertools import chain
from typing import Any

import numpy as np

from plait.alignment.aligner import Aligner
from plait.alignment.metrics import compute_alignment_metrics, measure_modality_gap
from plait.alignment.pairs import Pairs, Scenes
from plait.alignment.recognition import placed
from plait.alignment.retrieval import retrieval
from plait.alignment.right import Right
from plait.evaluate.statistics import share


def measure(aligner: Aligner, pairs: Pairs) -> dict[str, Any]:
    """Retrieval among all ``pictures`` and all distinct ``texts`` of the pairs, every text being right for each picture
    that it is true of (see ``retrieval``), and ``chance_r1``, the R@1 of guessing, which is the same both ways; what
    else ``plait.alignment.metrics`` measures, of one text of each picture, at least two; and for scenes of the tabletop
    ``pc_placed``, the percentage of ``plait.alignment.recognition``, with its interval.
    """
    numbers = {text: number for number, text in enumerate(dict.fromkeys(chain(*pairs.texts)))}
    right = Right.told(list(numbers), pairs.texts)
    pictures, texts = aligner.embed_images(pairs.images), aligner.embed_texts(list(numbers))
    words = texts[[numbers[text] for text in pairs.drawn(np.random.default_rng(0))]]
    return {
        "pictures": len(pairs),
        "texts": len(numbers),
        "chance_r1": right.tile().double().mean().item(),
        **compute_alignment_metrics(pictures, words),
        **measure_modality_gap(pictures, words),
        **dict(retrieval(pictures.double(), texts.double(), right)),  # in place of that of one text each
        **(share(placed(aligner, pairs), "pc_placed") if isinstance(pairs, Scenes) else {}),
    }
