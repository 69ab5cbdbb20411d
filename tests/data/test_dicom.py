"""DICOM images: the values are pydicom's own, every compression gives the same image, and the rest has a reason."""

import struct
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from pydicom.config import IGNORE
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut, convert_color_space
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    RLELossless,
)

from emixer.data.encoded_size import encoded_size
from emixer.data.image_error import ImageError
from emixer.data.images import read_image
from emixer.errors import ConfigError
from tests.data.dicom_files import (
    SECRET,
    compressed,
    dicom_bytes,
    dicom_dataset,
    dicom_file,
    jpeg_2000,
    jpeg_lossless,
    jpeg_ls,
    stored,
    table,
)

SIDE = 16


def image(bits: int, *, signed: bool = False, side: int = SIDE) -> np.ndarray:
    """Random values over the whole depth, both ends among them."""
    lowest = -(2 ** (bits - 1)) if signed else 0
    pixels = np.random.default_rng(bits).integers(lowest, lowest + 2**bits, (side, side))
    pixels.flat[:2] = lowest, lowest + 2**bits - 1
    return pixels.astype(np.int32 if signed else np.uint32)


def shown(content: bytes) -> np.ndarray:
    return read_image(content, SIDE, "crop").pixels_SS


def rounded(shades: np.ndarray) -> np.ndarray:
    return np.floor(np.clip(shades, 0, 1) * 255 + 0.5)


HALVED = {"RescaleSlope": 0.5, "RescaleIntercept": 7}
CURVE = np.arange(1024) ** 2 // 1024


