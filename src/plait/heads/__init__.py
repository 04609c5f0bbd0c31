"""Heads: fused ``Tokens`` -> a loss, or a chunk of actions. The union below is the registry."""

from plait.heads.regression import RegressionConfig

Head = RegressionConfig
