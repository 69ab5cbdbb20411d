"""Screening of pairs block by block: which pairs would an audit of the whole dataset withhold?

The control (distances of held-out images, and what held-out reports share with training reports) is measured once and
sent to every screening process, each of which loads descriptors and features of the real images once. Gray ranks stay
in the folder of measurements, from which those of a few candidates are read.

Shapes: B pairs of a block, H = W, S sides [px], F features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from emixer.audit.control import nearer_than_control
from emixer.audit.images import Distances, find_near_images
from emixer.audit.matching import SPACES, Matches, References, Side, nearest
from emixer.audit.pixels import ranked
from emixer.audit.reports import COPIED_REPORT, ReportControl
from emixer.audit.spans import read_reports
from emixer.audit.traces import IDENTIFYING, traces
from emixer.evaluation.features import Network

REASONS = (*(f"image_{space}" for space in SPACES), COPIED_REPORT, *IDENTIFYING)
"""Why a pair may be withheld, as `withhold` in audit.json names it."""


@dataclass(frozen=True)
class Screen:
    """Criteria for withholding a pair. Picklable; the folder of measurements must be accessible."""

    train: Side
    held_out: Side
    held_out_to_train: Matches
    held_out_to_held_out: Matches
    reports: ReportControl | None
    """None: reports are not compared with training reports; names, dates and long numbers are looked for all the
    same."""
    network: Network
    level: float
    """Share of the control that each measure would flag."""

    @property
    def thresholds(self) -> Mapping[str, float]:
        """Flagging thresholds: distances by space, and word sequences of one patient (`report_sequences`)."""
        to_train, to_held_out = self.held_out_to_train, self.held_out_to_held_out
        of_control = Distances(to_train, to_held_out, to_train, to_held_out)
        found = {space: nearer_than_control(*of_control.of(space), self.level).threshold for space in SPACES}
        return found if self.reports is None else found | {"report_sequences": self.reports.threshold}

    def open(self, device: str) -> "OpenScreen":
        """Load the real images' descriptors and features, and the encoder. Raises CheckpointError."""
        return OpenScreen(self, torch.device(device))


class OpenScreen:
    """A screen loaded on a device."""

    def __init__(self, screen: Screen, device: torch.device) -> None:
        self._screen, self._device = screen, device
        self._extractor = screen.network.load(device)
        self._train = References.loaded(screen.train, device)
        self._held_out = References.loaded(screen.held_out, device)

    @torch.no_grad()
    def __call__(self, images_BHW: NDArray[np.uint8], reports: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
        """Which pairs (B,) an audit would withhold, by reason: of REASONS, those that are judged.

        A block of the same size and content is always judged alike.
        """
        return self._near(images_BHW) | self._told(reports)

    def _near(self, images_BHW: NDArray[np.uint8]) -> dict[str, NDArray[np.bool_]]:
        image_BHW = torch.from_numpy(images_BHW).to(self._device)
        ranks_BSS = ranked(image_BHW)
        features_BF = self._extractor(image_BHW[:, None]).half().float()  # the precision stored for real images
        to_train = nearest(ranks_BSS, features_BF, None, self._train)
        to_held_out = nearest(ranks_BSS, features_BF, None, self._held_out)
        screen = self._screen
        distances = Distances(to_train, to_held_out, screen.held_out_to_train, screen.held_out_to_held_out)
        found = find_near_images(distances, screen.level)
        return {f"image_{space}": found.spaces[space].flagged for space in SPACES}

    def _told(self, reports: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
        found = traces(pa.array(reports, pa.string()))
        told = {kind: found[kind] for kind in IDENTIFYING}
        if self._screen.reports is None:
            return told
        copied = self._screen.reports.judge(read_reports(reports))
        return {COPIED_REPORT: copied.flagged} | told
