"""The one merge: what wins, what is refused, and what the user is told."""

import dataclasses
import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from emixer.config import Config, load_config, to_yaml, with_overrides
from emixer.config.ingest import ImageFolderSource, OpenISource
from emixer.config.model import CoganModelConfig, JointganModelConfig
from emixer.config.packaged import packaged_configs
from emixer.config.settings import all_settings
from emixer.errors import ConfigError

REPOSITORY = Path(__file__).parents[2]


def write(folder: Path, text: str) -> Path:
    file = folder / "config.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def message_for(*overrides: str, file: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(file, overrides)
    return str(caught.value)


def test_flags_win_over_set_which_wins_over_the_file_which_wins_over_the_defaults(tmp_path: Path) -> None:
    file = write(tmp_path, "train: {images: 10, batch_size: 20, num_workers: 30}\n")
    config = load_config(file, ["train.batch_size=21", "train.num_workers=31"], {"train.num_workers": 32})
    assert (config.train.images, config.train.batch_size, config.train.num_workers) == (10, 21, 32)
    assert config.train.max_failures == Config().train.max_failures


def test_the_last_of_two_equal_set_wins() -> None:
    assert load_config(None, ["seed=1", "seed=2"]).seed == 2


def test_a_section_given_in_part_keeps_the_rest_of_its_defaults(tmp_path: Path) -> None:
    file = write(tmp_path, "model: {report_decoder: {encoder: {growth: 8}}}\n")
    encoder = load_config(file).model.report_decoder.encoder
    assert encoder.growth == 8
    assert encoder.frozen is False
    assert encoder.stem_channels == 64


def test_a_section_given_by_set_changes_only_the_keys_it_names(tmp_path: Path) -> None:
    file = write(tmp_path, "train: {batch_size: 20}\n")
    config = load_config(file, ["train={images: 5}"])
    assert (config.train.images, config.train.batch_size) == (5, 20)


def test_a_section_with_nothing_under_it_changes_nothing(tmp_path: Path) -> None:
    file = write(tmp_path, "train:\n  # images: 5\nmodel:\n  gumbel:\n")
    assert load_config(file) == Config()


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "# nothing yet\n")) == Config()


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("1E-4", 1e-4), ("2.5e-4", 2.5e-4), (".01", 0.01), ("5e-05", 5e-5), ("0.1", 0.1)],
)
def test_a_number_may_be_written_with_an_exponent_and_without_a_point(tmp_path: Path, text: str, value: float) -> None:
    assert load_config(None, [f"optim.lr_generator={text}"]).optim.lr_generator == value
    assert load_config(write(tmp_path, f"optim: {{lr_generator: {text}}}")).optim.lr_generator == value


@pytest.mark.parametrize("text", ["no", "off", "010", "1:30", "2020-01-01", "0x10", "y"])
def test_text_that_yaml_1_1_would_turn_into_something_else_stays_text(text: str) -> None:
    assert load_config(None, [f"generate.plan={text}"]).generate.plan == text


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    message = message_for(file=write(tmp_path, "seed: 1\ntrain: {images: 5, images: 6}\n"))
    assert "duplicate key 'images'" in message
    assert "line 2" in message


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("train.batchsize=3", "train.batch_size"),
        ("train.lr_generator=0.1", "optim.lr_generator"),
        ("alpha=0.1", "loss.alpha"),
        ("optim.lr_descriminator=0.1", "optim.lr_discriminator"),
        ("model.image_generator.chanels=8", "model.image_generator.channels"),
        ("trian.images=8", "train.images"),
        ("train.image=8", "train.images"),
        ("optim.lr=0.1", "optim.lr_generator"),
        ("train.seed=1", "seed"),
        ("generte.seed=1", "generate.seed"),
        ("sed=1", "seed"),
        ("batch_size=8", "train.batch_size"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest_one(override: str, nearest: str) -> None:
    assert f"Did you mean {nearest}?" in message_for(override)


@pytest.mark.parametrize("key", ["qqqqqqqqq", "train.output", "train.out"])
def test_a_key_like_no_other_points_to_the_list_of_keys(key: str) -> None:
    assert "there is no such key. `emixer train --print-config` lists all keys" in message_for(f"{key}=1")


def test_all_problems_are_named_at_once() -> None:
    message = message_for("train.images=0", "loss.alpha=-1", "seed=true")
    assert [key for key in ("train.images", "loss.alpha", "seed") if key in message] == [
        "train.images",
        "loss.alpha",
        "seed",
    ]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.use_gpu=1", "train.use_gpu: must be a valid boolean (given: 1)"),
        ("seed=true", "seed: must be a valid integer (given: true)"),
        ("seed='1'", 'seed: must be a valid integer (given: "1")'),
        ("train.images=1e6", "expected a whole number; write 1000000"),
        ("loss.alpha=.inf", "finite number"),
        ("train.precision=fp8", "must be 'fp32', 'bf16' or 'fp16'"),
        ("train=3", "train: is a section, not a value"),
        ("seed.x=1", "seed: is a value, not a section"),
        ("generate.labels=Edema", "generate.labels: expected a list"),
        ("data.shards=2024", "data.shards: expected a path as text"),
        ("train=null", "train: is a section"),
        ("generate.out=~nobody-here/x", "generate.out: ~nobody-here names no user of this machine"),
        ("generate.plan=~nobody-here/x.csv", "generate.plan: ~nobody-here names no user of this machine"),
        ("experiment.runs=[emixer=~nobody-here/x]", "experiment.runs: ~nobody-here names no user of this machine"),
    ],
)
def test_a_wrong_value_is_answered_with_what_was_expected(override: str, expected: str) -> None:
    assert expected in message_for(override)


