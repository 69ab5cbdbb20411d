"""Whose an image is: patients and studies of two sources are told apart."""

import pyarrow as pa

from emixer.data.patients import patients_in, studies_in, subjects_in

TABLE = pa.table({"source": ["a", "b", "a"], "subject_id": ["1", "1", "1"], "study_id": ["7", "8", "7"]})


def test_subjects_and_studies_of_two_sources_with_the_same_ids_are_distinct() -> None:
    assert subjects_in(TABLE).tolist() == ["a/1", "b/1", "a/1"]
    assert studies_in(TABLE).tolist() == ["a/7", "b/8", "a/7"]
    first, second, third = patients_in(TABLE).tolist()
    assert first == third != second


def test_a_table_without_rows_has_no_subjects() -> None:
    assert subjects_in(TABLE.slice(0, 0)).tolist() == []
    assert patients_in(TABLE.slice(0, 0)).tolist() == []
