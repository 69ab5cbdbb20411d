"""A real server process over plain HTTP: its pairs, its files, and what it refuses."""

import asyncio
import base64
import io
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from emixer.config import load_config
from emixer.errors import CheckpointError, ConfigError, RunFolderError
from emixer.generation.dataset_files import DATA_FOLDER
from emixer.generation.sampler import Sampler
from emixer.live.drawing import DrawingThread
from emixer.live.limits import RateLimit
from emixer.stages import generate, serve
from emixer.web.requests import RefusedError
from tests.live.conftest import LABELS
from tests.live.live_server import LiveServer


def decoded(encoded: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(encoded)))


def images_of(pairs: list[dict[str, Any]]) -> NDArray[np.uint8]:
    return np.stack([decoded(base64.b64decode(pair["image"].partition(",")[2])) for pair in pairs])


@pytest.mark.ray
def test_pairs_match_those_of_generate_with_the_same_seed_and_labels(
    live: LiveServer, live_run: Path, tmp_path: Path, ray_cluster: None
) -> None:
    asked = {"labels": ["Edema", "Pleural_Thickening"], "seed": 7, "view": "PA"}
    settings = {f"generate.{name}": value for name, value in (asked | {"num": 6, "run": live_run}).items()}
    generate.run(load_config(extra=settings | {"generate.out": tmp_path / "pairs", "generate.use_gpu": False}))
    (file,) = (tmp_path / "pairs" / DATA_FOLDER).glob("*.parquet")
    written = pq.read_table(file)
    pairs = live.draw(num=6, **asked).json["pairs"]
    np.testing.assert_array_equal(images_of(pairs), [decoded(row["bytes"]) for row in written["image"].to_pylist()])
    assert [pair["report"] for pair in pairs] == written["report"].to_pylist()
    saved = live.download("parquet", num=6, **asked)
    assert pq.read_table(io.BytesIO(saved.body)).equals(written)


def test_swap_changes_the_label_but_neither_noise_nor_conditions(live: LiveServer, live_sampler: Sampler) -> None:
    # drawn afresh, a pair without edema would be of a man: only women's conditions go with edema in training
    asked = {"kind": "swap", "labels": ["Edema"], "swapped": "Edema", "num": 2, "seed": 3}
    pairs = live.draw(**asked).json["pairs"]
    assert [pair["caption"] for pair in pairs] == [["Edema", "F", "PA"], ["no label", "F", "PA"]] * 2
    assert [pair["row"] for pair in pairs] == [0, 0, 1, 1]
    np.testing.assert_array_equal(images_of(pairs[::2]), live_sampler.sample(["Edema"], 2, seed=3).images)
    without = live_sampler.sample([], 2, seed=3, sex="F", view="PA")
    np.testing.assert_array_equal(images_of(pairs[1::2]), without.images)
    table = pq.read_table(io.BytesIO(live.download("parquet", **asked).body))
    assert table["Edema"].to_pylist() == [1, 0, 1, 0]
    assert table["index"].to_pylist() == [0, 0, 1, 1]


def test_interpolation_leads_from_one_pair_to_the_other(live: LiveServer, live_sampler: Sampler) -> None:
    asked = {"kind": "interpolation", "labels": ["Edema"], "to_labels": ["No Finding"], "steps": 6, "sex": "M"}
    pairs = live.draw(**asked, view="AP").json["pairs"]
    images = images_of(pairs).astype(int)
    assert [pair["caption"][0] for pair in pairs] == ["0%", "20%", "40%", "60%", "80%", "100%"]
    for place, labels in ((0, ["Edema"]), (-1, ["No Finding"])):
        np.testing.assert_array_equal(images[place], live_sampler.sample(labels, 1, sex="M", view="AP").images[0])
    steps = np.abs(np.diff(images, axis=0)).mean(axis=(1, 2))
    assert steps.max() < np.abs(images[-1] - images[0]).mean()


def test_sheet_is_a_picture_of_all_pairs(live: LiveServer) -> None:
    made = live.download("png", num=5, labels=["Edema"])
    assert made.headers["content-type"] == "image/png"
    few = live.download("png", num=4, labels=["Edema"])
    assert decoded(made.body).shape[0] > decoded(few.body).shape[0]


@pytest.mark.parametrize(
    ("asked", "status", "message"),
    [
        ({"num": 17}, 413, "17 pairs are more than this page draws at once. Ask for at most 16; `emixer generate`"),
        ({"num": 0}, 422, "num: Input should be greater than or equal to 1"),
        ({"seed": -1}, 422, "seed: "),
        ({"temperature": 9}, 422, "temperature: "),
        ({"labels": ["Oedema"]}, 422, "The model has no label 'Oedema'. Did you mean Edema"),
        ({"sex": "X"}, 422, "Its images have F, M"),
        ({"age": "40-59"}, 422, "The model is not conditioned on age"),
        ({"kind": "swap"}, 422, "Choose the label that is to be swapped"),
        ({"kind": "interpolation", "steps": 8}, 422, "steps: "),
        ({"unknown": 1}, 422, "unknown: "),
    ],
)
def test_invalid_requests_are_refused_with_the_reason(
    live: LiveServer, asked: dict[str, Any], status: int, message: str
) -> None:
    answer = live.draw(**asked)
    assert (answer.status, message in answer.json["message"]) == (status, True), answer.json