def test_the_message_names_the_file_and_the_command_line(tmp_path: Path) -> None:
    file = write(tmp_path, "seed: -1\n")
    assert f"Invalid config from {file}:" in message_for(file=file)
    assert f"Invalid config from {file} and the command line:" in message_for("train.images=1", file=file)
    assert "Invalid config from the command line:" in message_for("seed=-1")


@pytest.mark.parametrize("text", ["seed", "=3", " =3", "seed=[1", "seed={a: 1, a: 2}"])
def test_a_set_that_is_no_assignment_is_refused(text: str) -> None:
    assert repr(text) in message_for(text)


@pytest.mark.parametrize("content", ["- a\n- b\n", "just text", "3: 4\n", "a: [1\n", "a: b: c\n", "\tseed: 1\n"])
def test_a_file_that_holds_no_settings_is_refused(tmp_path: Path, content: str) -> None:
    file = write(tmp_path, content)
    assert str(file) in message_for(file=file)


def test_a_missing_a_binary_and_an_unreadable_file_are_refused_by_name(tmp_path: Path) -> None:
    assert "There is no config file" in message_for(file=tmp_path / "absent.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert str(binary) in message_for(file=binary)
    assert str(tmp_path) in message_for(file=tmp_path)


def test_no_python_object_can_be_built_from_a_config_file(tmp_path: Path) -> None:
    assert "cannot be read as YAML" in message_for(file=write(tmp_path, "seed: !!python/object/apply:os.getpid []\n"))


def test_another_kind_drops_the_keys_of_the_old_one(tmp_path: Path) -> None:
    file = write(tmp_path, "ingest: {source: {kind: mimic-cxr, root: /mimic, labeler: negbio}}\n")
    source = load_config(file, ["ingest.source.kind=open-i", "ingest.source.root=/indiana"]).ingest.source
    assert source == OpenISource(root=Path("/indiana"))


def test_of_several_files_a_later_one_wins_key_by_key(tmp_path: Path) -> None:
    first = write(tmp_path, "model: {side_px: 64, image_generator: {channels: 12}}\ntrain: {images: 5}\n")
    second = tmp_path / "second.yaml"
    second.write_text("model: {kind: smgan, decoder_share: 0.5}\ntrain: {images: 7}\n")
    config = load_config([first, second])
    assert (config.model.kind, config.model.side_px, config.model.image_generator.channels) == ("smgan", 64, 12)
    assert config.train.images == 7
    second.write_text("model: {kind: smgan, decoder_shar: 0.5}\n")
    with pytest.raises(
        ConfigError, match=r"Invalid config from .*second\.yaml:\n  model\.decoder_shar: .*decoder_share"
    ):
        load_config([first, second])


def test_another_kind_of_model_keeps_the_settings_that_both_have(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """
        model:
          side_px: 64
          image_generator: {channels: 12}
          report_decoder: {word_hidden: 96, encoder: {growth: 8}}
          joint_discriminator: {channels: 8}
    """,
    )
    model = load_config(file, ["model.kind=cogan"]).model
    assert (model.kind, model.side_px, model.image_generator.channels) == ("cogan", 64, 12)
    assert isinstance(model, CoganModelConfig)
    assert model.report_decoder.word_hidden == 96, "its encoder, which CoGAN has not, is gone"
    joint = load_config(file, ["model.kind=jointgan"]).model
    assert isinstance(joint, JointganModelConfig)
    assert (joint.joint_discriminator.channels, joint.report_decoder.encoder.growth) == (8, 8)


def test_a_setting_of_another_kind_of_model_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.decoder_share: there is no such key\. It belongs to kind smgan"):
        load_config(None, ["model.kind=cogan", "model.decoder_share=0.5"])
    with pytest.raises(ConfigError, match=r"model\.kind: 'gan' is not one of emixer, cogan, jointgan, smgan"):
        load_config(None, ["model.kind=gan"])
    with pytest.raises(ConfigError, match=r"report_decoder\.kind: 'lstm' is not one of hierarchical, attentive\."):
        load_config(None, ["model.report_decoder.kind=lstm"])
    with pytest.raises(ConfigError, match=r"width: .* It belongs to kind attentive; this one is hierarchical"):
        load_config(None, ["model.report_decoder.width=64"])
    with pytest.raises(ConfigError, match=r"width=512 is not a multiple of heads=7"):
        load_config(None, ["model.report_decoder.kind=attentive", "model.report_decoder.heads=7"])
    with pytest.raises(ConfigError, match=r"tied_blocks=3 ties all 3 blocks that the image generator has"):
        load_config(None, ["model.kind=cogan", "model.side_px=32", "model.tied_blocks=3"])


def test_keys_beside_a_new_kind_stay_in_whatever_order_they_come(tmp_path: Path) -> None:
    file = write(tmp_path, "ingest: {source: {kind: mimic-cxr, root: /mimic}}\n")
    by_set = load_config(file, ["ingest.source.root=/indiana", "ingest.source.kind=open-i"])
    by_flag = load_config(file, ["ingest.source.root=/indiana"], {"ingest.source.kind": "open-i"})
    assert by_set.ingest.source == by_flag.ingest.source == OpenISource(root=Path("/indiana"))


def test_the_same_kind_again_keeps_its_keys(tmp_path: Path) -> None:
    file = write(tmp_path, "ingest: {source: {kind: open-i, root: /indiana, test_fraction: 0.3}}\n")
    assert load_config(file, ["ingest.source.kind=open-i"]) == load_config(file)


def test_a_section_may_be_taken_back_by_null(tmp_path: Path) -> None:
    file = write(tmp_path, "ingest: {source: {kind: open-i, root: /indiana}}\n")
    assert load_config(file, ["ingest.source=null"]).ingest.source is None


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["ingest.source.root=/x"],
            "ingest.source.kind: is not set. Choose one of mimic-cxr, open-i, nih-cxr14, chexpert,",
        ),
        (
            ["ingest.source.kind=mimic"],
            "ingest.source.kind: 'mimic' is not one of mimic-cxr, open-i, nih-cxr14, chexpert,",
        ),
        (["ingest.source.kind=open-i"], "ingest.source.root: is required but not set"),
        (["ingest.source={kind: open-i, root: /x, rot: 1}"], "ingest.source.rot: there is no such key"),
        (
            ["ingest.source={kind: open-i, root: /x, labeler: negbio}"],
            "ingest.source.labeler: there is no such key. It belongs to kind mimic-cxr; this one is open-i.",
        ),
        (
            ["ingest.source={kind: open-i, root: /x, test_fraction: 2}"],
            "ingest.source.test_fraction: must be less than 1",
        ),
    ],
)
def test_the_tag_of_a_kind_never_shows_as_part_of_a_key(overrides: list[str], expected: str) -> None:
    message = message_for(*overrides)
    assert expected in message
    assert "source.open-i" not in message
    assert "source.mimic-cxr" not in message


