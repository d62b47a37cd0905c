"""Draws pictures for a demo that is given none: the same ones each time."""

import random
import shutil
from pathlib import Path

from PIL import ExifTags, Image, ImageDraw

SUBJECTS = (
    "balloons", "bubbles", "confetti", "dunes", "lanterns", "moons", "pebbles", "planets",
    "poppies", "raindrops",
)  # fmt: skip
TWICE = ("bubbles", "moons")
NO_PICTURE = "notes.txt"
SIZE = (3000, 2000)


def draw_folder(folder: Path) -> list[Path]:
    """Draw a folder full and return its files: two of them are there twice, one is no picture."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, subject in enumerate(SUBJECTS):
        image = _draw(random.Random(subject))
        if number % 2:
            image.save(folder / f"{subject}.png", compress_level=1)
        else:
            image.save(folder / f"{subject}.jpg", quality=90, exif=_exif(number))
    for subject in TWICE:
        shutil.copy(folder / f"{subject}.png", folder / f"{subject} (copy).png")
    (folder / NO_PICTURE).write_text("Buy film. Clean the lens.\n")
    return sorted(folder.iterdir())


def _draw(chance: random.Random) -> Image.Image:
    def colour() -> tuple[int, ...]:
        return tuple(chance.randrange(256) for _ in range(3))

    sky = Image.linear_gradient("L").resize(SIZE)
    image = Image.merge("RGB", [sky.point(lambda v, most=c: v * most // 255) for c in colour()])
    pencil = ImageDraw.Draw(image)
    for _ in range(60):
        x, y, radius = (chance.randrange(side) for side in (*SIZE, 300))
        pencil.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour())
    return image


def _exif(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Partisan"
    exif[ExifTags.Base.Model] = "Paper and Pencil"
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.DateTimeOriginal] = f"2026:05:{number + 1:02} 10:30:00"
    details[ExifTags.Base.ExposureTime] = 1 / 125
    return exif
