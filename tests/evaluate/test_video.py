import av
import numpy as np
import pytest
from PIL import Image

from plait.evaluate.pool import Episode
from plait.evaluate.video import FAILURE, SUCCESS, WIDTH, chosen, draw, film, write_video
from plait.evaluate.worker import Scenes
from reach_env import ID

PICTURE = np.full((30, 40, 3), 200, np.uint8)


def episode(index: int = 0, success: bool = True, steps: int = 4, value: float = 1.0, seed: int = 5) -> Episode:
    return Episode(index, seed, "go right", success, {}, np.full((steps, 1), value, np.float32))


def colours(frame: Image.Image) -> set[str]:
    counts = frame.convert("RGB").getcolors(1 << 20) or []
    return {"#{:02x}{:02x}{:02x}".format(*colour) for _, colour in counts}  # pyright: ignore


def test_half_of_the_films_are_failures_if_there_are_so_many():
    results = [True, True, False, True, False, False, True, True]
    episodes = [episode(i, success) for i, success in enumerate(results)]
    assert [e.index for e in chosen(episodes, 4)] == [0, 1, 2, 4]
    assert [e.index for e in chosen(episodes[:4], 4)] == [0, 1, 2, 3]
    assert [e.index for e in chosen(episodes[4:6], 4)] == [4, 5]
    assert [e.index for e in chosen([e for e in episodes if e.success], 3)] == [0, 1, 3]
    assert chosen(episodes, 0) == []


def test_the_outcome_is_shown_only_at_the_end():
    during, end = (draw(PICTURE, "go right", step, episode(), {"move": 0.5}) for step in (3, 4))
    assert SUCCESS not in colours(during)
    assert SUCCESS in colours(end)
    assert FAILURE in colours(draw(PICTURE, "go right", 4, episode(success=False), {"move": 0.5}))


def test_bars_point_up_for_positive_and_down_for_negative_actions():
    frames = [np.asarray(draw(PICTURE, "go", 0, episode(), {"move": value})).astype(int) for value in (1.0, 0.0, -1.0)]
    changed = [np.flatnonzero(np.abs(frame - frames[1]).sum(axis=(1, 2))) for frame in (frames[0], frames[2])]
    assert changed[0].max() < changed[1].min()  # rows count downwards


def test_long_instructions_are_wrapped_and_nothing_is_cut_off():
    short = draw(PICTURE, "go", 0, episode(), {})
    text = "put the green cube in the bowl that stands to the left of the blue cylinder"
    long = draw(PICTURE, text, 0, episode(), {})
    assert short.width == long.width == WIDTH
    assert long.height > short.height
    assert short.height % 2 == long.height % 2 == 0


@pytest.mark.parametrize("suffix", [".mp4", ".webp"])
def test_a_written_video_has_every_frame(tmp_path, suffix):
    frames = [draw(PICTURE, "go", step, episode(), {"move": 0.2 * step}) for step in range(5)]
    path = write_video(tmp_path / "deep" / f"film{suffix}", frames, rate=10.0)
    if suffix == ".mp4":
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert (stream.width, stream.height, stream.average_rate) == (*frames[0].size, 10)
            assert sum(1 for _ in container.decode(video=0)) == 5
    else:
        with Image.open(path) as image:
            assert (image.size, image.n_frames) == (frames[0].size, 5)


def test_an_episode_is_repeated_from_its_seed_and_actions():
    scenes = Scenes(ID, (0,))
    side = scenes.reset(env := scenes.make(), 0)[0]["observation.state"][0], env.unwrapped.side
    done = episode(success=True, steps=4, value=float(side[1]), seed=0)
    frames = film(scenes, done, ("move",))
    assert len(frames) == 5
    with pytest.raises(RuntimeError, match="not a function of its seed"):
        film(scenes, episode(success=False, steps=4, value=float(side[1]), seed=0), ("move",))
