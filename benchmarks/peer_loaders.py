"""Loaders of other projects, each as its documentation has it; run by benchmarks/peers.py in their environments.

    python peer_loaders.py SOURCE PEER FORM MIN_CPU_S SIDE...       prints a JSON line for each cell of the table

All run in this process, without workers, where they need the fewest CPU seconds: nothing is copied between processes.
Their images arrive one by one and are put together by torch's own collate function, or in batches where they offer it.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peer_measure import BATCH, Batch, Known, Loader, as_batch, measured, resumes
from PIL import Image


def array_of(image: Any) -> np.ndarray:
    """Of a PIL image, or what is an array already."""
    return np.array(image)


class Streaming(Loader):
    """MosaicML Streaming: MDS shards, `png` or `ndarray` encoding, StreamingDataLoader."""

    @staticmethod
    def write(folder: Path, images: np.ndarray, pngs: list[Path], reports: list[str], form: str) -> None:
        from streaming import MDSWriter

        encoding = "png" if form == "PNG" else f"ndarray:uint8:{images.shape[1]},{images.shape[2]}"
        with MDSWriter(out=str(folder), columns={"image": encoding, "report": "str"}) as out:
            for image, png, report in zip(images, pngs, reports, strict=True):
                out.write({"image": Image.open(png) if form == "PNG" else image, "report": report})

    def __init__(self, folder: Path, form: str, with_reports: bool) -> None:
        from streaming import StreamingDataLoader, StreamingDataset
        from streaming.base.util import clean_stale_shared_memory

        class Dataset(StreamingDataset):
            def __getitem__(self, index: int) -> Any:
                sample = super().__getitem__(index)
                image = torch.from_numpy(array_of(sample["image"]))
                return {"image": image, "report": sample["report"]} if with_reports else {"image": image}

        clean_stale_shared_memory()
        self._dataset = Dataset(local=str(folder), shuffle=True, shuffle_seed=1, batch_size=BATCH)
        self._loader = StreamingDataLoader(self._dataset, batch_size=BATCH)

    def epoch(self) -> Iterator[Batch]:
        for batch in self._loader:
            yield Batch(as_batch(batch["image"]), batch.get("report"))

    def state(self) -> Any:
        return self._loader.state_dict()

    def restore(self, state: Any) -> None:
        self._loader.load_state_dict(state)

    def close(self) -> None:
        from streaming.base.util import clean_stale_shared_memory

        del self._loader, self._dataset
        clean_stale_shared_memory()


def _lit_sample(row: int, source: Path, reports: Path) -> dict[str, Any]:
    """What `optimize` stores of a row."""
    return {
        "image": Image.open(source / "png" / "all" / f"{row:07d}.png"),
        "report": json.loads(reports.read_text())[row],
    }


class LitData(Loader):
    """LitData: `optimize` of PIL images, which it stores raw, StreamingDataset and StreamingDataLoader."""

    @staticmethod
    def write(folder: Path, images: np.ndarray, pngs: list[Path], reports: list[str], form: str) -> None:
        import litdata

        source = pngs[0].parents[2]
        sample = partial(_lit_sample, source=source, reports=source.parent / "reports.json")
        litdata.optimize(sample, list(range(len(images))), str(folder), chunk_bytes="8MB", num_workers=1, verbose=False)

    def __init__(self, folder: Path, form: str, with_reports: bool) -> None:
        import litdata

        class Dataset(litdata.StreamingDataset):
            def __getitem__(self, index: Any) -> Any:
                sample = super().__getitem__(index)
                image = torch.from_numpy(array_of(sample["image"]))
                return {"image": image, "report": sample["report"]} if with_reports else {"image": image}

        self._dataset = Dataset(str(folder), shuffle=True, seed=1)
        self._loader = litdata.StreamingDataLoader(self._dataset, batch_size=BATCH, shuffle=True)

    def epoch(self) -> Iterator[Batch]:
        for batch in self._loader:
            yield Batch(as_batch(batch["image"]), batch.get("report"))

    def state(self) -> Any:
        return self._loader.state_dict()

    def restore(self, state: Any) -> None:
        self._loader.load_state_dict(state)


class WebDataset(Loader):
    """WebDataset: tar files of PNG or npy, and txt; shuffled shards and a shuffle buffer."""

    @staticmethod
    def write(folder: Path, images: np.ndarray, pngs: list[Path], reports: list[str], form: str) -> None:
        import webdataset

        with webdataset.ShardWriter(str(folder / "%06d.tar"), maxcount=500, verbose=0) as out:
            for row, (image, png, report) in enumerate(zip(images, pngs, reports, strict=True)):
                stored = {"png": png.read_bytes()} if form == "PNG" else {"npy": image}
                out.write({"__key__": f"{row:07d}", "txt": report, **stored})

    def __init__(self, folder: Path, form: str, with_reports: bool) -> None:
        import webdataset

        wanted = ["png" if form == "PNG" else "npy", *(["txt"] if with_reports else [])]
        files = [str(path) for path in sorted(folder.glob("*.tar"))]
        dataset = webdataset.WebDataset(files, shardshuffle=100, seed=1, empty_check=False)
        self._dataset = dataset.shuffle(1000, seed=1).decode("l8").to_tuple(*wanted).batched(BATCH)

    def epoch(self) -> Iterator[Batch]:
        for image, *report in self._dataset:
            yield Batch(as_batch(np.stack(list(image))), report[0] if report else None)


class HuggingFace(Loader):
    """Hugging Face datasets: Arrow files with `Image`, as an IterableDataset with a shuffle buffer."""

    @staticmethod
    def write(folder: Path, images: np.ndarray, pngs: list[Path], reports: list[str], form: str) -> None:
        import datasets

        stored = [{"bytes": png.read_bytes(), "path": None} for png in pngs]
        features = datasets.Features({"image": datasets.Image(), "report": datasets.Value("string")})
        made = datasets.Dataset.from_dict({"image": stored, "report": reports}, features=features)
        made.save_to_disk(str(folder), num_shards=8)

    def __init__(self, folder: Path, form: str, with_reports: bool) -> None:
        import datasets

        datasets.disable_progress_bars()
        stored = datasets.load_from_disk(str(folder))
        stored = stored if with_reports else stored.select_columns(["image"])
        shuffled = stored.to_iterable_dataset(num_shards=8).shuffle(seed=1, buffer_size=1000)
        self._dataset = shuffled.with_format("numpy")

    def epoch(self) -> Iterator[Batch]:
        for batch in self._dataset.iter(batch_size=BATCH):
            images = np.stack([array_of(image) for image in batch["image"]])
            yield Batch(as_batch(images), list(batch["report"]) if "report" in batch else None)

    def state(self) -> Any:
        return self._dataset.state_dict()

    def restore(self, state: Any) -> None:
        self._dataset.load_state_dict(state)


class Spdl(Loader):
    """SPDL: files in a shuffled order, decoded a batch at a time by its threads; reports are read from memory."""

    @staticmethod
    def write(folder: Path, images: np.ndarray, pngs: list[Path], reports: list[str], form: str) -> None:
        folder.mkdir()
        (folder / "all").symlink_to(pngs[0].parent)
        (folder / "reports.json").write_text(json.dumps(reports))

    def __init__(self, folder: Path, form: str, with_reports: bool) -> None:
        self._files = sorted(str(path) for path in (folder / "all").iterdir())
        self._side = Image.open(self._files[0]).size[0]
        self._reports = json.loads((folder / "reports.json").read_text()) if with_reports else None
        self._random = np.random.default_rng(1)

    def epoch(self) -> Iterator[Batch]:
        from spdl.pipeline import PipelineBuilder

        rows = self._random.permutation(len(self._files)).tolist()
        pipeline = (
            PipelineBuilder().add_source(rows).aggregate(BATCH).pipe(self._decode, concurrency=2).add_sink(3)
        ).build(num_threads=2)
        with pipeline.auto_stop():
            yield from pipeline

    def _decode(self, rows: list[int]) -> Batch:
        import spdl.io

        files = [self._files[row] for row in rows]
        decoded = spdl.io.load_image_batch(files, width=self._side, height=self._side, pix_fmt="gray")
        image = spdl.io.to_numpy(decoded)
        reports = None if self._reports is None else [self._reports[row] for row in rows]
        return Batch(as_batch(image.reshape(len(rows), self._side, self._side)), reports)


class ImageFolder(Loader):
    """torchvision ImageFolder and torch's DataLoader, with a loader that reads gray; it has no reports."""

    without_reports = True

    write = Spdl.write

    def __init__(self, folder: Path, form: str, with_reports: bool) -> None:
        from torchvision.datasets import ImageFolder as Folder

        dataset = Folder(str(folder), loader=lambda path: torch.from_numpy(array_of(Image.open(path))))
        shuffled = torch.Generator().manual_seed(1)
        self._loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH, shuffle=True, generator=shuffled)

    def epoch(self) -> Iterator[Batch]:
        for image, _ in self._loader:
            yield Batch(as_batch(image), None)

    def state(self) -> Any:
        return self._loader.state_dict() if hasattr(self._loader, "state_dict") else None


