"""The phantom in the layouts of published collections: each is read back by the source of that collection."""

import csv
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from emixer.config.ingest import (
    BraxSource,
    ChexpertSource,
    MimicCxrSource,
    NihCxr14Source,
    PadChestSource,
    RsnaPneumoniaSource,
    Source,
    VindrCxrSource,
)
from emixer.data.images import read_image
from emixer.data.phantom.collection import PhantomCollection, finish, write_block
from emixer.data.phantom.image_files import encode_png
from emixer.data.phantom.layouts import LAYOUTS
from emixer.data.phantom.study import Settings, make_study
from emixer.data.sections import findings_of, findings_or_whole, split_sections
from emixer.data.sources import read_collection

STUDIES = 24
SETTINGS = Settings(seed=4, height_px=96, duplicate_fraction=0.1)


def source_of(layout: str, root: Path) -> Source:
    """What reads it, with nothing to name but the folder."""
    if layout == "mimic-cxr":
        return MimicCxrSource(root=root, image_format="dicom", keep_missing_view=True)
    sources = {
        "mimic-cxr-jpg": MimicCxrSource, "nih-cxr14": NihCxr14Source, "chexpert": ChexpertSource,
        "padchest": PadChestSource, "vindr-cxr": VindrCxrSource, "rsna-pneumonia": RsnaPneumoniaSource,
        "brax": BraxSource,
    }  # fmt: skip
    source: Source = sources[layout](root=root)
    return source


@pytest.fixture(scope="module", params=LAYOUTS)
def drawn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp("layouts") / request.param
    collection = PhantomCollection(out, STUDIES, SETTINGS, layout=request.param)
    collection.begin()
    write_block(collection, 0, STUDIES)
    finish(collection)
    assert collection.is_complete()
    return request.param, out


def test_each_image_that_the_source_names_is_there_and_shows_what_was_drawn(drawn: tuple[str, Path]) -> None:
    layout, root = drawn
    collection = read_collection(source_of(layout, root))
    assert collection.source == "phantom"
    assert collection.images.num_rows > STUDIES * 0.9
    frontal = {"PA", "AP", "AP_horizontal", "", None}
    assert set(collection.images["view"].to_pylist()) <= frontal
    studies = [make_study(SETTINGS, index) for index in range(STUDIES)]
    plans = {plan.dicom_id: (study, plan) for study in studies for plan in study.images}
    factors = pq.read_table(root / "factors.parquet").to_pylist()
    path_of = {LAYOUTS[layout].image_path(row): row["dicom_id"] for row in factors}
    paths = collection.images["image_path"].to_pylist()
    assert set(paths) <= set(path_of)
    for path in paths[::8]:
        study, plan = plans[path_of[path]]
        shown = read_image((root / path).read_bytes(), 64, "squeeze").pixels_SS.astype(int)
        expected = read_image(encode_png(study.render(plan)), 64, "squeeze").pixels_SS.astype(int)
        tolerance = {".jpg": 15, ".png": 0}.get(Path(path).suffix, 1)  # 12 bits of DICOM are no multiple of 8
        if layout == "padchest":  # its 16-bit images have the range of all but their extremes
            assert np.corrcoef(shown.ravel(), expected.ravel())[0, 1] > 0.99
        else:
            assert np.abs(shown - expected).max() <= tolerance


def test_labels_of_every_layout_are_those_of_the_factors(drawn: tuple[str, Path]) -> None:
    layout, root = drawn
    collection = read_collection(source_of(layout, root))
    factors = {LAYOUTS[layout].image_path(row): row for row in pq.read_table(root / "factors.parquet").to_pylist()}
    # two of three readers of VinDr-CXR see the truth, and so does RSNA, where an opacity is no normal image
    truth = {"vindr-cxr": "true_cardiomegaly", "rsna-pneumonia": "true_no_finding"}
    named = {"rsna-pneumonia": "No Finding"}.get(layout, "Cardiomegaly")
    place = collection.label_names.index(named)
    images = collection.images.to_pylist()
    assert any(image["labels"] is not None and image["labels"][place] == 1 for image in images)
    for image in images:
        row = factors[image["image_path"]]
        if layout in truth:
            no_opacity = layout == "vindr-cxr" or not any(
                row[f"true_{name}"] for name in ("lung_opacity", "pneumonia", "consolidation")
            )
            assert image["labels"][place] == int(row[truth[layout]] and no_opacity)
        elif image["labels"] is not None:
            assert (image["labels"][place] == 1) == (row["stated_cardiomegaly"] == 1)


