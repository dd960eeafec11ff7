"""decode(bytes): any image file as an upright RGB image. Needs Pillow and numpy, no torch.

What a camera or an editor wrote beside the pixels is followed: the orientation in EXIF, transparency (seen
on white), and the range of 16-bit and floating-point values. What Pillow cannot decode, for whatever
reason, is one error.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import PIL.Image
import PIL.ImageOps

__all__ = ["MOST_STRETCHED", "UnreadableImageError", "decode", "sides_of"]

MOST_STRETCHED = 100
"""The longer side of an image may be so many times the shorter one: scaling a line of pixels to the side of
a network would take gigabytes."""

WHOLE_TOPS = (255, 4095, 65535)
"""The brightest value that an image of 16 or 32 bits may hold: of 8, 12 and 16 bits. The file does not say
which, so that it is the least that covers what is there."""
FLOAT_TOPS = (1, 255, 65535)
OVERSHOOT = 0.05
"""Share of the range by which floating-point values may lie outside of it, as resampling leaves them."""


class UnreadableImageError(ValueError):
    """The bytes are no image that can be decoded; the message says why."""


def decode(content: bytes, *, upright: bool = True) -> PIL.Image.Image:
    """The RGB image in the bytes of a file, turned as its EXIF says unless `upright` is False.

    Raises UnreadableImageError with the reason, whatever Pillow raised.
    """
    with _opened(content) as file:
        file.load()
        image: PIL.Image.Image = _turned(file) if upright else file
        if image.mode.startswith(("I", "F")):
            return _in_8_bits(np.asarray(image, dtype=np.float64)).convert("RGB")
        if image.mode == "La":
            image = image.convert("LA")
        if not image.has_transparency_data:
            return image.convert("RGB")
        seen = PIL.Image.new("RGBA", image.size, "white")
        seen.alpha_composite(image.convert("RGBA"))
        return seen.convert("RGB")


def sides_of(content: bytes) -> tuple[int, int]:
    """Width and height as the head of the file says them; raises UnreadableImageError."""
    with _opened(content) as file:
        return file.size


@contextmanager
def _opened(content: bytes) -> Iterator[PIL.Image.Image]:
    """The image, not loaded yet; every error in its use is an UnreadableImageError.

    Pillow's decoders raise whatever they come upon: 12 types of exceptions in 9,250 damaged files.
    """
    try:
        with PIL.Image.open(io.BytesIO(content)) as file:
            shorter, longer = sorted(file.size)
            if longer > MOST_STRETCHED * max(shorter, 1):
                raise UnreadableImageError(
                    f"the longer side may be {MOST_STRETCHED} times the shorter one, got "
                    f"{file.width} x {file.height} pixels"
                )
            yield file
        return
    except UnreadableImageError:
        raise
    except PIL.UnidentifiedImageError:
        reason = "not an image"
    except (PIL.Image.DecompressionBombError, MemoryError):
        reason = "too many pixels"
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
    raise UnreadableImageError(reason) from None


def _turned(file: PIL.Image.Image) -> PIL.Image.Image:
    """The image as its EXIF's orientation says; as it is where the EXIF is damaged."""
    try:
        return PIL.ImageOps.exif_transpose(file)
    except Exception:  # of a block of bytes beside an image that is whole
        return file


def _in_8_bits(values: np.ndarray) -> PIL.Image.Image:
    """Grey values of more than 8 bits as 8 bits: by the least range that covers them.

    Raises UnreadableImageError for values without such a range.
    """
    low, high = float(values.min()), float(values.max())
    whole = bool(np.isfinite([low, high]).all()) and bool((values == np.rint(values)).all()) and high > 1
    tops, slack = (WHOLE_TOPS, 0.0) if whole else (FLOAT_TOPS, OVERSHOOT)
    top = next((top for top in tops if high <= (1 + slack) * top), None)
    if top is not None and -slack * top <= low:
        scaled = (values.clip(0, top) * (255.0 / top)).round()
        return PIL.Image.fromarray(scaled.astype(np.uint8))
    raise UnreadableImageError(
        f"its values must be from 0 to 1, 255, 4095 or 65535, got {low:g} to {high:g}: save it with 8 bits"
    )
