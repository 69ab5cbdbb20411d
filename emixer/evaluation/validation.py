"""The validation pass: one model against held-out images and reports, in seconds.

`Validator.prepare` measures the real images once; `validate` generates one pair for each real validation row,
conditioned on that row's labels and conditions (all drawn from the train distribution if it has no labels), and returns
the metrics

    fid_<encoder>                     Fréchet distance between real and generated images, by the named encoder's
                                      features
    word_cross_entropy                mean -log p of the real reports' words, teacher-forced [nats]
    word_perplexity                   its exponential
    label_auc_{generated,real}        the judge's AUC of images against their labels, mean over the labels that the real
                                      rows have often enough
    label_auc_{generated,real}/<L>    ... of label L
    pair_agreement_{generated,real}   the judge's AUC of images against what their own reports state, mean over the
                                      labels that real reports state and deny often enough; also pair_agreement_.../<L>
    report_f1_{generated,real}        F1 of labels that reports state against the images' labels, mean over the labels
                                      that real rows with a report have often enough; also report_precision_...,
                                      report_recall_... and report_f1_.../<L>
    report_negative_precision_{generated,real}
                                      share of negated findings that are absent; also the number of findings stated and
                                      negated per report: report_positive_statements_..., report_negative_statements_...
    distinct_reports_generated        number of distinct reports, by the number of reports. Not of real ones: the images
                                      of a study share its report
    words_per_report_{generated,real} mean number of words

`real` is the same measurement on the real validation rows: what a perfect generator would score with this judge and
labeler. A metric that cannot be measured (no labels, no reports or none in English, a label with too few images) is
omitted, never guessed.

Shapes: B images of a batch, N images, F features, L labels, Y labels and columns of conditions, S sentences, W words of
a sentence.
Source: EMIXER §6.3.3 (FID); the rest is ours.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor

from emixer.data.schema import ENGLISH
from emixer.data.vocabulary import Vocabulary
from emixer.evaluation.features import FeatureExtractor
from emixer.evaluation.fid import FeatureStatistics, frechet_distance
from emixer.evaluation.label_faithfulness import EncoderJudge, Judge, LabelJudge
from emixer.evaluation.pair_metrics import (
    Report,
    agreement,
    agreement_over,
    faithfulness,
    label_aucs,
    measured_labels,
    variety,
)
from emixer.evaluation.report_mentions import mentions, reads_language
from emixer.evaluation.resampling import ALL, Figures
from emixer.models.noise import RowNoise
from emixer.models.paired_model import Batch, LabelPrior, ModelSpec, PairedModel


@dataclass(frozen=True)
class Validator:
    """Real validation rows and the metrics measured on them."""

    extractor: FeatureExtractor
    spec: ModelSpec
    batches: Sequence[Batch]
    labels_NL: Tensor
    """float32 labels of the real rows, NaN for a row without labels."""
    statistics: FeatureStatistics
    judge: Judge | None
    real: Figures
    language: str = ENGLISH
    """Language of the reports. Reports in an unsupported language are not scored."""

    @classmethod
    def prepare(
        cls, extractor: FeatureExtractor, spec: ModelSpec, train: Iterable[Batch], validation: Sequence[Batch],
        judge: Literal["probe", "encoder"] = "probe", language: str = ENGLISH,
    ) -> Self:  # fmt: skip
        """Measure the real rows. train: read once, not kept, to fit the judge. validation: rows to validate models on.

        judge: "encoder" uses the extractor's own outputs and does not read `train`. language: of the reports.
        Raises ValueError for fewer than two validation images.
        """
        num = sum(len(batch) for batch in validation)
        if num < 2:
            raise ValueError(f"The validation pass needs at least 2 images; {num} were given.")
        decider: Judge | None = (
            EncoderJudge(extractor, spec.label_names)
            if judge == "encoder"
            else _fit_judge(extractor, train, spec.num_labels)
        )
        features_NF = extractor.over(batch.image_BCHW for batch in validation)
        labels_NL = torch.cat([_known_labels(batch, spec.num_labels) for batch in validation]).cpu()
        scores_NL = None if decider is None else decider.score(features_NF).cpu()
        real = label_aucs(scores_NL, labels_NL, spec.label_names)(ALL)
        with_report = torch.cat([batch.has_report_B for batch in validation]).cpu()
        every_report = list(_reports((batch.words_BSW for batch in validation), spec.tokens))
        reports = [report for report, has in zip(every_report, with_report, strict=True) if has]
        real |= {name: value for name, value in variety(reports).items() if name != "distinct_reports"}
        real |= _read(reports, None if scores_NL is None else scores_NL[with_report], labels_NL[with_report], spec,
                      language)  # fmt: skip
        statistics = FeatureStatistics.of(features_NF)
        return cls(extractor, spec, validation, labels_NL, statistics, decider, _named(real, "real"), language)

    def validate(self, model: PairedModel, noise: RowNoise, temperature: float = 0.0) -> Figures:
        """Metrics of `model`. noise: one row per validation image; the same noise gives the same metrics."""
        assert noise.num_rows == len(self.labels_NL), "the noise has a row for each validation image"
        statistics = FeatureStatistics.empty(self.extractor.num_features, self.extractor.device)
        features, words, labels = [], [], []
        for batch, rows in zip(self.batches, self._noise_of_batches(noise), strict=True):
            labels_BY = self._conditions(batch, rows)
            pairs = model.sample(labels_BY, rows, temperature)
            features.append(self.extractor(pairs.image_BCHW))
            statistics += FeatureStatistics.of(features[-1])
            words.append(pairs.words_BSW)
            labels.append(labels_BY[:, : self.spec.num_labels])
        labels_NL = torch.cat(labels).cpu()
        scores_NL = None if self.judge is None else self.judge.score(torch.cat(features)).cpu()
        reports = list(_reports(words, self.spec.tokens))
        # fewer real rows have labels or a report: means are over what these can measure, on both sides
        counted = measured_labels("label_auc_real", self.real) or None
        generated = label_aucs(scores_NL, labels_NL, self.spec.label_names, counted)(ALL)
        generated |= variety(reports)
        counted = measured_labels("report_f1_real", self.real) or None
        generated |= agreement_over(
            measured_labels("pair_agreement_real", self.real),
            _read(reports, scores_NL, labels_NL, self.spec, self.language, counted),
        )
        return {
            f"fid_{self.extractor.name}": frechet_distance(self.statistics, statistics),
            **_word_metrics(model, zip(self.batches, self._noise_of_batches(noise), strict=True)),
            **_named(generated, "generated"),
            **self.real,
        }

    def _noise_of_batches(self, noise: RowNoise) -> Iterator[RowNoise]:
        first = 0
        for batch in self.batches:
            yield noise.rows(first, len(batch))
            first += len(batch)

    def _conditions(self, batch: Batch, noise: RowNoise) -> Tensor:
        prior = LabelPrior(self.spec).to(batch.labels_BY.device)
        drawn_BY = prior.draw(noise.uniform("labels"))
        return torch.where(batch.labelled_B[:, None], batch.labels_BY, drawn_BY)


def _read(
    reports: Sequence[Report], scores_NL: Tensor | None, labels_NL: Tensor, spec: ModelSpec, language: str,
    counted: Collection[str] | None = None,
) -> Figures:  # fmt: skip
    """Metrics of what reports state, against labels and against the judge; empty for an unsupported language. counted:
    labels that means of report metrics are over; None: all that can be measured."""
    if not reads_language(language):
        return {}
    stated_NL = mentions(reports, spec.label_names, language)
    of_reports = faithfulness(stated_NL, labels_NL, spec.label_names, counted=counted)(ALL)
    # an empty report agrees with nothing and denies nothing
    told_N = np.array([bool(report) for report in reports], bool)
    judged_NL = None if scores_NL is None else scores_NL[torch.from_numpy(told_N)]
    return of_reports | agreement(judged_NL, stated_NL[told_N], spec.label_names)(ALL)


def _fit_judge(extractor: FeatureExtractor, train: Iterable[Batch], num_labels: int) -> LabelJudge | None:
    features, labels = [], []
    for batch in train:
        features.append(extractor(batch.image_BCHW[batch.labelled_B]))
        labels.append(batch.labels_BY[batch.labelled_B, :num_labels])
    if sum(map(len, labels)) < 2:
        return None
    return LabelJudge.fit(torch.cat(features), torch.cat(labels).to(extractor.device))


def _known_labels(batch: Batch, num_labels: int) -> Tensor:
    return batch.labels_BY[:, :num_labels].masked_fill(~batch.labelled_B[:, None], torch.nan)


def _reports(words: Iterable[Tensor], tokens: Sequence[str]) -> Iterator[Report]:
    vocabulary = Vocabulary(tuple(tokens))
    for words_BSW in words:
        yield from map(vocabulary.sentences_of, words_BSW.cpu().numpy())


def _named(metrics: Figures, kind: str) -> Figures:
    """Insert the kind in metric names: report_f1/Edema -> report_f1_generated/Edema."""
    return {
        f"{name}_{kind}{slash}{label}": v for key, v in metrics.items() for name, slash, label in [key.partition("/")]
    }


def _word_metrics(model: PairedModel, batches: Iterable[tuple[Batch, RowNoise]]) -> Figures:
    sums = [torch.stack([part.double() for part in model.word_cross_entropy(*both)]) for both in batches]
    nats, num_words = torch.stack(sums).sum(0).tolist()
    if num_words == 0:
        return {}
    return {"word_cross_entropy": nats / num_words, "word_perplexity": math.exp(min(nats / num_words, 700.0))}
