"""Fusion: one group of ``Tokens`` per modality -> ``Fused``. The union below is the registry."""

from plait.fusion.adaptive import AdaptiveConfig
from plait.fusion.bottleneck import BottleneckConfig
from plait.fusion.cross_attention import CrossAttentionConfig
from plait.fusion.early import EarlyConfig
from plait.fusion.experts import ExpertsConfig
from plait.fusion.film import FilmConfig
from plait.fusion.hierarchical import HierarchicalConfig
from plait.fusion.late import LateConfig
from plait.fusion.multiscale import MultiscaleConfig
from plait.fusion.unified import UnifiedConfig

Fusion = (
    FilmConfig
    | CrossAttentionConfig
    | EarlyConfig
    | LateConfig
    | UnifiedConfig
    | HierarchicalConfig
    | AdaptiveConfig
    | BottleneckConfig
    | ExpertsConfig
    | MultiscaleConfig
)
