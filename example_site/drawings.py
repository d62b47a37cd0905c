"""Draws pictures for a demo that is given none: the same ones each time."""

import colorsys
import math
import random
import shutil
from pathlib import Path

from PIL import ExifTags, Image, ImageDraw

SUBJECTS = (
    "bay", "cliffs", "dunes", "glen", "heath", "hills", "meadow", "ridge", "tundra", "valley",
)  # fmt: skip
TWICE = ("glen", "ridge")
NO_PICTURE = "notes.txt"
SIZE = (3000, 2000)
GOLDEN = 0.618
"""Of the circle of hues: by such steps, any few of them lie well apart."""


def draw_folder(folder: Path) -> list[Path]:
    """Draw a folder full and return its files: two of them are there twice, one is no picture."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, subject in enumerate(SUBJECTS):
        image = _draw(number * GOLDEN, random.Random(subject))
        if number % 2:
            image.save(folder / f"{subject}.png", compress_level=1)
        else:
            image.save(folder / f"{subject}.jpg", quality=90, exif=_exif(number))
    for subject in TWICE:
        shutil.copy(folder / f"{subject}.png", folder / f"{subject}_copy.png")
    (folder / NO_PICTURE).write_text("Buy film. Clean the lens.\n")
    return sorted(folder.iterdir())


def _draw(hue: float, chance: random.Random) -> Image.Image:
    """Draw a sun above hills, in a few colours that go together."""
    width, height = SIZE
    above, below = (Image.new("RGB", SIZE, _colour(hue + far, far * 4, 1)) for far in (0.12, 0.04))
    image = Image.composite(below, above, Image.linear_gradient("L").resize(SIZE))
    pencil = ImageDraw.Draw(image)
    x, y, radius = chance.uniform(0.2, 0.8) * width, 0.3 * height, chance.uniform(150, 350)
    pencil.ellipse((x - radius, y - radius, x + radius, y + radius), _colour(hue + 0.1, 0.1, 1))
    for nearness in range(1, 7):
        waves = [(chance.uniform(1, 4) * n, chance.uniform(0, 7), 90 / n) for n in (1, 2, 5)]
        foot = (0.4 + 0.09 * nearness) * height
        ridge = [
            (
                x,
                foot
                + sum(size * math.sin(often * x / 1000 + start) for often, start, size in waves),
            )
            for x in range(0, width + 20, 20)
        ]
        colour = _colour(hue - 0.02 * nearness, 0.25 + 0.09 * nearness, 0.95 - 0.13 * nearness)
        pencil.polygon([(0, height), *ridge, (width, height)], colour)
    return image


def _colour(hue: float, saturation: float, value: float) -> tuple[int, ...]:
    return tuple(int(255 * part) for part in colorsys.hsv_to_rgb(hue % 1, saturation, value))


def _exif(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Partisan"
    exif[ExifTags.Base.Model] = "Paper and Pencil"
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.DateTimeOriginal] = f"2026:05:{number + 1:02} 10:30:00"
    details[ExifTags.Base.ExposureTime] = 1 / 125
    return exif
