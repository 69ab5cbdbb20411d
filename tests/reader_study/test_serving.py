"""The server over plain HTTP: who may see what, what is kept, and that nothing separates real from synthetic."""

import http.client
import io
import json
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from PIL import Image

from emixer.config import Config
from emixer.reader_study.folder import StudyFolder
from emixer.reader_study.store import Store
from emixer.stages.study import make as study_make
from tests.reader_study.study_server import StudyServer, rating
from tests.served import READY_S


def pair_of(served: StudyServer, reader: int, index: int = 0) -> str:
    return f"/api/pairs/{served.places(reader)[index]}"


def test_nothing_is_revealed_without_a_token_of_this_study(served: StudyServer, reader: int) -> None:
    pair = pair_of(served, reader)
    for path in ("/api/study", pair, f"{pair}/image"):
        for token in (None, "wrong", served.tokens[reader][:-1], f"{served.tokens[reader]}x"):
            answer = served.ask(path, token)
            assert answer.status == 401
            assert "Please open the whole link" in answer.json["message"]
    assert served.ask(f"{pair}/rating", None, rating()).status == 401
    assert served.saved(reader) == []


def test_another_readers_pair_seems_not_to_exist(served: StudyServer, reader: int) -> None:
    mine, theirs = served.tokens[reader], pair_of(served, reader + 1)
    answers = [
        served.ask(theirs, mine),
        served.ask(f"{theirs}/image", mine),
        served.ask(f"{theirs}/rating", mine, rating()),
    ]
    nothing = served.ask("/api/pairs/0123456789abcdef", mine)
    assert {(answer.status, answer.body) for answer in answers} == {(404, nothing.body)}
    assert served.saved(reader + 1) == []


def test_page_is_one_file_that_may_load_nothing_from_elsewhere(served: StudyServer) -> None:
    answer = served.ask("/")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert answer.body.count(b"<script") == answer.body.count(b"<style") == 1
    assert b" src=" not in answer.body
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-frame-options"] == "DENY"
    assert served.tokens[0].encode() not in answer.body


def test_no_answer_reveals_which_pairs_are_real(served: StudyServer, reader: int) -> None:
    token = served.tokens[reader]
    key = json.loads((served.study / "key.json").read_text())["items"]
    with closing(sqlite3.connect(served.study / "scores.sqlite")) as database:
        item_at = dict(database.execute("SELECT place, item FROM places"))
    headers, sizes, modes, kinds, pixels = set(), set(), set(), set(), {}
    for place in served.places(reader):
        answer = served.ask(f"/api/pairs/{place}/image", token)
        pair = served.ask(f"/api/pairs/{place}", token)
        assert set(pair.json) == {"report", "version", "rating"}
        headers.add(tuple(sorted(answer.headers.items())))
        sizes.add(len(answer.body))
        with Image.open(io.BytesIO(answer.body)) as image:
            modes.add((image.mode, image.size, tuple(image.info), image.format))
            pixels.setdefault(item_at[place], set()).add(image.tobytes())
        kinds.add(key[item_at[place]]["kind"])
        assert not {place, item_at[place]} & set(pair.json["report"].split())
    assert kinds == {"real", "synthetic"}
    assert [len(headers), len(sizes), modes] == [1, 1, {("L", (32, 32), (), "PNG")}]
    assert all(len(seen) == 1 for seen in pixels.values())
    (only,) = headers
    assert not {"etag", "last-modified", "date", "server", "set-cookie"} & dict(only).keys()
    assert dict(only)["cache-control"] == "no-store"


def test_repeated_pair_has_two_names(served: StudyServer, reader: int) -> None:
    places = served.places(reader)
    assert len(places) == len(set(places)) == 14
    assert not set(places) & set(served.places(reader + 1))


def test_rating_sent_again_is_kept_once(served: StudyServer, reader: int) -> None:
    path, token, sent = f"{pair_of(served, reader)}/rating", served.tokens[reader], rating(8)
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(served.ask(path, token, sent).json["version"])) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [1] * 8
    assert served.saved(reader) == [(0, 1, 8, 8, 8, "real", "")]


def test_change_is_a_new_version_and_reports_what_it_replaced(served: StudyServer, reader: int) -> None:
    path, token = f"{pair_of(served, reader)}/rating", served.tokens[reader]
    first = served.ask(path, token, rating(8)).json
    assert first == {"version": 1, "replaced": None}
    second = served.ask(path, token, rating(5) | {"known_version": 1}).json
    assert second == {"version": 2, "replaced": None}
    late = rating(3) | {"known_version": 1}
    behind = served.ask(path, token, late).json
    assert behind["version"] == 3
    assert served.ask(path, token, late).json == behind  # sent again
    assert behind["replaced"] == {"image": 5, "report": 5, "agreement": 5, "guess": "real", "comment": ""}
    assert [row[1:3] for row in served.saved(reader)] == [(1, 8), (2, 5), (3, 3)]
    assert served.ask(pair_of(served, reader), token).json["rating"]["image"] == 3


