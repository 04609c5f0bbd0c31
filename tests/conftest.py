"""What every test shares: one torch thread, and the shapes written in annotations are checked."""

import os

os.environ.setdefault("MUJOCO_GL", "egl")  # no display is needed

import jaxtyping
import torch

torch.set_num_threads(1)
jaxtyping.install_import_hook("plait", "typechecker.check")
