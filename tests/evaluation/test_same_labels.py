"""References of the same labels: equally many for generated reports and for real ones."""

from emixer.evaluation.same_labels import References, same_label_references

EDEMA, NOTHING = b"\1", b"\0"


def report(word: str) -> list[list[str]]:
    return [[word]]


WRITTEN: References = {
    EDEMA: {"s1": ("ann", report("a")), "s2": ("bob", report("b")), "s3": ("bob", report("c"))},
    NOTHING: {"s4": ("cat", report("d"))},
}


def test_a_real_report_has_those_of_other_people_for_references() -> None:
    found = same_label_references([EDEMA, EDEMA, NOTHING], ["ann", "bob", "cat"], WRITTEN, 5)
    assert sorted(found[0]) == [report("b"), report("c")]
    assert found[1] == [report("a")]
    assert 2 not in found


def test_a_generated_report_takes_the_place_of_a_person_of_its_labels() -> None:
    # so that a perfect generator scores as real reports do, and not higher for having more references
    found = same_label_references([EDEMA] * 3000 + [NOTHING], [None] * 3001, WRITTEN, 5)
    assert 3000 not in found, "the only person with these labels is the one it stands for"
    in_place_of_ann = sum(sorted(references) == [report("b"), report("c")] for references in found.values())
    in_place_of_bob = sum(references == [report("a")] for references in found.values())
    assert in_place_of_ann + in_place_of_bob == 3000
    assert 900 < in_place_of_ann < 1100, "a third of the reports are hers"


def test_at_most_so_many_references() -> None:
    (references,) = same_label_references([EDEMA], ["cat"], WRITTEN, 2).values()
    assert len(references) == 2
    assert references[0] != references[1]


def test_reports_of_the_same_labels_have_references_of_their_own() -> None:
    # with the same few for all, figures and their intervals would depend on which these are
    written: References = {NOTHING: {f"s{n}": (f"p{n}", report(str(n))) for n in range(50)}}
    people = [f"p{n}" for n in range(50)] + [None] * 50
    found = same_label_references([NOTHING] * 100, people, written, 5)
    assert found == same_label_references([NOTHING] * 100, people, written, 5), "the same each time"
    assert all(report(str(n)) not in found[n] for n in range(50)), "never one's own"
    for rows in (range(50), range(50, 100)):
        assert len({str(sorted(found[row])) for row in rows}) > 45, "sets of five of 49 hardly repeat"
        assert len({word for row in rows for [[word]] in found[row]}) == 50, "all are references of some report"
