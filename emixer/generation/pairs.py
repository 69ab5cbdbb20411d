"""Generated pairs in memory: a sequence to look at, to save, and to train on.

Shapes: N pairs, H = W side [px], L labels.
"""

import csv
import html
import io
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageShow

from emixer.config.base import absolute
from emixer.errors import ConfigError, RunFolderError
from emixer.files import is_bookkeeping, written_aside
from emixer.generation.contact_sheet import CaptionedImage, contact_sheet
from emixer.generation.encoding import encode_png
from emixer.generation.plan_kinds import Labels

if TYPE_CHECKING:
    from emixer.data.pair_items import PairDataset

CSV_NAME = "pairs.csv"
_SHOWN_ROWS = 3
_MAX_IN_NOTEBOOK = 24
_IMAGE_STYLE = "width:160px;height:160px;background:#000;image-rendering:pixelated"


class Pair(NamedTuple):
    """One image with its report."""

    image: NDArray[np.uint8]
    """(H, W), gray."""
    report: str
    labels: tuple[str, ...]
    """Names of those that are present."""
    conditions: dict[str, str | None]
    """What else it was conditioned on: sex, age (a group), view. None: not known."""


@dataclass(frozen=True, eq=False)
class Pairs(Sequence[Pair]):
    """Generated images with their reports and labels: a sequence of `Pair`, whose slices are `Pairs` again."""

    images: NDArray[np.uint8]
    """(N, H, W), gray."""
    reports: list[str]
    labels: Labels | NDArray[np.float32]
    """(N, L), 1 present; parts of 1 between two vectors that were interpolated."""
    label_names: tuple[str, ...]
    conditions: dict[str, NDArray[Any]] = field(default_factory=dict)
    """What else they were conditioned on, text (N) by name: sex, age (a group), view. None: not known."""
    rows: NDArray[np.int64] = None  # type: ignore[assignment]  # of which only the default is None
    """(N,), the row of each in the sample of its seed, whose noise it has. Default: the first N."""

    def __post_init__(self) -> None:
        if self.rows is None:
            object.__setattr__(self, "rows", np.arange(len(self.reports)))

    def __len__(self) -> int:
        return len(self.reports)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> "Pairs": ...
    def __getitem__(self, index: int | slice) -> "Pair | Pairs":
        if isinstance(index, slice):
            beside = {name: values[index] for name, values in self.conditions.items()}
            images, rows = self.images[index], self.rows[index]
            return Pairs(images, self.reports[index], self.labels[index], self.label_names, beside, rows)
        row = range(len(self))[index]  # raises IndexError, and counts negative ones from the end
        told = {name: values[row] for name, values in self.conditions.items()}
        return Pair(self.images[row], self.reports[row], tuple(self.labels_of(row)), told)

    def __iter__(self) -> Iterator[Pair]:
        return map(self.__getitem__, range(len(self)))

    def __repr__(self) -> str:
        height, width = self.images.shape[1:]
        lines = [f"{len(self)} pair{'s' * (len(self) != 1)} of {height} x {width} px"]
        for index in range(min(len(self), _SHOWN_ROWS)):
            lines.append(f"  {index}  {', '.join(self.caption(index))}: {self.reports[index]}")
        return "\n".join([*lines, "  ..."] if len(self) > _SHOWN_ROWS else lines)

    def labels_of(self, index: int) -> list[str]:
        """Names of the labels of one row; of one between two vectors, those of the nearer."""
        return [name for name, value in zip(self.label_names, self.labels[index], strict=True) if value >= 0.5]

    def caption(self, index: int) -> list[str]:
        """Labels and known conditions of one row, or `no label`."""
        known = [str(values[index]) for values in self.conditions.values() if values[index]]
        return [*(self.labels_of(index) or ["no label"]), *known]

    def to_pil(self, index: int) -> Image.Image:
        """One image as a gray PIL image."""
        return Image.fromarray(self.images[index])

    def grid(
        self,
        columns: int = 4,
        title: str = "Synthetic pairs, not for clinical use",
        captions: Sequence[Sequence[str]] | None = None,
    ) -> Image.Image:
        """All pairs as one picture: images with captions and the beginning of their reports.

        captions: of each pair; None: its labels and conditions. Raises ConfigError where there is no pair.
        """
        if not len(self):
            raise ConfigError("There is no pair to draw. Use a slice or a `num` that leaves at least one.")
        captions = captions or [self.caption(index) for index in range(len(self))]
        captioned = zip(encode_png(self.images), captions, self.reports, strict=True)
        tiles = [CaptionedImage(*each) for each in captioned]
        return Image.open(io.BytesIO(contact_sheet(tiles, title, min(columns, len(self)))))

    def show(self, columns: int = 4) -> None:
        """Opens the grid in the program that shows pictures here. Raises ConfigError where there is none."""
        if not ImageShow.show(self.grid(columns)):
            raise ConfigError(
                "No program that shows pictures was found on this machine. Use pairs.save(FOLDER) or "
                "pairs.grid().save('pairs.png'); a notebook shows pairs by itself."
            )

    def save(self, folder: Path | str) -> Path:
        """Writes a PNG a pair and one CSV (file, report, a 0/1 column a label, conditions); returns the folder.

        The folder appears whole or not at all. Raises RunFolderError when it holds something or is the working
        directory, StorageError when the disk is full.
        """
        folder = absolute(Path(folder))
        if folder == Path.cwd():  # replaced, it would be gone for the process that works in it
            raise RunFolderError(f"{folder} is the working directory. Choose a new folder in it.")
        if folder.exists() and not (folder.is_dir() and all(map(is_bookkeeping, folder.iterdir()))):
            raise RunFolderError(f"{folder} exists and is not empty. Choose a new folder.")
        names = [f"{index:06d}.png" for index in range(len(self))]
        with written_aside(folder) as aside:
            aside.mkdir()
            for name, encoded in zip(names, encode_png(self.images), strict=True):
                (aside / name).write_bytes(encoded)
            with (aside / CSV_NAME).open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(["image", "report", *self.label_names, *self.conditions])
                beside = (self.conditions[name].tolist() for name in self.conditions)
                writer.writerows(zip(names, self.reports, *self.labels.T.tolist(), *beside, strict=True))
        return folder

    def to_dataset(self) -> "PairDataset":
        """A torch `Dataset`, with the items that `emixer.open_shards` gives too."""
        from emixer.data.pair_items import PairDataset
        from emixer.data.row_groups import PairArrays

        known = np.ones(self.labels.shape, bool)
        return PairDataset(PairArrays(self.images, self.reports, self.labels.astype(np.float32), known))

    def _repr_html_(self) -> str:
        """How notebooks show it: up to 24 pairs, everything inline, text escaped."""
        shown = self[:_MAX_IN_NOTEBOOK]
        cells = "".join(
            f'<figure style="margin:0;width:160px"><img alt="" style="{_IMAGE_STYLE}" '
            f'src="data:image/png;base64,{b64encode(encoded).decode()}"><figcaption style="font-size:12px">'
            f"<b>{html.escape(', '.join(shown.caption(index)))}</b><br>{html.escape(shown.reports[index])}"
            "</figcaption></figure>"
            for index, encoded in enumerate(encode_png(shown.images))
        )
        more = f"<p>... and {len(self) - len(shown)} more</p>" if len(self) > len(shown) else ""
        told = "<p>Synthetic pairs, not for clinical use.</p>"
        return f'{told}<div style="display:flex;flex-wrap:wrap;gap:12px">{cells}</div>{more}'
