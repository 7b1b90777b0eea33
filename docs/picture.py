"""How pictures of the pages are written."""

from pathlib import Path

from PIL import Image

from pipeline.files import whole_file
from pipeline.report.plotting import Figure, save


def save_small(figure: Figure, path: Path) -> None:
    """Write a picture with 256 colours: a third of the size, for every clone has all that ever was committed."""
    with whole_file(path) as temporary:
        save(figure, temporary)
        with Image.open(temporary) as picture:
            few = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        few.save(temporary, format="PNG", optimize=True)
