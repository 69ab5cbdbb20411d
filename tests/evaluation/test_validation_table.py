from emixer.evaluation.validation_table import validation_table


def test_generated_values_stand_beside_real_ones_and_what_has_no_name_is_kept() -> None:
    metrics = {
        "images": 640.0, "validation/report_f1_generated": 0.75, "validation/report_f1_real": 0.5,
        "validation/report_f1_chance_real": 0.25, "validation/report_f1/Edema_generated": 0.125,
        "validation/fid_chest_encoder": 0.0625, "validation/word_cross_entropy": 0.875, "validation/novel": 3.0,
    }  # fmt: skip
    assert [" ".join(line.split()) for line in validation_table(metrics)] == [
        "last validation pass generated real",
        "label F1 of reports 0.75 0.5",
        "Fréchet distance, chest encoder 0.0625",
        "word cross-entropy [nats] 0.875",
        "novel 3",
    ]
    assert validation_table({"images": 640.0}) == []