@pytest.mark.parametrize("kind", ["open-i", "nih-cxr14", "padchest", "rsna-pneumonia", "brax", "image-folder"])
def test_shares_that_leave_no_subject_to_train_are_refused(kind: str) -> None:
    section = f"kind: {kind}, root: /x" + (", label_csv: /x.csv" if kind == "image-folder" else "")
    expected = "validate_fraction=0.4 and test_fraction=0.6 leave no subject to train"
    assert expected in message_for(f"ingest.source={{{section}, validate_fraction: 0.4, test_fraction: 0.6}}")
    load_config(None, [f"ingest.source={{{section}, validate_fraction: 0.4, test_fraction: 0.5}}"])


def test_overrides_of_a_config_are_validated_and_leave_it_as_it_is() -> None:
    config = load_config(None, ["loss.alpha=0.5"])
    changed = with_overrides(config, {"loss.beta": 2.0, "optim.lr_generator": 1e-3})
    assert (changed.loss.alpha, changed.loss.beta, changed.optim.lr_generator) == (0.5, 2.0, 1e-3)
    assert config.loss.beta == 1.0
    with pytest.raises(ConfigError, match=r"loss\.beta"):
        with_overrides(config, {"loss.beta": -1.0})
    with pytest.raises(ConfigError, match=r"Did you mean loss\.beta"):
        with_overrides(config, {"loss.bta": 1.0})