PEERS: dict[str, Any] = {
    "streaming": Streaming, "litdata": LitData, "webdataset": WebDataset, "datasets": HuggingFace, "spdl": Spdl,
    "imagefolder": ImageFolder,
}  # fmt: skip


def compare(
    open_loader: Callable[[bool], Loader], known: Known, min_cpu_s: float, has_reports: bool, facts: dict[str, Any]
) -> None:
    """Prints a line with the costs of images alone, and one of images with reports."""
    for with_reports in (False, True) if has_reports else (False,):
        loader = open_loader(with_reports)
        found = measured(loader, known, min_cpu_s)
        loader.close()
        print(json.dumps(facts | {"reports": with_reports} | found), flush=True)
    print(json.dumps(facts | {"resume": resumes(partial(open_loader, False), known)}), flush=True)


def main() -> None:
    """Writes the peer's own form of the data, then measures."""
    source, peer, form, min_cpu_s = Path(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4])
    torch.set_num_threads(1)
    kind = PEERS[peer]
    for side in map(int, sys.argv[5:]):
        images = np.load(source / str(side) / "images.npy", mmap_mode="r")
        pngs = sorted((source / str(side) / "png" / "all").iterdir())
        reports = json.loads((source / "reports.json").read_text())[: len(images)]
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "data"
            if peer == "webdataset":
                folder.mkdir()
            kind.write(folder, images, pngs, reports, form)
            known = Known(source / str(side) / "images.npy")
            facts = {"peer": peer, "form": form, "side_px": side}
            compare(partial(kind, folder, form), known, min_cpu_s, not hasattr(kind, "without_reports"), facts)
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