def test_interpolations_cannot_be_downloaded_as_a_dataset(live: LiveServer) -> None:
    answer = live.download("parquet", kind="interpolation", labels=["Edema"])
    assert answer.status == 422
    assert "labels are 0 or 1" in answer.json["message"]
    assert live.download("exe").status == 404


def test_overlong_or_malformed_body_is_refused(live: LiveServer) -> None:
    assert live.ask("/api/draw", live.token, b"[" * 2**17).status == 413
    assert live.ask("/api/draw", live.token, b"{").status == 422


@pytest.mark.parametrize("path", ["/api/model", "/api/draw", "/api/download/png"])
def test_nothing_of_the_model_is_revealed_without_the_token(live: LiveServer, path: str) -> None:
    sent = None if path == "/api/model" else {}
    for token in (None, "wrong", live.token[:-1]):
        answer = live.ask(path, token, sent)
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    page = live.ask("/").body.decode()
    assert not any(label in page for label in LABELS)
    assert "not for diagnosis or any other clinical use" in page


@pytest.fixture(scope="module")
def limited(live_run: Path) -> Iterator[LiveServer]:
    """Two draws a minute, behind a proxy."""
    more = ("--draws-per-minute", "2", "--url", "https://models.example.org/live")
    with closing(LiveServer(live_run, *more, address="https://models.example.org/live/#")) as server:
        yield server


def test_draws_beyond_the_limit_per_minute_are_refused(limited: LiveServer) -> None:
    refused = [limited.draw(labels=["Oedema"]).status, limited.draw(num=17).status]
    refused.append(limited.download("parquet", kind="interpolation").status)
    assert refused == [422, 413, 422]
    assert [limited.draw(num=1).status for _ in range(2)] == [200, 200]  # a refused request does not count
    answer = limited.draw(num=1)
    assert answer.status == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert "at most 2 times a minute" in answer.json["message"]
    assert limited.ask("/api/model", limited.token).status == 200


def test_link_behind_a_proxy_is_that_of_the_proxy_with_the_token(limited: LiveServer) -> None:
    assert limited.link == f"https://models.example.org/live/#{limited.token}"
    assert len(limited.token) == 24
    assert limited.ask("/api/model", limited.token).status == 200


def test_slash_too_many_is_not_redirected_to_the_host_that_was_named(live: LiveServer) -> None:
    answer = live.ask("/api/model/", live.token)
    assert (answer.status, answer.headers.get("location")) == (404, None)


def test_drawing_leaves_the_event_loop_free_and_refuses_a_ninth_request(live_sampler: Sampler) -> None:
    may_end = threading.Event()

    async def visit(drawing: DrawingThread) -> list[bool]:
        waiting = [asyncio.create_task(drawing.run(lambda: may_end.wait(60))) for _ in range(8)]
        await asyncio.sleep(0)
        with pytest.raises(RefusedError, match="8 others are waiting") as refused:
            await drawing.run(lambda: None)
        assert (refused.value.status, refused.value.retry_after_s) == (429, 2)
        may_end.set()  # the loop got here while the first was at work
        done = await asyncio.gather(*waiting)
        assert await drawing.run(threading.current_thread) is not threading.current_thread()
        return done

    with closing(DrawingThread(live_sampler, torch.get_num_threads())) as drawing:
        assert asyncio.run(visit(drawing)) == [True] * 8


def test_too_little_gpu_memory_is_a_refusal_and_does_not_count(
    live_sampler: Sampler, caplog: pytest.LogCaptureFixture
) -> None:
    def draw_too_much() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nMore.")

    with (
        closing(DrawingThread(live_sampler, torch.get_num_threads())) as drawing,
        pytest.raises(RefusedError, match="too little free memory") as refused,
    ):
        asyncio.run(drawing.run(draw_too_much))
    assert refused.value.status == 503
    assert "Tried to allocate 9 GiB." in caplog.text


def test_limit_holds_over_any_minute() -> None:
    now = 0.0
    limit = RateLimit(2, lambda: now)
    limit.take()
    now = 50.0
    limit.take()
    now = 59.5
    with pytest.raises(RefusedError, match="try again in 1 s") as refused:
        limit.take()
    assert refused.value.retry_after_s == 1
    now = 60.0
    limit.take()
    with pytest.raises(RefusedError, match="try again in 50 s"):
        limit.take()


def test_run_without_a_checkpoint_and_port_in_use_are_reported(
    live: LiveServer, live_run: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunFolderError, match="is not a run folder"):
        serve.run(load_config(extra={"serve.run": tmp_path}))
    config = load_config(extra={"serve.run": live_run, "serve.port": live.port})
    with pytest.raises(ConfigError, match=rf"Port {live.port} on 127.0.0.1 is in use .* another `emixer serve`"):
        serve.run(config)
    assert str(live_run) in serve.describe(config)
    for file in ("run.json", "config.yaml"):
        (tmp_path / file).write_bytes((live_run / file).read_bytes())
    with pytest.raises(CheckpointError, match="has no checkpoint yet"):
        serve.run(load_config(extra={"serve.run": tmp_path}))
