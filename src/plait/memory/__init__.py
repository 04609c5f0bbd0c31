"""Memory: (features of t moments, state, reset) -> (features, state). The union below is the registry."""

from plait.memory.attention import MemoryAttentionConfig
from plait.memory.recurrent import RecurrentConfig

Memory = RecurrentConfig | MemoryAttentionConfig
