"""The numbers of a training run."""

from dataclasses import dataclass, field
from typing import Literal

from plait.config import refuse_outside
from plait.data.augment import Augment
from plait.train.modulation import Modulation


@dataclass(frozen=True)
class TrainConfig:
    """How long, how fast and how carefully a model is trained.

    Raises:
        ValueError: a number outside its range; the message names the field, the value and the rule.
    """

    steps: int = 5_000
    """Number of updates of the weights."""
    batch_size: int = 128
    """Samples per update."""
    learning_rate: float = 1e-3
    """Highest learning rate, reached after the warm-up; a cosine leads from there to zero."""
    warmup_steps: int = 100
    """Updates of linear warm-up, at most half of the steps."""
    weight_decay: float = 1e-2
    """AdamW's decay of matrices; norms, biases, embeddings and learned tokens are left alone."""
    ema_decay: float = 0.999
    """Decay of the moving average of the weights; the average is what is validated, saved and used."""
    clip_norm: float = 1.0
    """Largest norm of the gradient."""
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    """Number format of the forward pass; auto = bfloat16 where the processor has instructions for it."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto = cuda when there is one."""
    compile: bool = False
    """On a GPU: compile the loss with torch.compile, for a slower start and faster steps."""
    cuda_graph: bool = False
    """On a GPU: record one update as a CUDA graph and replay it, which saves launching each kernel."""
    shard: bool = False
    """Of several processes, each keeps only its part of the weights and of the optimiser's state: for what is too large
    for one GPU. Without meaning in one process alone."""
    seed: int = 0
    """Decides the initial weights, the order of the data and the noise."""
    val_fraction: float = 0.02
    """Share of the episodes that is held out for validation."""
    augment: Augment = field(default_factory=Augment)
    """How images are changed at random; all zero leaves them as they are."""
    modality_dropout: float = 0.0
    """Probability that a camera or the state of a sample is hidden, so that the policy learns to do without."""
    imbalance_every: int = 0
    """Steps between two measurements of each modality's share in the gradient and in the prediction; 0 = never."""
    modulation: Modulation = field(default_factory=Modulation)
    """Hold back a modality that the measurements find dominant."""
    log_every: int = 20
    """Steps between two reports on the screen; the log has every step."""
    validate_every: int = 500
    """Steps between two validations."""
    checkpoint_every: int = 500
    """Steps between two checkpoints; interruption writes one too."""
    keep: int = 2
    """Number of checkpoints that are kept, the newest ones."""

    def __post_init__(self) -> None:
        positive = dict.fromkeys(("learning_rate", "clip_norm"), "(0, inf)")
        shares = dict.fromkeys(("ema_decay", "val_fraction", "modality_dropout"), "[0, 1)")
        may_be_zero = dict.fromkeys(("warmup_steps", "seed", "imbalance_every"), "[0, inf)")
        refuse_outside(self, "train", **positive, **shares, **may_be_zero)
        if self.modulation.strength and not self.imbalance_every:
            raise ValueError(
                "train.imbalance_every: 0 is too small; at least 1 with modulation, which goes by the measurements"
            )
