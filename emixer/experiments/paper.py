"""The paper's figures, as printed, for MIMIC-CXR at 128 px. Shown beside ours, not compared with them.

Source: EMIXER (Biswal et al.), tables 1, 2, 3, 5, 9 and 10. Its inconsistencies are kept: table 3 prints the same means
for JointGAN and SM-GAN; table 1's BLEU-1 of .313 for 600k JointGAN pairs is 4 points above that of 300k, where the
previous step is 1 point; table 5 says CheXpert where §4.1 says MIMIC-CXR.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Printed:
    """A figure of the paper."""

    mean: float
    sd: float | None
    """Standard deviation, where printed; the paper does not say over what."""

    def __str__(self) -> str:
        return f"{self.mean:.3f}" if self.mean < 1 else f"{self.mean:.2f}"


Figures = Mapping[str, Printed]
"""Printed figures by column name."""


def _read(columns: str, rows: str) -> dict[tuple[str, str], Figures]:
    """Parse lines `method | data | .824 34 .846 41`: figures with the sd in units of 0.0001, `-` for none."""
    read: dict[tuple[str, str], Figures] = {}
    for line in rows.strip().splitlines():
        method, data, printed = (part.strip() for part in line.split("|"))
        numbers = re.split(r"\s+", printed)
        pairs = zip(numbers[::2], numbers[1::2], strict=True)
        figures = [Printed(float(mean), None if sd == "-" else int(sd) / 10_000) for mean, sd in pairs]
        read[method, data] = dict(zip(columns.split(), figures, strict=True))
    return read


TABLE1 = _read("auc acc cider bleu1 bleu2 bleu3 bleu4", """
    real     | R100k         | .824 34  .846 41  .712 14  .253 24  .198 34  .095 41  .074 12
    jointgan | R100k + S50k  | .798 12  .814 23  .719 23  .259 19  .201 24  .098 25  .079 31
    jointgan | R100k + S100k | .812 13  .835 21  .725 19  .261 14  .207 29  .114 22  .081 34
    jointgan | R100k + S300k | .826 18  .839 11  .748 17  .272 15  .213 21  .129 29  .085 51
    jointgan | R100k + S600k | .831 9   .846 19  .773 22  .313 11  .224 41  .134 21  .093 21
    cogan    | R100k + S50k  | .827 34  .843 19  .703 19  .231 22  .192 12  .082 19  .073 31
    cogan    | R100k + S100k | .829 11  .854 21  .692 14  .214 23  .187 12  .073 22  .067 33
    cogan    | R100k + S300k | .831 13  .857 24  .724 15  .241 24  .211 12  .091 41  .076 25
    cogan    | R100k + S600k | .837 11  .849 23  .734 22  .251 21  .236 12  .114 32  .081 19
    smgan    | R100k + S50k  | .818 13  .832 13  .713 31  .251 19  .203 34  .093 21  .077 14
    smgan    | R100k + S100k | .823 35  .831 14  .723 32  .258 31  .207 34  .098 22  .079 19
    smgan    | R100k + S300k | .821 21  .847 19  .731 33  .263 18  .212 34  .106 32  .089 36
    smgan    | R100k + S600k | .842 29  .859 18  .752 39  .275 11  .236 34  .125 31  .096 25
    emixer   | R100k + S50k  | .835 15  .857 24  .731 31  .276 34  .204 27  .112 32  .078 21
    emixer   | R100k + S100k | .842 21  .864 24  .752 24  .297 41  .216 50  .132 19  .083 24
    emixer   | R100k + S300k | .853 19  .869 28  .763 35  .324 42  .229 14  .145 14  .097 31
    emixer   | R100k + S600k | .873 25  .884 26  .783 43  .346 22  .247 19  .169 18  .132 52
""")  # fmt: skip

TABLE2 = _read("auc acc", """
    real     | R100k         | .849 25  .868 21
    jointgan | R100k + S300k | .869 23  .905 23
    cogan    | R100k + S300k | .871 14  .896 19
    smgan    | R100k + S300k | .883 16  .902 15
    emixer   | R100k + S300k | .905 19  .924 12
""")  # fmt: skip

TABLE3 = _read("acc bleu1 fid", """
    cogan     | 100 % of labels | .827 11  .247 23  15.23 15
    jointgan  | 100 % of labels | .813 14  .221 31  16.58 19
    smgan     | 100 % of labels | .813 21  .221 28  16.58 21
    emixer-30 | 30 % of labels  | .838 13  .258 21  12.84 21
    emixer-50 | 50 % of labels  | .842 8   .269 24  11.73 23
    emixer    | 100 % of labels | .845 24  .271 14  11.31 28
""")  # fmt: skip

TABLE5 = _read("auc sensitivity ppv", """
    none             | Normal              | .853 23  .705 34  .834 21
    none             | Bacterial Pneumonia | .847 12  .734 14  .768 41
    none             | Viral Pneumonia     | .841 34  .758 15  .725 21
    none             | COVID-19            | .853 33  .765 19  .854 24
    real             | Normal              | .932 27  .761 31  .931 14
    real             | Bacterial Pneumonia | .923 21  .823 17  .834 19
    real             | Viral Pneumonia     | .917 18  .832 14  .745 9
    real             | COVID-19            | .921 14  .863 21  .928 16
    real + synthetic | Normal              | .956 19  .783 17  .963 15
    real + synthetic | Bacterial Pneumonia | .945 33  .851 14  .842 18
    real + synthetic | Viral Pneumonia     | .948 31  .853 23  .775 19
    real + synthetic | COVID-19            | .953 38  .898 34  .943 21
""")  # fmt: skip

TABLE9 = _read("Cardiomegaly Consolidation Pleural_Effusion Pneumothorax Edema", """
    real     | R100k | .812 -  .847 -  .753 -  .735 -  .732 -
    cogan    | S100k | .741 -  .817 -  .708 -  .713 -  .682 -
    jointgan | S100k | .732 -  .785 -  .724 -  .681 -  .713 -
    emixer   | S100k | .784 -  .734 -  .728 -  .715 -  .718 -
""")  # fmt: skip

TABLE10 = _read("auc acc", """
    real     | R100k       | .824 -  .846 -
    jointgan | R90k + S10k | .796 -  .813 -
    jointgan | R80k + S20k | .778 -  .801 -
    jointgan | R60k + S40k | .745 -  .764 -
    jointgan | R20k + S80k | .717 -  .732 -
    cogan    | R90k + S10k | .784 -  .808 -
    cogan    | R80k + S20k | .771 -  .796 -
    cogan    | R60k + S40k | .736 -  .757 -
    cogan    | R20k + S80k | .712 -  .746 -
    smgan    | R90k + S10k | .794 -  .812 -
    smgan    | R80k + S20k | .764 -  .783 -
    smgan    | R60k + S40k | .742 -  .763 -
    smgan    | R20k + S80k | .723 -  .742 -
    emixer   | R90k + S10k | .808 -  .828 -
    emixer   | R80k + S20k | .792 -  .821 -
    emixer   | R60k + S40k | .773 -  .796 -
    emixer   | R20k + S80k | .756 -  .774 -
""")  # fmt: skip
