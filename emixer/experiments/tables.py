"""Cells of each table, row by row, and the paper's printed figures. Sizes are the paper's times one factor.

Source: EMIXER tables 1, 2, 3, 5, 9, 10. Where the paper leaves a setup open, docs/tables.md states the choice.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from emixer.config.experiment import ExperimentConfig
from emixer.config.generator_name import BALANCED, GeneratorName
from emixer.experiments import paper
from emixer.experiments.cells import Cell, Mix, Task

SYNTHETIC_PAIRS = 600_000
"""Largest number that a table of the paper uses; every dataset has this many, scaled."""
REAL_PAIRS = 100_000

NAMES = {
    "real": "Only real", "jointgan": "JointGAN", "cogan": "CoGAN", "smgan": "SM-GAN", "emixer": "EMIXER",
    "emixer-30": "EMIXER", "emixer-50": "EMIXER",
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """One kind of figure."""

    figure: str
    """Its name in the results of `task`, without the suffix of a row."""
    title: str
    task: Task
    paper: str
    """Its name in the paper's figures."""
    digits: int = 3


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    method: str
    """Display name."""
    data: str
    mix: Mix
    paper: paper.Figures
    suffix: str = ""
    """Suffix of the figures' names in this row, e.g. `/COVID-19`."""
    num_real: int = 0
    """In `gain`: R. Rows with another R, or another suffix, are compared with another first row."""
    way: str = ""
    """In `gain`: how synthetic pairs are used, independent of R; empty in rows without them."""

    @property
    def group(self) -> tuple[str, int]:
        """Group of the row: rows are compared with the first of their group."""
        return self.suffix, self.num_real


@dataclass(frozen=True)
class Table:
    """A table: its columns and rows."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    """The first row of each group is the baseline of the others. Their generators are the first trainings."""
    notes: tuple[str, ...] = ()
    trainings: int = 1
    """How often each generator is trained; seeds use these in turn."""
    redraws: bool = False
    """Whether each seed draws real pairs of its own."""
    own_generators: bool = False
    """Whether a row's generator is trained on the row's real pairs only."""

    def cells(self, row: Row, column: Column, seeds: tuple[int, ...]) -> tuple[Cell, ...]:
        """Cells behind one entry. A distance of generated images depends on neither a downstream seed nor R."""
        if column.task == "distance":
            mix = replace(row.mix, real=0)
            return tuple(Cell("distance", _of_training(mix, number), number) for number in range(self.trainings))
        mixes = [_of_training(row.mix, position % self.trainings) for position in range(len(seeds))]
        if self.redraws and row.mix.real:
            mixes = [replace(mix, draw=seed + 1) for mix, seed in zip(mixes, seeds, strict=True)]
        if self.own_generators:
            mixes = [_of_own_generator(mix) for mix in mixes]
        return tuple(Cell(column.task, mix, seed) for mix, seed in zip(mixes, seeds, strict=True))

    def unit_of(self, cell: Cell) -> str:
        """Name of the independent repetition that a cell belongs to: its generator if that is trained several times,
        since seeds that share one are not independent; else its seed."""
        several = self.trainings > 1 and cell.mix.generator is not None
        return str(cell.mix.generator) if several else f"seed {cell.seed}"

    def all_cells(self, seeds: tuple[int, ...]) -> list[Cell]:
        """All distinct cells, in the order of the rows."""
        found = (cell for row in self.rows for column in self.columns for cell in self.cells(row, column, seeds))
        return list(dict.fromkeys(found))

    @property
    def has_printed(self) -> bool:
        """Whether the paper prints figures for it."""
        return any(row.paper for row in self.rows)

    @property
    def is_drawn(self) -> bool:
        """Whether it is a set of pictures of pairs, without downstream models."""
        return not self.columns

    def generators(self, seeds: tuple[int, ...]) -> list[str]:
        """Generators whose pairs are needed, each training after the other."""
        mixes = [row.mix for row in self.rows] if self.is_drawn else [cell.mix for cell in self.all_cells(seeds)]
        found = dict.fromkeys(mix.generator for mix in mixes if mix.generator)
        return sorted(found, key=lambda name: GeneratorName.parse(name).training)


def table_of(settings: ExperimentConfig, num_train: int) -> Table:
    """The table named in the settings, with their methods and scale.

    num_train: number of real pairs to train on.
    """
    table = _gain(settings, num_train) if settings.table == "gain" else _TABLES[settings.table](settings)
    if table.is_drawn:
        return table
    own = settings.generators_from == "real"
    return replace(
        table, trainings=settings.generators, redraws=settings.redraw, own_generators=own,
        notes=(*table.notes, _OWN_NOTE) if own else table.notes,
    )  # fmt: skip


def _of_training(mix: Mix, number: int) -> Mix:
    """The mixture with pairs from another training of its generator."""
    if mix.generator is None:
        return mix
    return replace(mix, generator=str(replace(GeneratorName.parse(mix.generator), training=number)))


def _of_own_generator(mix: Mix) -> Mix:
    """The mixture with pairs of a generator that is trained on the mixture's real pairs."""
    if mix.generator is None:
        return mix
    own = replace(GeneratorName.parse(mix.generator), real=mix.real, draw=mix.draw)
    return replace(mix, generator=str(own))