def test_overrides_of_a_config_with_another_kind_drop_the_old_keys() -> None:
    config = load_config(None, ["ingest.source={kind: open-i, root: /x, test_fraction: 0.3}"])
    changed = with_overrides(
        config, {"ingest.source.root": "/y", "ingest.source.label_csv": "/y.csv", "ingest.source.kind": "image-folder"}
    )
    assert changed.ingest.source == ImageFolderSource(root=Path("/y"), label_csv=Path("/y.csv"))


def test_paths_become_absolute_from_where_the_command_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, "data: {shards: shards}\ningest: {source: {kind: open-i, root: ~/indiana}}\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", "/home/ada")
    runs = "experiment.runs=[emixer=~/a=b, emixer-30=../run]"
    config = load_config(file, ["train.run=../run", "generate.out=/data/out", "generate.plan=~/plan.csv", runs])
    assert config.generate.plan == "/home/ada/plan.csv"
    assert config.experiment.runs == ("emixer=/home/ada/a=b", f"emixer-30={tmp_path / 'elsewhere' / '../run'}")
    assert config.data.shards == tmp_path / "elsewhere" / "shards"
    assert config.ingest.source == OpenISource(root=Path("/home/ada/indiana"))
    assert config.generate.out == Path("/data/out")
    assert config.train.run is not None
    assert config.train.run.resolve() == tmp_path / "run"


def test_a_packaged_config_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config("demo") == load_config(packaged_configs()["demo"])
    (tmp_path / "demo").write_text("seed: 7\n")
    assert load_config(["demo", Path("demo")], ["train.images=5"]).seed == load_config(Path("demo")).seed == 7


def test_a_config_cannot_be_changed() -> None:
    config = Config()
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        config.train.images = 3  # type: ignore[misc]


@pytest.mark.parametrize("file", sorted((REPOSITORY / "configs").glob("*.yaml")), ids=lambda file: file.name)
def test_every_shipped_config_is_valid_and_comes_back_from_its_yaml(file: Path, tmp_path: Path) -> None:
    config = load_config(file)
    assert load_config(write(tmp_path, to_yaml(config))) == config


@pytest.mark.parametrize(
    "file", sorted((REPOSITORY / "configs" / "baselines").glob("*.yaml")), ids=lambda file: file.name
)
def test_a_baseline_is_a_few_lines_over_the_demo(file: Path) -> None:
    demo = load_config(REPOSITORY / "configs" / "demo.yaml")
    baseline = load_config([REPOSITORY / "configs" / "demo.yaml", file])
    assert baseline.model.kind == file.stem
    assert baseline.model.side_px == demo.model.side_px
    assert baseline.model.image_generator == demo.model.image_generator
    assert baseline.train == demo.train


def values_of(annotation: Any, choices: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    if choices:
        return st.sampled_from(choices)
    text = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1)
    tricky = st.sampled_from(
        ["no", "1e-4", "1_000", ".5", "null", "~", "a: b", "#", "'", "é", "2020-01-01", "- x", "010"]
    )
    by_type: dict[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.integers(1, 16),
        float: st.floats(1e-12, 0.09),
        str: text | tricky,
        int | tuple[int, int]: st.integers(1, 16) | st.tuples(st.integers(1, 4), st.integers(5, 9)),
        dict[str, dict[str, Any]]: st.dictionaries(
            st.sampled_from(["ingest", "train"]),
            st.fixed_dictionaries({"cpus": st.integers(1, 16), "partition": tricky}),
        ),
        Path: st.text(string.ascii_letters + string.digits + "/ .:#-_é", min_size=1).map(Path),
    }
    return by_type[annotation]


FREE = [s for s in all_settings() if s.kind is None and not s.is_list]


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_any_valid_config_comes_back_from_its_yaml(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    chosen = data.draw(st.lists(st.sampled_from(FREE), max_size=8, unique_by=lambda s: s.key))
    extra = {s.key: data.draw(values_of(s.annotation, s.choices), label=s.key) for s in chosen}
    try:
        config = load_config(extra=extra)
    except ConfigError:
        return  # some pairs exclude each other or have tighter ranges
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(to_yaml(config), encoding="utf-8")
    assert load_config(file) == config


def test_the_written_yaml_means_the_same_to_a_plain_yaml_reader() -> None:
    config = load_config(extra={"generate.plan": "no", "optim.lr_generator": 1e-5, "data.uncertain": "ones"})
    tree = yaml.safe_load(to_yaml(config))
    assert tree["generate"]["plan"] == "no"
    assert tree["data"]["uncertain"] == "ones"
    assert tree["optim"]["lr_generator"] == 1e-5


def test_a_setting_is_a_value_object() -> None:
    first, *_ = all_settings()
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.key = "other"  # type: ignore[misc]
