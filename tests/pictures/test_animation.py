"""A GIF decodes to what a whole drawing of each frame shows, and is small, complete and the same every time."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.made_up import Array, tree_of

from sandbox.pictures import animation, style
from sandbox.pictures.animation import COLOURS, HOLD, Film, Palette, animate, chosen, deltas, gif
from sandbox.pictures.scene import Scene
from sandbox.tools.errors import InputError

FRAMES = 5


def decoded(data: bytes) -> tuple[Array, list[int]]:
    """Return a GIF's frames (F, H, W, 3), put together by Pillow, and how long each stays, in milliseconds."""
    frames, times = [], []
    with Image.open(io.BytesIO(data)) as image:
        assert image.info["loop"] == 0
        for k in range(image.n_frames):  # type: ignore[attr-defined]
            image.seek(k)
            times.append(int(image.info["duration"]))
            frames.append(np.array(image.convert("RGB")))
    return np.array(frames), times


def redrawn(film: Film, frame: int) -> Array:
    """Return a frame drawn as a whole, without the still layer."""
    film.figure.set_layout_engine("none")
    for artist in film.artists:
        artist.set_animated(False)
    for panel in film.panels:
        panel.show(frame)
    film.canvas.draw()
    return np.array(film.canvas.buffer_rgba())[..., :3]


@pytest.mark.parametrize("case", ["five", "wells"])
def test_a_gif_decodes_to_what_a_whole_drawing_shows(case: str, tmp_path: Path) -> None:
    tree = tree_of(case, frames=FRAMES)
    animate(tree, tmp_path / "a.gif", fps=20)
    frames, times = decoded((tmp_path / "a.gif").read_bytes())
    assert frames.shape == (FRAMES, 450, 900, 3)
    assert times == [50] * (FRAMES - 1) + [1000 * HOLD]
    with style.style():
        film = Film(Scene.of(tree), range(FRAMES))
        whole = np.array([redrawn(film, k) for k in range(FRAMES)], dtype=float)
    errors = np.abs(frames - whole).mean(axis=(1, 2, 3))
    assert errors.max() < 1, "the palette costs more than 1 of 255 on average"
    moved = np.abs(frames - np.roll(whole, 1, axis=0)).mean(axis=(1, 2, 3))
    assert moved.min() > errors.max(), "a decoder that is a frame late would not be noticed"


def test_an_animation_is_the_same_every_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        animate(tree_of("crossing"), tmp_path / name, frames=3)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def moving_square() -> list[Array]:
    """Return frames of colour numbers: a square that moves over stripes, stands still once, and moves again."""
    frames = []
    for place in (3, 9, 9, 20, 4):
        frame = np.tile(np.arange(40, dtype=np.uint8) // 8, (30, 1))
        frame[place : place + 6, place : place + 6] = 9
        frames.append(frame)
    return frames


def test_deltas_put_together_give_the_frames() -> None:
    grey = np.repeat(np.arange(COLOURS, dtype=np.uint8)[:, None], 3, axis=1)
    frames, times = decoded(gif(moving_square(), grey, [0.1] * 5))
    assert times == [100] * 5
    np.testing.assert_array_equal(frames[..., 0], moving_square())


def test_a_delta_against_the_wrong_frame_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def against_the_first(frames: Any) -> Any:
        first, *others = frames
        yield (0, 0), first
        yield from ((list(deltas([first, other])))[1] for other in others)

    monkeypatch.setattr(animation, "deltas", against_the_first)
    grey = np.repeat(np.arange(COLOURS, dtype=np.uint8)[:, None], 3, axis=1)
    frames, _ = decoded(gif(moving_square(), grey, [0.1] * 5))
    assert (frames[..., 0] != moving_square()).any()


def test_the_palette_keeps_what_is_common_and_takes_the_nearest_for_the_rest() -> None:
    random = np.random.default_rng(3)
    frame = random.integers(0, 1 << 24, (60, 80), dtype=np.uint32)
    frame[:20] = 0xFF56B4E9
    palette = Palette([frame])
    numbers = palette.indices(frame)
    assert len(palette.colours) <= COLOURS
    channels = np.stack([frame & 255, frame >> 8 & 255, frame >> 16 & 255], axis=-1).astype(float)
    distances = np.linalg.norm(channels[..., None, :] - palette.colours.astype(float), axis=-1)
    chosen_distance = np.take_along_axis(distances, numbers[..., None].astype(int), axis=-1)[..., 0]
    np.testing.assert_array_equal(chosen_distance, distances.min(axis=-1))
    assert (chosen_distance[:20] == 0).all()


def test_frames_are_left_out_evenly_but_never_the_last() -> None:
    assert chosen(5, 9) == [0, 1, 2, 3, 4]
    assert chosen(9, 1) == [8]
    few = chosen(200, 100)
    assert (len(few), few[0], few[-1]) == (100, 0, 199)
    assert set(np.diff(few)) <= {2, 3}


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "folder.gif").mkdir()
    with pytest.raises(OSError, match="folder"):
        animate(tree_of("wells"), tmp_path / "folder.gif", frames=2)
    with pytest.raises(FileNotFoundError):
        animate(tree_of("wells"), tmp_path / "missing" / "a.gif", frames=2)
    assert [path.name for path in tmp_path.rglob("*")] == ["folder.gif"]


@pytest.mark.parametrize(("options", "found"), [({"frames": 0}, "0 frames"), ({"fps": 99}, "99 frames a second")])
def test_numbers_out_of_range_are_refused(options: dict[str, Any], found: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"found {found}; allowed"):
        animate(tree_of("wells"), tmp_path / "a.gif", **options)
