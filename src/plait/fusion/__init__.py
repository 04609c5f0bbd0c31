"""Fusion: one group of ``Tokens`` per modality -> ``Fused``. The union below is the registry."""

from plait.fusion.cross_attention import CrossAttentionConfig
from plait.fusion.film import FilmConfig

Fusion = FilmConfig | CrossAttentionConfig
