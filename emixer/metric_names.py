"""What metrics are called where people read them. Each table chooses which it shows, and in what order."""

METRIC_NAMES = {
    "label_auc": "label AUC of images",
    "report_f1": "label F1 of reports",
    "pair_agreement": "image-report agreement (AUC)",
    "distinct_reports": "share of distinct reports",
    "words_per_report": "words per report",
    "word_cross_entropy": "word cross-entropy [nats]",
}


def fid_name(name: str) -> str:
    """What a Fréchet distance is called beside other metrics of images and reports."""
    return f"Fréchet distance of images ({fid_network(name)})"


def fid_network(name: str) -> str:
    """The network in the name of a Fréchet distance: `random densenet` of `validation/fid_random_densenet`."""
    return name.partition("fid_")[2].replace("_", " ")
