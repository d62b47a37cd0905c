"""What is done to pictures, by Pillow alone: no rows, no tasks."""

import io
import struct
from pathlib import Path

from PIL import ExifTags, Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "GIF", "WEBP")
"""All that is looked for: others run programs of the system's, as PostScript does Ghostscript."""

MAX_PIXELS = 50_000_000
"""A file of some kilobytes may hold a picture that takes gigabytes when it is decoded."""

Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is higher, and a warning is no refusal

KEPT_EXIF = (
    "Make", "Model", "DateTime", "DateTimeOriginal", "ExposureTime", "FNumber", "FocalLength",
    "ISOSpeedRatings", "ImageDescription",
)  # fmt: skip

# What Pillow's decoders raise at damaged files; OSError is that of a format nobody knows, too.
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error)


class NotAPicture(Exception):  # noqa: N818  it is no error of ours
    """The file is none that Pillow can read."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} is not a picture that can be read: {reason}")


def read(path: Path, name: str) -> Image.Image:
    """Return the picture in a file, decoded to its end.

    :param name: what people call the file.
    :raises NotAPicture: there is none in it, or it is damaged.
    """
    content = path.read_bytes()  # outside of the try: a file that is missing is our own fault
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height <= MAX_PIXELS:
            image.load()
    except UnidentifiedImageError:
        raise NotAPicture(name, f"its content is none of {', '.join(FORMATS)}") from None
    except DAMAGED as error:
        raise NotAPicture(name, str(error)) from error
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width:,} × {image.height:,}"
        raise NotAPicture(name, f"it has {size} pixels; the most that is taken is {MAX_PIXELS:,}")
    return image


def exif(image: Image.Image) -> dict[str, str]:
    """Return what the camera noted, as far as people care."""
    found = image.getexif()
    tags = {**found, **found.get_ifd(ExifTags.IFD.Exif)}
    named = {ExifTags.TAGS.get(tag, ""): value for tag, value in tags.items()}
    # Cameras pad their texts with NUL, which PostgreSQL cannot store.
    return {name: str(named[name]).replace("\0", "").strip() for name in KEPT_EXIF if name in named}


def main_colours(image: Image.Image, count: int = 5) -> list[str]:
    """Return the main colours as #rrggbb, the most frequent first."""
    small = _upright_rgb(image).resize((200, 200))
    few = small.quantize(count)
    palette = few.getpalette() or []
    frequent = sorted(few.getcolors() or [], reverse=True)
    starts = [3 * index for _, index in frequent if isinstance(index, int)]
    return ["#{:02x}{:02x}{:02x}".format(*palette[start : start + 3]) for start in starts]


def fitted(image: Image.Image, longest_side: int) -> Image.Image:
    """Return the picture upright, and no larger than so many pixels."""
    made = _upright_rgb(image)
    made.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    return made


def stamped(image: Image.Image, text: str) -> Image.Image:
    """Return the picture with the text across it, half transparent."""
    layer = Image.new("RGBA", image.size)
    font = ImageFont.load_default(size=max(10, image.width // 20))
    centre = (image.width / 2, image.height / 2)
    ImageDraw.Draw(layer).text(centre, text, fill=(255, 255, 255, 128), font=font, anchor="mm")
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


def as_jpeg(image: Image.Image) -> bytes:
    """Return the picture as the content of a JPEG file."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85, optimize=True)
    return file.getvalue()


def _upright_rgb(image: Image.Image) -> Image.Image:
    """Return a copy as a viewer shows it: turned by its EXIF, on white where it is transparent."""
    upright = ImageOps.exif_transpose(image)
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    layer = upright.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
