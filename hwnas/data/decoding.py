"""decode(bytes): any image file as RGB. Needs Pillow and numpy, no torch."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image

__all__ = ["UnreadableImageError", "decode"]


class UnreadableImageError(ValueError):
    """The bytes are no image that Pillow can decode."""


def decode(content: bytes) -> PIL.Image.Image:
    """The RGB image in the bytes of a file; raises UnreadableImageError with the reason."""
    try:
        with PIL.Image.open(io.BytesIO(content)) as file:
            file.load()
            image: PIL.Image.Image = file
            if image.mode.startswith("I"):  # 16 and 32 bits: Pillow would cut, not scale
                values = np.asarray(image, dtype=np.float64)
                top = 65535.0 if values.max(initial=0) > 255 else 255.0
                image = PIL.Image.fromarray((values.clip(0, top) * (255.0 / top)).astype(np.uint8))
            elif image.mode == "P":
                image = image.convert("RGBA")  # its transparency, if any, is only known so
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, IndexError, TypeError, EOFError, OverflowError) as error:
        reason = str(error) or type(error).__name__
    except (PIL.Image.DecompressionBombError, MemoryError):
        reason = "too many pixels"
    raise UnreadableImageError("not an image" if reason.startswith("cannot identify") else reason)
