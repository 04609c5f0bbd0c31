"""Vision encoders: uint8 images in, grids of tokens out. The union below is the registry.

An encoder returns one grid or several, and declares them in ``shapes``, in the same order. The first is the camera's
own group of tokens; each further one is a group beside it (``images.front@1``), which any fusion takes as it comes.
"""

from plait.encoders.backbone import TimmConfig
from plait.encoders.patch import PatchConfig

Vision = PatchConfig | TimmConfig
