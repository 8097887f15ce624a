"""Pictures of every page at three widths, light and dark, to be looked at: ``python tests/browser/screenshots.py DIR``.

``--only PART`` takes the pages whose name holds PART; ``--widths 375`` only these widths. ``DIR/light.png`` and
``DIR/dark.png`` show the tops of all pages at the middle width: what was looked at last is kept in ``looks/``.
"""

import argparse
import shutil
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "server")]

from PIL import Image  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402

from tests.browser.serving import FLAGS, listening, sign_in  # noqa: E402
from tests.server.catalogue.seeding import world  # noqa: E402

WIDTHS = (375, 768, 1440)
TILE, ACROSS = (220, 300), 9


def pages(catalogue):
    """Name → address of every page; those of katherine need her session."""
    from commentary_hub_server.rules.catalogue import Query

    def first(**query):
        return catalogue.search(Query(**query)).entries[0]

    weights = next(e for e in catalogue.search(Query(kind="example_weights", limit=50)).entries if "cifar" in e.dataset)
    home = f"/datasets/{weights.repo_id}"
    three = "&".join(f"id={entry.id}" for entry in catalogue.search(Query(dataset=weights.dataset, limit=3)).entries)
    return {
        "home": "/",
        "search": "/?search=weights&kind=example_weights&verified=true",
        "nothing": "/?search=nowhere",
        "datasets": "/datasets",
        "dataset": f"/for/{weights.dataset}",
        "weights": home,
        "texts": f"/datasets/{first(kind='example_weights', dataset='fancyzhx/ag_news').repo_id}",
        "blend": f"/datasets/{first(kind='label_blend').repo_id}",
        "mask": f"/datasets/{first(kind='attention_mask').repo_id}",
        "lineage": "/datasets/noether-lab/digits-example-weights-5",
        "files": f"{home}/tree/main",
        "tensors": f"{home}/blob/main/commentary.safetensors",
        "text": f"{home}/blob/main/commentary.json",
        "history": f"{home}/commits/main",
        "difference": f"{home}/difference?before={catalogue_before(weights)}&after=main",
        "compare": f"/compare?{three}",
        "compare-none": "/compare",
        "owner": "/owners/grace",
        "interface": "/rest",
        "sign-in": "/sign-in",
        "missing": "/datasets/nobody/nothing",
        "own-tokens": "/tokens",
        "own-settings": "/datasets/katherine/letters/settings",
        "own-inside": "/datasets/katherine/letters",
        "own-mixture": "/datasets/katherine/letters/commentaries/mixture-weights",
        "own-future": "/datasets/katherine/from-the-future",
        "own-plain": "/datasets/katherine/plain",
    }


def catalogue_before(entry):
    """The revision before the newest."""
    from tests.server.catalogue.seeding import MemoryShelf

    return MemoryShelf.name_of(entry.repo_id, 0)


def sheet(folder, scheme):
    """The tops of all pages at the middle width on one small picture."""
    files = sorted(folder.glob(f"*-{WIDTHS[1]}-{scheme}.png"))
    (wide, high), rows = TILE, -(-len(files) // ACROSS)
    found = Image.new("RGB", (ACROSS * (wide + 4), rows * (high + 4)), "gray")
    for number, file in enumerate(files):
        page = Image.open(file).convert("RGB")
        page = page.resize((wide, page.height * wide // page.width)).crop((0, 0, wide, high))
        found.paste(page, (number % ACROSS * (wide + 4), number // ACROSS * (high + 4)))
    found.quantize(32).save(folder / f"{scheme}.png", optimize=True)


def main():
    """Take them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--widths", type=int, nargs="*", default=WIDTHS)
    parser.add_argument("--schemes", nargs="*", default=("light", "dark"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    app, catalogue, *_ = world(24)
    with listening(app) as base, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for scheme in options.schemes:
            for width in options.widths:
                context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
                page = context.new_page()
                for name, path in pages(catalogue).items():
                    if options.only not in name:
                        continue
                    if name.startswith("own-"):
                        sign_in(page, base, "katherine")
                    page.goto(base + path)
                    page.wait_for_load_state("networkidle")
                    page.evaluate("document.querySelectorAll('img').forEach((one) => { one.loading = 'eager'; })")
                    page.wait_for_load_state("networkidle")
                    page.screenshot(path=options.folder / f"{name}-{width}-{scheme}.png", full_page=True)
                    context.clear_cookies()
                context.close()
            sheet(options.folder, scheme)
        browser.close()


if __name__ == "__main__":
    main()
