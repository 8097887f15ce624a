"""The map of a label blend in a real browser: whoever reads a name beside a row reads the right one."""

import json
import random
import shutil
import struct
from itertools import pairwise

import pytest
from playwright.sync_api import sync_playwright

from commentary_hub_server.rules.catalogue import Query
from tests.browser.serving import FLAGS, listening
from tests.server.catalogue.artefacts import tensors
from tests.server.catalogue.seeding import world

CHROMIUM = shutil.which("chromium")
# Of the names beside or below: those to be seen, as [number, where the middle of its text lies, side of the map].
NAMES = """side => {
  const across = side === "beside" ? ["top", "bottom"] : ["left", "right"];
  const square = document.querySelector(".chart.heat").getBoundingClientRect();
  return [...document.querySelectorAll(`.matrix .${side} li`)].flatMap((one, at) => {
    if (getComputedStyle(one).visibility === "hidden") return [];
    const range = document.createRange();
    range.selectNodeContents(one);
    const [from, to] = across.map((edge) => range.getBoundingClientRect()[edge] - square[across[0]]);
    return [[at, (from + to) / 2, square.width]];
  });
}"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH (Debian: apt-get install chromium)")


def with_classes(shelf, entry, count):
    """Let an entry speak about so many classes."""
    files = next(files for commit, files in shelf.commits[entry.repo_id] if commit.id == entry.revision)
    chance = random.Random(0)
    logits = struct.pack(f"<{count * count}f", *(chance.gauss(0, 1) for _ in range(count * count)))
    files["commentary.safetensors"] = tensors([("commentary.logits", "F32", [count, count], logits)])
    described = json.loads(files["commentary.json"])
    described["dataset"]["classes"] = [f"{'mountain lion' if at % 3 else 'bee'} {at}" for at in range(count)]
    files["commentary.json"] = json.dumps(described).encode()


def test_names_stand_beside_their_rows_and_below_their_columns_and_none_over_another():
    app, catalogue, shelf, _ = world(4)
    entry = catalogue.search(Query(kind="label_blend")).entries[0]
    with listening(app) as base, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for count in (10, 12, 13, 20, 28, 30, 40, 100):
            with_classes(shelf, entry, count)
            drawn = min(count, 40)
            for width in (360, 768, 1000, 1440):
                page = browser.new_page(viewport={"width": width, "height": 900})
                page.goto(f"{base}/datasets/{entry.repo_id}")
                for side in ("beside", "below"):
                    seen = page.evaluate(NAMES, side)
                    assert len(seen) >= (drawn if width in (768, 1440) else drawn / 4), (count, width)
                    for at, middle, whole in seen:
                        assert abs(middle - (at + 0.5) * whole / drawn) < 1, (count, width, side, at)
                    apart = [later[1] - earlier[1] for earlier, later in pairwise(seen)]
                    assert min(apart) > 12, (count, width, side)  # the size of the type
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (count, width)
                page.close()
        browser.close()
