"""Draw the pictures of docs/tabletop.md: each family from the front, and what a policy sees.

    python examples/tabletop_pictures.py            # writes docs/images/*.webp

Needs nothing but plait itself. The scenes follow from their seeds, so that the pictures only change with the tabletop.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from plait import envs

OUT = Path(__file__).parents[1] / "docs" / "images"
MOMENTS = {"pick": (3, 20), "place": (3, 38), "push": (2, 20), "stack": (0, 33)}  # family -> seed, control steps
SIDE, GAP = 384, 8  # pixels: 6 times 64, 4 times 96


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    for family, (seed, steps) in MOMENTS.items():
        picture, instruction = front_view(family, seed, steps)
        save(picture, f"tabletop-{family}.webp", instruction)
    save(policy_views(*MOMENTS["pick"]), "tabletop-policy-views.webp", "front and wrist, at 64 and at 96 pixels")


def front_view(family: str, seed: int, steps: int) -> tuple[np.ndarray, str]:
    """What people see (480 x 640 pixels) ``steps`` control steps into a demonstration, and its instruction."""
    env = envs.make("tabletop", family=family, quality="full")
    instruction, _ = demonstrate(env, seed, steps)
    picture = env.render()
    env.close()
    return np.asarray(picture), instruction


def policy_views(seed: int, steps: int) -> np.ndarray:
    """The same moment as a policy sees it: 64 pixels on the left, 96 on the right; front camera above, wrist below."""
    columns = []
    for size in (64, 96):
        env = envs.make("tabletop", size=size)
        _, observation = demonstrate(env, seed, steps)
        columns.append(stacked([enlarged(observation[f"observation.images.{name}"]) for name in ("front", "wrist")]))
        env.close()
    return stacked(columns, axis=1)


def demonstrate(env, seed: int, steps: int) -> tuple[str, dict]:
    """The instruction, and the observation after ``steps`` steps of the scripted expert."""
    observation, info = env.reset(seed=seed)
    expert = env.unwrapped.expert()
    for _ in range(steps):
        observation, *_ = env.step(expert.action())
    return info["task"], observation


def enlarged(image: np.ndarray) -> np.ndarray:
    """Every pixel as a square, so that nothing is smoothed away."""
    return image.repeat(SIDE // len(image), axis=0).repeat(SIDE // len(image), axis=1)


def stacked(images: list[np.ndarray], axis: int = 0) -> np.ndarray:
    """The images one after another, with a white gap between."""
    shape = list(images[0].shape)
    shape[axis] = GAP
    gap = np.full(shape, 255, np.uint8)
    parts = [part for image in images for part in (gap, image)][1:]
    return np.concatenate(parts, axis=axis)


def save(picture: np.ndarray, name: str, caption: str) -> None:
    Image.fromarray(picture).save(OUT / name, quality=88, method=6)
    print(f"{name}  {(OUT / name).stat().st_size / 1000:.0f} kB  {caption}")


if __name__ == "__main__":
    main()
