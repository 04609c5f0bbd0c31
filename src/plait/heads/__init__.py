"""Heads: fused ``Tokens`` -> a loss, or a chunk of actions. The union below is the registry."""

from plait.heads.diffusion import DiffusionConfig
from plait.heads.discrete import DiscreteConfig
from plait.heads.flow import FlowConfig
from plait.heads.mixture import MixtureConfig
from plait.heads.regression import RegressionConfig

Head = RegressionConfig | DiscreteConfig | MixtureConfig | DiffusionConfig | FlowConfig