def dataset_rows(settings: ExperimentConfig, generator: str) -> int:
    """Number of pairs that a generator makes: enough for all tables of the paper, or for `gain`."""
    if settings.table == "gain":
        return (GeneratorName.parse(generator).real or max(settings.real_pairs)) * max(settings.multiples)
    return scaled(SYNTHETIC_PAIRS, settings)


def scaled(images: int, settings: ExperimentConfig) -> int:
    """The paper's number of images times `experiment.scale`, at least 1."""
    return max(1, round(images * settings.scale))


def _table1(settings: ExperimentConfig) -> Table:
    beyond = [name for name in settings.methods if name in settings.beyond]
    return Table(
        "table1",
        "Image classification and report generation with real and synthetic pairs (paper: table 1)",
        (
            *_classified("images"),
            Column("cider", "CIDEr", "reports", "cider"),
            *(Column(f"bleu_{n}", f"BLEU-{n}", "reports", f"bleu{n}") for n in (1, 2, 3, 4)),
        ),
        (*_mixed_rows(paper.TABLE1, settings), *(row for name in beyond for row in _beyond_the_paper(name, settings))),
        _BEYOND_NOTES if beyond else (),
    )  # fmt: skip


def _beyond_the_paper(name: str, settings: ExperimentConfig) -> tuple[Row, ...]:
    """Rows that are not in the paper: the protocols of ChexGen and RoentGen-v2, and selection by a judge."""
    real, five, half, most = (scaled(images, settings) for images in (REAL_PAIRS, 500_000, 300_000, SYNTHETIC_PAIRS))
    r, s5, s3, s6 = (
        size_in_words(images, settings, letter)
        for images, letter in ((REAL_PAIRS, "R"), (500_000, "S"), (300_000, "S"), (SYNTHETIC_PAIRS, "S"))
    )
    return (
        Row(NAMES[name], f"{r} + {s5}", Mix(real, five, name), {}),
        Row(NAMES[name], f"{s6}, then {r}", Mix(real, most, name, pretrains=True), {}),
        Row(NAMES[name], f"{r} + {s3} chosen from {s6}", Mix(real, half, name, chosen_from=most), {}),
    )


def _table2(settings: ExperimentConfig) -> Table:
    return Table(
        "table2",
        "Classification from image and report together (paper: table 2)",
        _classified("pairs"),
        _mixed_rows(paper.TABLE2, settings),
        ("The labels were extracted from the reports, so a report reveals more of them than its image.",),
    )