def test_an_interrupted_drawing_goes_on_and_gives_the_same_bytes(drawn: tuple[str, Path], tmp_path: Path) -> None:
    layout, root = drawn
    collection = PhantomCollection(tmp_path / "again", STUDIES, SETTINGS, layout=layout)
    collection.begin()
    write_block(collection, 0, 7)
    last = sorted(path for path in collection.out.rglob("*") if path.suffix in (".png", ".jpg", ".dcm", ".dicom"))[-1]
    (last.parent if layout.startswith("mimic") else last).rename(tmp_path / "lost")
    (collection.out / ".phantom/studies-00000000-00000007.parquet").unlink()
    for start, stop in collection.unfinished(10):
        write_block(collection, start, stop)
    finish(collection)
    for name in ("SHA256SUMS.txt", "factors.parquet"):
        assert (collection.out / name).read_bytes() == (root / name).read_bytes()


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if LAYOUTS[name].has_report_files])
def test_broken_files_are_listed_by_the_names_that_they_have(layout: str, tmp_path: Path) -> None:
    collection = PhantomCollection(
        tmp_path / "broken", 8, Settings(seed=4, height_px=96), broken_files=8, layout=layout
    )
    collection.begin()
    write_block(collection, 0, 8)
    finish(collection)
    with (collection.out / "broken.csv").open() as file:
        damaged = {row["damage"]: row["path"] for row in csv.DictReader(file)}
    assert len(damaged) == 8
    assert [damage for damage, path in damaged.items() if not (collection.out / path).exists()] == ["missing report"]


def test_the_rsna_layout_says_whose_images_they_are(drawn: tuple[str, Path]) -> None:
    layout, root = drawn
    if layout != "rsna-pneumonia":
        pytest.skip("has patients of its own, or none")
    mapping = root / "pneumonia-challenge-dataset-mappings_2018.json"
    images = read_collection(RsnaPneumoniaSource(root=root, nih_mapping=mapping)).images.to_pylist()
    factors = {LAYOUTS[layout].image_path(row): row for row in pq.read_table(root / "factors.parquet").to_pylist()}
    assert all(image["subject_id"] == factors[image["image_path"]]["subject_id"] for image in images)
    assert mapping.name in (root / "SHA256SUMS.txt").read_text()


def test_the_chexpert_layout_comes_with_the_reports_of_chexpert_plus(drawn: tuple[str, Path]) -> None:
    layout, root = drawn
    if layout != "chexpert":
        pytest.skip("has reports in files, or none")
    plus = root / "df_chexpert_plus_240401.csv"
    images = read_collection(ChexpertSource(root=root, reports=plus, views=("Frontal", "Lateral"))).images.to_pylist()
    factors = {LAYOUTS[layout].image_path(row): row for row in pq.read_table(root / "factors.parquet").to_pylist()}
    assert len(images) == len(factors)
    found = set()
    for image in images:
        report = make_study(SETTINGS, factors[image["image_path"]]["study_index"]).report
        found.add(report.layout)
        if report.layout == "no header":
            assert image["report"] is None
            continue
        # the text that MIMIC-CXR's file of the same study comes to
        expected = findings_of(report.text, "impression-or-last-paragraph")
        assert findings_or_whole(image["report"], "impression-or-last-paragraph") == expected
        names = {section.name for section in split_sections(image["report"])} - {""}
        assert names == {section.name for section in split_sections(report.text)} & {"findings", "impression"}
    assert {"findings and impression", "impression only"} <= found
    assert plus.name in (root / "SHA256SUMS.txt").read_text()


def test_layouts_that_know_people_tell_the_sex_and_age_that_are_drawn(drawn: tuple[str, Path]) -> None:
    layout, root = drawn
    source = source_of(layout, root)
    if layout.startswith("mimic"):
        source = source.model_copy(update={"patients": root / "patients.csv.gz"})
    anatomy = {plan.dicom_id: plan.anatomy for i in range(STUDIES) for plan in make_study(SETTINGS, i).images}
    factors = {LAYOUTS[layout].image_path(row): row for row in pq.read_table(root / "factors.parquet").to_pylist()}
    collection = read_collection(source)
    images = collection.images.to_pylist()
    if collection.from_headers:
        for image in images:
            assert image["sex"] is image["age_years"] is None
            read = read_image((root / image["image_path"]).read_bytes(), 16, "squeeze")
            image |= {"sex": read.sex, "age_years": read.age_years}
    assert {image["sex"] for image in images} == {"F", "M"}
    for image in images:
        row = factors[image["image_path"]]
        body = anatomy[row["dicom_id"]]
        assert (image["sex"] == "F") == (body.breast > 0)
        if layout == "brax":  # groups of five years
            assert image["age_years"] == min(85, body.age_years // 5 * 5)
            continue
        # an age is that of the first study: later ones of the same patient may be of the next year
        assert 0 <= image["age_years"] - body.age_years <= (2 if layout.startswith("mimic") else 0)
