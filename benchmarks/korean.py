"""One policy for two languages: the quickstart's, trained on instructions half in English and half in Korean.

python benchmarks/korean.py --out runs/korean --hardware "2 CPU cores" --seeds 1 --episodes 200
"""

import tyro
from variants import Options, Study, Trial, Variant, run

from plait.recipes import RECIPES

STUDY = Study(
    "korean",
    "English and Korean",
    "Pick, 64 pixels, 1,500 demonstrations, half of them with a Korean instruction; the recipe tabletop-pick as it is.",
    {"both languages": Variant(RECIPES["tabletop-pick"](), 1500, {"language": "mixed"})},
    {
        "told in English": Trial({"language": "en"}),
        "told in Korean": Trial({"language": "ko"}),
        "Korean, another object named": Trial({"language": "ko"}, "exchanged"),
        "Korean, new sentences of known words": Trial({"language": "ko"}, "paraphrase"),
    },
)

if __name__ == "__main__":
    run(STUDY, tyro.cli(Options))