@pytest.mark.parametrize(
    ("bits", "signed", "elements", "black", "white"),
    [
        (12, False, {"WindowCenter": 1500, "WindowWidth": 2000}, 0, 4095),
        (10, False, {"WindowCenter": [600, 100], "WindowWidth": [300, 10]}, 0, 1023),
        (14, False, {"WindowCenter": 9000, "WindowWidth": 1, "VOILUTFunction": "LINEAR_EXACT"}, 0, 16383),
        (12, False, {"WindowCenter": 2048, "WindowWidth": 1000, "VOILUTFunction": "SIGMOID"}, 0, 4095),
        (16, False, {"WindowCenter": 20000, "WindowWidth": 30000, **HALVED}, 7, 32774.5),
        (12, True, {"WindowCenter": 100, "WindowWidth": 2500}, -2048, 2047),
        (8, False, {"WindowCenter": 120, "WindowWidth": 90}, 0, 255),
        (10, False, {"VOILUTSequence": [table(CURVE * 4, 12)]}, 0, 4 * 1022),
        (10, False, {"VOILUTSequence": [table(CURVE[:600], 10, first=200)], "WindowCenter": 1}, 0, 350),
        (10, False, {"VOILUTSequence": [table(CURVE, 16)], "RescaleSlope": 1, "RescaleIntercept": -5}, 0, 1022),
        (
            10,
            False,
            {"ModalityLUTSequence": [table(CURVE, 16)], "WindowCenter": 500, "WindowWidth": 700, "RescaleType": "US"},
            0,
            65535,
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_values_are_those_of_pydicoms_own_functions(
    bits: int, signed: bool, elements: dict[str, Any], black: float, white: float, photometric: str
) -> None:
    header = dicom_dataset(image(bits, signed=signed), bits, **elements, PhotometricInterpretation=photometric)
    content = dicom_bytes(header)
    values = apply_modality_lut(header.pixel_array, header)
    if "VOILUTSequence" in elements:
        values = values.astype(np.int64)
    shades = (apply_voi_lut(values, header).astype(float) - black) / (white - black)
    expected = rounded(shades) if photometric == "MONOCHROME2" else 255 - rounded(shades)
    assert len(np.unique(expected)) > 1
    np.testing.assert_array_equal(shown(content), expected)


def test_a_window_worked_out_by_hand() -> None:
    # a window of 101 values about 150 shows 100 to 199.x: PS3.3 C.11.2.1.2.1 with c - 0.5 and w - 1
    pixels = np.array([[0, 100], [150, 4095]], np.uint16)
    content = dicom_file(pixels, 12, WindowCenter=150, WindowWidth=101)
    half = (150 - 149.5) / 100 + 0.5
    low = (100 - 149.5) / 100 + 0.5
    np.testing.assert_array_equal(
        read_image(content, 2, "crop").pixels_SS, [[0, round(low * 255)], [round(half * 255), 255]]
    )


def test_tables_that_pydicom_reads_wrongly_or_not_at_all() -> None:
    pixels = np.array([[0, 300], [2000, 4095]], np.uint16)
    eight_bits = table(np.arange(4096) // 16, 8)
    np.testing.assert_array_equal(
        read_image(dicom_file(pixels, 12, VOILUTSequence=[eight_bits]), 2, "crop").pixels_SS, [[0, 18], [125, 255]]
    )
    twelve_bits = dicom_file(
        pixels, 12, ModalityLUTSequence=[table(np.arange(4096), 12)], WindowCenter=2048, WindowWidth=4096
    )
    np.testing.assert_array_equal(read_image(twelve_bits, 2, "crop").pixels_SS, rounded(pixels / 4095))


def test_without_a_window_deep_images_have_the_range_of_all_but_their_extremes() -> None:
    pixels = np.arange(1000, 1400, dtype=np.uint16).reshape(20, 20)
    pixels[0, 0], pixels[19, 19] = 65535, 0
    expected = rounded((pixels.astype(float) - 1002) / (1397 - 1002))
    np.testing.assert_array_equal(read_image(dicom_file(pixels, 16), 20, "crop").pixels_SS, expected)
    falling = dicom_file(pixels, 16, RescaleSlope=-2, RescaleIntercept=9000)
    np.testing.assert_array_equal(read_image(falling, 20, "crop").pixels_SS, 255 - expected)
    for width in (0, 1):  # of one value, a linear window would leave black and white
        no_width = dicom_file(pixels, 16, WindowCenter=1200, WindowWidth=width)
        np.testing.assert_array_equal(read_image(no_width, 20, "crop").pixels_SS, expected)


def test_eight_bit_images_without_a_window_keep_their_values_and_colour_becomes_luma() -> None:
    pixels = np.array([[3, 50], [120, 200]], np.uint8)
    np.testing.assert_array_equal(read_image(dicom_file(pixels, 8), 2, "crop").pixels_SS, pixels)
    colour = np.zeros((2, 2, 3), np.uint8)
    colour[0, 0], colour[1, 1] = (255, 0, 0), (0, 255, 0)
    content = dicom_file(colour, 8, SamplesPerPixel=3, PlanarConfiguration=0, PhotometricInterpretation="RGB")
    shown = read_image(content, 2, "crop").pixels_SS
    np.testing.assert_array_equal(shown, [[76, 0], [0, 150]])  # 0.299 and 0.587 of 255


JFIF = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
ADOBE_YCC = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\1"


def colour_dataset(photometric: str) -> Dataset:
    colours = np.random.default_rng(3).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    elements = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": photometric}
    return dicom_dataset(colours, 8, **elements)


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
@pytest.mark.parametrize(
    "compress",
    [
        jpeg_lossless, jpeg_ls, partial(jpeg_lossless, marker=JFIF), partial(jpeg_lossless, marker=ADOBE_YCC),
        partial(jpeg_lossless, first_id=0), partial(jpeg_lossless, first_id=ord("R")),
    ],
)  # fmt: skip
def test_colour_in_lossless_compressions_becomes_the_luma_of_what_pydicom_reads_uncompressed(
    compress: Callable[[Dataset], Dataset], photometric: str
) -> None:
    native = colour_dataset(photometric)
    colours_HWC = pixel_array(native)  # pydicom converts YBR_FULL to RGB
    if photometric == "YBR_FULL":
        raw_HWC = pixel_array(native, raw=True)
        np.testing.assert_array_equal(colours_HWC, convert_color_space(raw_HWC, "YBR_FULL", "RGB"))
    expected = np.asarray(Image.fromarray(colours_HWC).convert("L"))
    np.testing.assert_array_equal(shown(dicom_bytes(native)), expected)
    np.testing.assert_array_equal(shown(dicom_bytes(compress(native))), expected)


def test_colour_of_more_than_eight_bits_and_streams_of_another_number_of_colours_are_listed() -> None:
    header = jpeg_lossless(colour_dataset("RGB"))
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    with pytest.raises(ImageError, match=r"^DICOM is damaged or cut short$"):
        read_image(dicom_bytes(header), SIDE, "crop")
    elements = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": "RGB"}
    deep = dicom_dataset(np.zeros((SIDE, SIDE, 3), np.uint16), 12, **elements)
    with pytest.raises(ImageError, match=f"^{NOT_READ}$"):
        read_image(dicom_bytes(jpeg_lossless(deep)), SIDE, "crop")


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_every_lossless_compression_gives_the_same_image(bits: int) -> None:
    def header() -> Dataset:
        return dicom_dataset(image(bits, side=64), bits, WindowCenter=2 ** (bits - 1), WindowWidth=2**bits)

    expected = read_image(dicom_bytes(header()), 64, "crop").pixels_SS
    run_lengths = header()
    run_lengths.compress(RLELossless, generate_instance_uid=False)
    for image_file in (run_lengths, jpeg_lossless(header()), jpeg_ls(header()), jpeg_2000(header())):
        np.testing.assert_array_equal(read_image(dicom_bytes(image_file), 64, "crop").pixels_SS, expected)


def test_negative_values_survive_compression() -> None:
    def header() -> Dataset:
        return dicom_dataset(image(12, signed=True, side=64), 12, WindowCenter=100, WindowWidth=2500)

    expected = read_image(dicom_bytes(header()), 64, "crop").pixels_SS
    for image_file in (_twelve_bits(header(), jpeg_lossless), _twelve_bits(header(), jpeg_2000)):
        np.testing.assert_array_equal(read_image(dicom_bytes(image_file), 64, "crop").pixels_SS, expected)


def _twelve_bits(header: Dataset, compress: Callable[[Dataset], Dataset]) -> Dataset:
    """Compressed from two's complement of 12 bits, without the sign's copies above them."""
    header.PixelData = (stored(header) & 0xFFF).tobytes()
    return compress(header)


@pytest.mark.parametrize(("bits", "syntax"), [(8, JPEGBaseline8Bit), (12, JPEGExtended12Bit)])
def test_lossy_jpeg_of_a_smooth_image_is_nearly_the_original(bits: int, syntax: str) -> None:
    smooth = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint16) * 2**bits // 128
    header = dicom_dataset(smooth, bits, WindowCenter=2 ** (bits - 1), WindowWidth=2**bits)
    expected = read_image(dicom_bytes(header), 64, "crop").pixels_SS.astype(int)
    stream = imagecodecs.jpeg8_encode(stored(header), level=98, bitspersample=bits)
    shown = read_image(dicom_bytes(compressed(header, stream, syntax)), 64, "crop").pixels_SS
    assert np.abs(shown - expected).max() <= 3


@pytest.mark.parametrize("compress", [jpeg_lossless, jpeg_ls, jpeg_2000])
def test_a_stream_of_another_size_than_its_header_says_is_damaged_before_a_decoder_believes_it(
    compress: Callable[[Dataset], Dataset],
) -> None:
    header = compress(dicom_dataset(image(12), 12))
    header.Rows = 65535
    with pytest.raises(ImageError, match=r"^DICOM is damaged or cut short$"):
        read_image(dicom_bytes(header), SIDE, "crop")


def test_the_declared_size_of_a_stream() -> None:
    def frame(rows: int, columns: int) -> bytes:
        return b"\xff\xc3" + struct.pack(">HBHHB", 8, 12, rows, columns, 1)

    comment, scan = b"\xff\xfe\0\x05abc", b"\xff\xda\0\x02"
    assert encoded_size(b"\xff\xd8" + comment + b"\xff" + frame(48, 40) + scan) == (48, 40, 1)
    assert encoded_size(b"\xff\xd8" + frame(48, 40) + frame(48, 40) + scan) is None
    assert encoded_size(b"\xff\xd8" + comment + scan + frame(48, 40)) is None
    assert encoded_size(b"\xff\xd8" + comment) is None
    codestream = b"\xff\x4f\xff\x51" + struct.pack(">HHIIII16xH", 47, 0, 50, 60, 10, 12, 3)
    assert encoded_size(codestream) == encoded_size(b"\0\0\0\x0cjP  box" + codestream) == (48, 40, 3)


NO_PIXELS = "DICOM holds no pixels, or is cut short before them"
NOT_READ = "unsupported DICOM pixel format"
WHOLE = dicom_file(image(12), 12)
PRESENTATION_STATE = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.11.1", "Modality": "PR", "PixelData": None}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (WHOLE[: len(WHOLE) // 2 + 200], "DICOM is damaged or cut short"),
        (WHOLE[:200], f"DICOM is damaged or cut short|{NO_PIXELS}"),
        (dicom_bytes(jpeg_lossless(dicom_dataset(image(12), 12)))[:-200], NO_PIXELS),
        (dicom_file(image(12), 12, PixelData=None), NO_PIXELS),
        (dicom_file(image(12), 12, **PRESENTATION_STATE), "DICOM is a presentation state, not an image"),
        (dicom_file(image(12), 12, Modality="US"), r"DICOM is not a radiograph \(modality US\)"),
        (dicom_file(image(12), 12, Modality="SECRETNAME"), r"DICOM is not a radiograph \(modality unknown\)"),
        (dicom_file(image(12), 12, NumberOfFrames=2, Rows=8), "multi-frame DICOM"),
        (dicom_file(image(12), 12, Rows=60_000, Columns=60_000), "image is too large to be a radiograph"),
        (dicom_file(image(12), 12, HighBit=15), NOT_READ),
        (dicom_file(image(12), 12, PhotometricInterpretation="PALETTE COLOR"), NOT_READ),
        (dicom_file(np.full((8, 8), 70, np.uint16), 12), "image is one uniform value"),
        (dicom_file(image(12), 12, BitsStored=None), "DICOM is damaged or cut short"),
    ],
)  # fmt: skip
def test_what_is_no_usable_image_has_a_reason_without_a_word_of_the_header(content: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=f"^({reason})$") as caught:
        read_image(content, SIDE, "crop")
    assert SECRET.lower() not in str(caught.value).lower()


@pytest.mark.parametrize("lossy", [True, False])
@pytest.mark.parametrize("share", [0.9, 0.5, 0.2])
def test_a_jpeg_without_its_end_is_damaged_though_its_wrapper_is_whole(lossy: bool, share: float) -> None:
    """libjpeg fills up what is missing with gray and says so only in a warning."""
    pixels = image(8, side=64)
    header = dicom_dataset(pixels, 8)
    stream = imagecodecs.jpeg8_encode(pixels.astype(np.uint8)) if lossy else first_frame(jpeg_lossless(header))
    syntax = JPEGBaseline8Bit if lossy else JPEGLosslessSV1
    shown(dicom_bytes(compressed(dicom_dataset(pixels, 8), stream + b"\0" * 3, syntax)))
    with pytest.raises(ImageError, match="DICOM is damaged or cut short"):
        shown(dicom_bytes(compressed(dicom_dataset(pixels, 8), stream[: int(len(stream) * share)], syntax)))


def test_a_deflated_file_is_read_and_a_damaged_one_has_a_reason() -> None:
    header = dicom_dataset(image(12), 12)
    header.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    content = dicom_bytes(header)
    np.testing.assert_array_equal(shown(content), shown(WHOLE))
    with pytest.raises(ImageError, match="DICOM"):
        shown(content[: len(content) * 7 // 10])


def test_a_deflated_file_is_refused_before_it_is_inflated_to_more_than_any_image_needs() -> None:
    header = dicom_dataset(image(12), 12)
    header.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    whole = dicom_bytes(header)
    (meta_bytes,) = struct.unpack_from("<I", whole, 140)
    squeeze = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    size, zeros = 300 * 2**20, bytes(2**20)
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, size)
    deflated = [squeeze.compress(part) for part in (pixels, *[zeros] * (size // len(zeros)))]
    content = whole[: 144 + meta_bytes] + b"".join(deflated) + squeeze.flush()
    assert len(content) < 2_000_000
    with pytest.raises(ImageError, match="too large to be a radiograph"):
        shown(content)


@pytest.mark.parametrize("empty", [["VOILUTFunction"], ["RescaleSlope", "RescaleIntercept"], ["RescaleIntercept"]])
def test_elements_that_were_blanked_count_as_absent(empty: list[str]) -> None:
    window = {"WindowCenter": 1500, "WindowWidth": 2000}
    header = dicom_dataset(image(12), 12, **window, RescaleSlope=1 if empty == ["RescaleIntercept"] else None)
    for keyword in empty:
        setattr(header, keyword, "")
    np.testing.assert_array_equal(shown(dicom_bytes(header)), shown(dicom_file(image(12), 12, **window)))


def test_padding_does_not_decide_the_gray_range() -> None:
    """65535 around the anatomy is padding by its header, so that it does not turn all else black."""
    pixels = np.full((SIDE, SIDE), 65535, np.uint16)
    pixels[:, 4:] = np.arange(1000, 1000 + SIDE * 12).reshape(SIDE, 12)
    seen = shown(dicom_file(pixels, 16, PixelPaddingValue=65535))
    assert (seen[0, 4], seen[-1, -1]) == (0, 255)
    assert (seen[:, :4] == 255).all()
    of_a_range = shown(dicom_file(pixels, 16, PixelPaddingValue=60000, PixelPaddingRangeLimit=65535))
    np.testing.assert_array_equal(of_a_range, seen)
    assert shown(dicom_file(pixels, 16))[-1, -1] < 10


def first_frame(header: Dataset) -> bytes:
    return bytes(get_frame(header.PixelData, 0, number_of_frames=1))


def test_video_is_compressed_in_a_way_that_is_not_read() -> None:
    header = jpeg_lossless(dicom_dataset(image(12), 12))
    header.file_meta.TransferSyntaxUID = MPEG2MPML
    with pytest.raises(ImageError, match="unsupported DICOM transfer syntax"):
        read_image(dicom_bytes(header), SIDE, "crop")


def test_burnt_in_annotation_is_remarked() -> None:
    assert read_image(dicom_file(image(12), 12, BurnedInAnnotation="YES"), SIDE, "crop").remark is not None
    assert read_image(dicom_file(image(12), 12, BurnedInAnnotation="NO"), SIDE, "crop").remark is None
    assert read_image(WHOLE, SIDE, "crop").remark is None


@pytest.mark.parametrize(
    ("sex", "age", "known"),
    [
        ("F", "045Y", ("F", 45)), ("M", "51", ("M", 51)), ("m ", "7Y", ("M", 7)), ("O", "101Y", (None, 101)),
        ("F", "018M", ("F", 1)), ("F", "060W", ("F", 1)), ("M", "012D", ("M", 0)), ("M", "000D", ("M", 0)),
        ("", "", (None, None)), (None, None, (None, None)), ("X", "000Y", (None, None)), ("F", "0", ("F", None)),
        ("F", "121Y", ("F", None)), ("M", "-5Y", ("M", None)), ("M", "45 Y", ("M", None)),
        ("F\\M", "1e2", (None, None)),
    ],
)  # fmt: skip
def test_sex_and_age_of_a_header_are_read_and_nonsense_is_unknown(
    sex: str | None, age: str | None, known: tuple[str | None, int | None]
) -> None:
    header = dicom_dataset(image(12), 12)
    for keyword, representation, value in (("PatientSex", "CS", sex), ("PatientAge", "AS", age)):
        if value is not None:
            header.add(DataElement(keyword, representation, value, validation_mode=IGNORE))
    read = read_image(dicom_bytes(header), SIDE, "crop")
    assert (read.sex, read.age_years) == known


def test_elements_that_hold_no_text_cost_an_image_nothing_but_its_sex_and_age() -> None:
    header = dicom_dataset(image(12), 12)
    header.add(DataElement("PatientSex", "SQ", [Dataset()]))
    header.add(DataElement("PatientAge", "OB", b"\xff\xfe\0\x80"))
    header.add(DataElement("ViewPosition", "SQ", [Dataset()]))
    read = read_image(dicom_bytes(header), SIDE, "crop")
    assert (read.sex, read.age_years, read.view) == (None, None, None)
    np.testing.assert_array_equal(read.pixels_SS, shown(WHOLE))


def test_without_the_extra_one_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emixer.data.dicom.find_spec", lambda name: None if name == "imagecodecs" else object())
    with pytest.raises(ConfigError, match=r"not installed \(imagecodecs\)\. Run `pip install '\.\[dicom\]'`"):
        read_image(WHOLE, SIDE, "crop")
