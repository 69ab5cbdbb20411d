"""Whose an image is, for what must be told of patients and not of images: by source and subject, since two sources may
number their subjects alike, and their studies.

Shapes: N rows, G groups, V words of the vocabulary.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from emixer.data.shards import ShardSet

PATIENT = ("source", "subject_id")
"""Columns that identify a patient."""
STUDY = ("source", "study_id")
"""Columns that identify a study."""


def subjects_in(table: pa.Table) -> NDArray[np.object_]:
    """SOURCE/SUBJECT of each row (N), as text. Never printed. table: with the columns PATIENT."""
    return _with_source(table, "subject_id")


def studies_in(table: pa.Table) -> NDArray[np.object_]:
    """SOURCE/STUDY of each row (N), as text. Never printed. table: with the columns STUDY."""
    return _with_source(table, "study_id")


def _with_source(table: pa.Table, name: str) -> NDArray[np.object_]:
    joined = pc.binary_join_element_wise(table["source"], table[name], "/")
    texts: NDArray[np.object_] = joined.to_numpy(zero_copy_only=False)
    return texts


def patients_in(table: pa.Table) -> NDArray[np.uint64]:
    """A hash of the patient of each row (N), for when there are too many to keep as text."""
    hashes: NDArray[np.uint64] = pd.util.hash_array(subjects_in(table))
    return hashes


def num_patients(group_N: NDArray[Any], patient_N: NDArray[np.uint64], num_groups: int) -> NDArray[np.int64]:
    """How many patients are in each group (G). group: of each row, from 0 to num_groups - 1."""
    pairs = pd.DataFrame({"group": np.ravel(group_N), "patient": patient_N}).drop_duplicates()
    return np.bincount(pairs["group"], minlength=num_groups)


def patients_of_words(shards: ShardSet) -> NDArray[np.int64]:
    """In the reports of how many patients of the train split each word of the vocabulary stands (V)."""
    return patients_of_tokens(shards.files("train"), shards.vocabulary.tokens)


def patients_of_tokens(files: Iterable[Path], names: Sequence[str]) -> NDArray[np.int64]:
    """In the reports of how many patients of shard files each token stands (V)."""
    tokens = pa.array(names, pa.string())
    words, patients = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
    for file in files:
        table = pq.read_table(file, columns=["sentences", *PATIENT]).filter(pc.field("sentences").is_valid())
        reports = pc.list_flatten(table["sentences"])
        of_report = pc.list_parent_indices(table["sentences"]).to_numpy()
        of_sentence = pc.list_parent_indices(reports).to_numpy()
        found = pc.index_in(pc.list_flatten(reports), value_set=tokens).to_numpy()
        known = ~np.isnan(found)
        patient = patients_in(table)[of_report[of_sentence[known]]]
        pairs = pd.DataFrame({"word": found[known].astype(np.int64), "patient": patient}).drop_duplicates()
        words.append(pairs["word"].to_numpy())
        patients.append(pairs["patient"].to_numpy())
    return num_patients(np.concatenate(words), np.concatenate(patients), len(tokens))