def _table3(settings: ExperimentConfig) -> Table:
    num = scaled(REAL_PAIRS, settings)
    rows = [
        Row(NAMES[name], data, Mix(0, num, name), printed)
        for (name, data), printed in paper.TABLE3.items()
        if name.partition("-")[0] in settings.methods
    ]
    return Table(
        "table3",
        "Generators trained with limited labels (paper: table 3)",
        (
            Column("acc", "ACC", "images", "acc"), Column("bleu_1", "BLEU-1", "reports", "bleu1"),
            Column("fid", "FID", "distance", "fid"),
        ),
        tuple(rows),
        (
            "ACC and BLEU-1 are those of downstream models trained on "
            f"{size_in_words(REAL_PAIRS, settings, 'S')} alone. The paper does not say on what, but not on the "
            "mixtures of table 1, whose figures are others, and each accuracy is below that of real pairs.",
            "The paper prints the same means for JointGAN and SM-GAN.",
        ),
    )  # fmt: skip


def _table5(settings: ExperimentConfig) -> Table:
    real = scaled(REAL_PAIRS, settings)
    kinds = {
        "none": Mix(0), "real": Mix(real), "real + synthetic": Mix(real, scaled(250_000, settings), "emixer")
    }  # fmt: skip
    columns = {"auc": "AUC", "sensitivity": "Sensitivity", "ppv": "PPV"}
    classes = dict(zip(("Normal", "Bacterial Pneumonia", "Viral Pneumonia", "COVID-19"), settings.covid_classes,
                       strict=True))  # fmt: skip
    return Table(
        "table5",
        "COVID-19 classification after three kinds of pretraining (paper: table 5)",
        tuple(Column(name, title, "classes", name) for name, title in columns.items()),
        tuple(
            Row(f"pretrained on: {kind}", classes[printed_class], kinds[kind], printed, f"/{classes[printed_class]}")
            for (kind, printed_class), printed in paper.TABLE5.items()
        ),
        (
            "In public collections the class is confounded with hospital, patient age and image format: a high figure "
            "may only mean that a model separates those.",
        ),
    )


def _table9(settings: ExperimentConfig) -> Table:
    rows = []
    for (name, _), printed in paper.TABLE9.items():
        if name == "real" or name in settings.methods:
            mix = Mix(scaled(REAL_PAIRS, settings)) if name == "real" else Mix(0, scaled(REAL_PAIRS, settings), name)
            data = size_in_words(REAL_PAIRS, settings, "R" if name == "real" else "S")
            rows.append(Row(NAMES[name], data, mix, printed))
    columns = [Column(f"auc/{d}", d, "images", d.replace(" ", "_")) for d in settings.diseases]
    return Table(
        "table9", "AUC of classifiers trained on synthetic images alone (paper: table 9)", tuple(columns), tuple(rows)
    )


def _table10(settings: ExperimentConfig) -> Table:
    return Table(
        "table10",
        "Classification when synthetic images replace real ones (paper: table 10)",
        _classified("images"),
        _mixed_rows(paper.TABLE10, settings),
    )


def _gain(settings: ExperimentConfig, num_train: int) -> Table:
    """Not in the paper: what a generator's pairs, used in four ways, add to few and to many real ones."""
    rows = []
    for real in sorted(settings.real_pairs):
        rows.append(Row(NAMES["real"], f"R{real}", Mix(real), {}, num_real=real))
        rows += [row for method in settings.methods for row in _gain_rows(method, real, settings)]
        rows += [
            Row("More real", f"R{real} + R{real * times}", Mix(real * (1 + times)), {}, num_real=real,
                way=f"{times} x more real")
            for times in settings.multiples
            if real * (1 + times) <= num_train
        ]  # fmt: skip
    columns = tuple(column for task in settings.gain_tasks for column in _GAIN_COLUMNS[task])
    return Table("gain", "What synthetic pairs add, by the number of real ones", columns, tuple(rows), _GAIN_NOTES)


