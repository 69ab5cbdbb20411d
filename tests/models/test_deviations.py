"""The page of deviations matches the code that cites it."""

import re
from pathlib import Path

from emixer.config import load_config
from emixer.model_kinds import build_model
from emixer.models.emixer import Emixer
from emixer.models.paired_model import ModelSpec

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "deviations.md").read_text(encoding="utf-8")


def test_every_cited_heading_exists() -> None:
    headings = {title.lower().replace(" ", "-") for title in re.findall(r"^## (.+)$", PAGE, re.MULTILINE)}
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "emixer").rglob("*.py")]
    cited = {anchor for source in sources for anchor in re.findall(r"deviations\.md#([a-z-]+)", source)}
    assert cited
    assert cited <= headings


def test_paper_config_has_the_papers_numbers_and_the_pages_parameter_counts() -> None:
    config = load_config(ROOT / "configs" / "paper.yaml")
    assert config.train.images == 400_000 * config.optim.discriminator_steps * config.train.batch_size
    assert (config.train.batch_size, config.optim.discriminator_steps) == (512, 2)
    assert (config.optim.lr_generator, config.optim.lr_discriminator) == (5e-5, 2e-4)
    spec = ModelSpec(("label",) * 14, ("token",) * 10_000, ((0,) * 14,), (1,))
    model = build_model(config.model, spec, load_weights=False)
    assert isinstance(model, Emixer)
    assert model.image_generator.noise_size == 120
    assert model.report_decoder.encoder.feature_size == 512
    written = {int(number.replace(",", "")) for number in re.findall(r"\| ([\d,]+) \|$", PAGE, re.MULTILINE)}
    networks = [*model.children(), model.report_decoder.encoder, model]
    assert {sum(p.numel() for p in network.parameters()) for network in networks} == written