@pytest.mark.parametrize(
    "body",
    [
        rating(11), rating(0), rating(7, image="7"), rating(7, image=7.5), rating(7, image=True),
        rating(7, guess="maybe"), rating(7, comment="x" * 2001), rating(7, more=1), {"rating": {"image": 7}}, [],
        b"{", b"\xff\xfe", b"NaN",
    ],
)  # fmt: skip
def test_invalid_rating_is_refused_and_not_saved(served: StudyServer, body: object) -> None:
    answer = served.ask(f"{pair_of(served, 11)}/rating", served.tokens[11], body)
    assert answer.status == 422
    assert "were not saved" in answer.json["message"]
    assert served.saved(11) == []


def test_overlong_body_is_refused(served: StudyServer) -> None:
    answer = served.ask(f"{pair_of(served, 11)}/rating", served.tokens[11], b"x" * 2**17)
    assert answer.status == 413


def test_any_text_may_be_a_comment(served: StudyServer, reader: int) -> None:
    comment = "<script>alert(1)</script> '; DROP TABLE ratings; -- 漢字 \x00 \u202e"
    served.ask(f"{pair_of(served, reader)}/rating", served.tokens[reader], rating(7, comment=comment))
    assert served.ask(pair_of(served, reader), served.tokens[reader]).json["rating"]["comment"] == comment


def test_other_methods_and_paths_are_refused_with_the_same_headers(served: StudyServer) -> None:
    for path, method, status in (
        ("/api/study", "DELETE", 405),
        ("/api/study/", "GET", 404),
        ("/key.json", "GET", 404),
        ("/../key.json", "GET", 404),
    ):
        answer = served.ask(path, served.tokens[0], method=method)
        assert answer.status == status
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "location" not in answer.headers


def test_killed_server_loses_no_acknowledged_score(study_config: Callable[..., Config], tmp_path: Path) -> None:
    folder = study_make.run(study_config(tmp_path / "study")).folder
    with closing(StudyServer(folder)) as server:
        _kill_it_while_four_readers_score(server)


def _kill_it_while_four_readers_score(server: StudyServer) -> None:
    acknowledged: list[tuple[int, int]] = []

    def send(reader: int) -> None:
        for position, place in enumerate(places[reader]):
            try:
                answer = server.ask(f"/api/pairs/{place}/rating", tokens[reader], rating(1 + position % 10))
            except (OSError, http.client.HTTPException):  # killed in the meantime, perhaps in the middle of an answer
                return
            if answer.status == 200:
                acknowledged.append((reader, position))

    tokens, places = server.tokens, [server.places(reader) for reader in range(4)]
    threads = [threading.Thread(target=send, args=(reader,)) for reader in range(4)]
    for thread in threads:
        thread.start()
    while len(acknowledged) < 15:
        time.sleep(0.001)
    server.kill()
    for thread in threads:
        thread.join()
    study = StudyFolder.open(server.study)
    with Store.open(study.scores, study.facts.study_id, read_only=True) as store:  # as a report without a server does
        scored = {(row.reader, row.position) for row in store.showings() if row.rating is not None}
    assert {(f"reader-{reader + 1:02d}", position) for reader, position in acknowledged} <= scored
    server.start()
    for reader, position in acknowledged:
        pair = server.ask(f"/api/pairs/{places[reader][position]}", tokens[reader]).json
        assert pair["rating"]["image"] == 1 + position % 10


def test_terminated_server_leaves_all_scores_in_the_database_and_no_lock(
    study_config: Callable[..., Config], tmp_path: Path
) -> None:
    folder = study_make.run(study_config(tmp_path / "study")).folder
    server = StudyServer(folder)
    assert server.ask(f"{pair_of(server, 0)}/rating", server.tokens[0], rating(8)).status == 200
    process = server.process
    assert process is not None
    process.terminate()
    out, errors = process.communicate(timeout=READY_S)
    assert (process.returncode, errors) == (0, "")
    assert "Stopped. 1 of " in out
    assert not [path.name for path in folder.iterdir() if path.name == ".lock" or "-wal" in path.name]
    copied = tmp_path / "scores.sqlite"
    copied.write_bytes((folder / "scores.sqlite").read_bytes())
    with closing(sqlite3.connect(copied)) as database:
        assert database.execute("SELECT image FROM ratings").fetchall() == [(8,)]


def test_full_disk_is_reported_and_loses_nothing(
    study_config: Callable[..., Config], small_disk: Callable[[int], Path]
) -> None:
    disk = small_disk(4096)
    with closing(StudyServer(study_make.run(study_config(disk / "study")).folder)) as server:
        _fill_it_while_a_reader_scores(server, disk / "filler")


def _fill_it_while_a_reader_scores(server: StudyServer, filler: Path) -> None:
    path, token = f"{pair_of(server, 0)}/rating", server.tokens[0]
    assert server.ask(path, token, rating(8)).status == 200
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"0" * 4096)
    refused, sent = None, rating(5, comment="x" * 2000)
    for number in range(200):  # until the pages reserved for the log are used up
        sent = rating(5, comment="x" * 2000) | {"request": f"request-{number}"}
        answer = server.ask(path, token, sent)
        if answer.status != 200:
            refused = answer
            break
    assert refused is not None
    assert refused.status == 507
    assert "disk may be full" in refused.json["message"]
    before = server.saved(0)
    filler.unlink()
    assert server.ask(path, token, sent).json["version"] == len(before) + 1
    assert server.saved(0)[:-1] == before
    assert server.saved(0)[0][2] == 8