def _gain_rows(method: str, real: int, settings: ExperimentConfig) -> list[Row]:
    most = max(settings.multiples)
    half, balanced = real * most // 2, str(GeneratorName(method, variant=BALANCED))
    ways = {
        f"{times} x mixed": (f"R{real} + S{real * times}", Mix(real, real * times, method))
        for times in settings.multiples
    }
    ways |= {
        f"{most} x pretraining": (f"S{real * most}, then R{real}", Mix(real, real * most, method, pretrains=True)),
        f"{most / 2:g} x selected": (
            f"R{real} + S{half} chosen from S{real * most}", Mix(real, half, method, chosen_from=real * most)
        ),
        f"{most} x balanced": (f"R{real} + S{real * most} balanced", Mix(real, real * most, balanced)),
    }  # fmt: skip
    return [Row(NAMES[method], data, mix, {}, num_real=real, way=way) for way, (data, mix) in ways.items()]


def _figures(settings: ExperimentConfig) -> Table:
    """No cells: pairs of one generator, EMIXER if it is among the methods, beside real ones."""
    name = "emixer" if "emixer" in settings.methods else settings.methods[0]
    rows = (Row(NAMES["real"], "", Mix(0), {}), Row(NAMES[name], "", Mix(0, 0, name), {}))
    return Table("figures", "Real samples beside synthetic ones (paper: figures 8 to 12)", (), rows)


_BEYOND_NOTES = (
    "Not in the paper: five times as many synthetic as real pairs (the protocol of ChexGen); `then`: half of the steps "
    "on synthetic pairs, the other half on real ones (the order of RoentGen-v2); `chosen from`: of each combination of "
    "labels the half of the pairs on which a judge, trained on the same R, agrees most with image and report.",
)

_GAIN_NOTES = (
    "Gains are over the same number of real pairs alone. All models are trained on the same number of pairs, repeats "
    "included.",
    "`then`: half of the steps on synthetic pairs, the other half on real ones; `chosen from`: of each combination of "
    "labels the half on which a judge, trained on the same R, agrees most with image and report; `balanced`: each "
    "finding equally often; `More real`: additional real pairs instead of synthetic ones, for comparison.",
)

_OWN_NOTE = (
    "Each generator is trained on the real pairs of its row alone, and selected on the validation split like the "
    "downstream models. A finding that those pairs lack is in none of its pairs."
)

_TABLES: Mapping[str, Callable[[ExperimentConfig], Table]] = {
    "table1": _table1, "table2": _table2, "table3": _table3, "table5": _table5, "table9": _table9,
    "table10": _table10, "figures": _figures,
}  # fmt: skip


def _classified(task: Task) -> tuple[Column, Column]:
    return Column("auc", "AUC", task, "auc"), Column("acc", "ACC", task, "acc")


_GAIN_COLUMNS: Mapping[str, tuple[Column, ...]] = {
    "images": (Column("auc", "AUC", "images", "auc"),),
    "pairs": (Column("auc", "AUC of pairs", "pairs", "auc"),),
    "reports": (Column("cider", "CIDEr", "reports", "cider"), Column("bleu_1", "BLEU-1", "reports", "bleu1")),
}


def size_in_words(images: int, settings: ExperimentConfig, letter: str) -> str:
    """`S50k`, or the scaled size, e.g. `S500`."""
    number = scaled(images, settings)
    return f"{letter}{number // 1000}k" if number % 1000 == 0 else f"{letter}{number}"


def _mixed_rows(printed: Mapping[tuple[str, str], paper.Figures], settings: ExperimentConfig) -> tuple[Row, ...]:
    rows = []
    for (name, data), figures in printed.items():
        if name != "real" and name not in settings.methods:
            continue
        sizes = {part[0]: 1000 * int(part[1:-1]) for part in data.split(" + ")}
        words = " + ".join(size_in_words(images, settings, letter) for letter, images in sizes.items())
        synthetic = scaled(sizes["S"], settings) if "S" in sizes else 0
        mix = Mix(scaled(sizes["R"], settings), synthetic, name if synthetic else None)
        rows.append(Row(NAMES[name], words, mix, figures))
    return tuple(rows)
