"""Every head on the tabletop: the same policy, demonstrations and updates, only the head differs.

python benchmarks/heads.py --out runs/heads --hardware H100 --jobs 6 --workers 16
"""

from dataclasses import replace

import tyro
from variants import Options, Study, Trial, Variant, run

from plait.fusion import UnifiedConfig
from plait.heads import DiffusionConfig, DiscreteConfig, FlowConfig, Head, MixtureConfig, RegressionConfig
from plait.recipes import RECIPES, Recipe

HEADS: dict[str, Head] = {
    "regression, L1": RegressionConfig(),
    "regression, MSE": RegressionConfig(loss="mse"),
    "regression, Huber": RegressionConfig(loss="huber"),
    "discrete, parallel": DiscreteConfig(),
    "discrete, causal": DiscreteConfig(form="causal"),
    "mixture": MixtureConfig(),
    "diffusion": DiffusionConfig(),
    "flow": FlowConfig(),
}
BASE = RECIPES["tabletop-pick"]()
TOKENS = UnifiedConfig(actions=BASE.policy.action_horizon)  # one for each step
TRAIN = replace(BASE.train, steps=4000, batch_size=512, learning_rate=3e-3, warmup_steps=200)
STUDY = Study(
    "heads",
    "Heads on the tabletop",
    "Pick, vocabulary large, 64 pixels, 1,600 demonstrations, 4,000 updates of 512 samples, learning rate 3e-3.",
    {
        name: Variant(Recipe(policy, TRAIN), 1600, {"vocabulary": "large"})
        for name, policy in {
            **{name: replace(BASE.policy, head=head) for name, head in HEADS.items()},
            "discrete, parallel, unified": replace(BASE.policy, fusion=UnifiedConfig(), head=DiscreteConfig()),
            "discrete, action tokens": replace(BASE.policy, fusion=TOKENS, head=DiscreteConfig(form="tokens")),
            "regression, Huber, action tokens": replace(
                BASE.policy, fusion=TOKENS, head=RegressionConfig(loss="huber")
            ),
            "flow, action tokens": replace(BASE.policy, fusion=TOKENS, head=FlowConfig()),
        }.items()
    },
    {"success": Trial(), "another object named": Trial(instructions="exchanged")},
)

if __name__ == "__main__":
    run(STUDY, tyro.cli(Options))
