"""Mixtures in pictures: every source has its bar, as long as its share."""

import pytest
import torch

from commentary_hub.commentaries import MixtureWeights
from commentary_hub.errors import InputError
from commentary_hub.insight import pictures
from commentary_hub.insight._canvas import ACCENT
from commentary_hub.insight._shares import shares
from tests.insight.pictured import check_picture, stored

pytest.importorskip("matplotlib")


def test_a_stored_mixture_has_a_bar_for_each_source_as_long_as_its_share(tmp_path):
    mixture = MixtureWeights(["news", "plays", "code"])
    with torch.no_grad():
        mixture.logits.copy_(torch.tensor([0.6, 0.3, 0.1]).log())
    content, alt = pictures(stored(tmp_path, mixture))["shares.png"]
    pixels = check_picture(content, alt=alt)
    assert "60.0% for news" in alt
    assert "10.0% for code" in alt
    accent = torch.tensor([int(ACCENT[at : at + 2], 16) for at in (1, 3, 5)])
    lengths = (pixels == accent).all(2).sum(1)
    bars = sorted({int(length) for length in lengths if length > 20}, reverse=True)
    assert bars[0] / bars[-1] == pytest.approx(6, rel=0.05)


def test_many_sources_and_names_that_cannot_be_written_are_still_drawn():
    content, alt = shares({f"source number {number} 猫": 1 / 50 for number in range(50)})
    check_picture(content, alt=alt)
    with pytest.raises(InputError, match="no source"):
        shares({})
