"""The pages in a real browser: find, look, copy; sign in and hide; keyboard only; axe finds nothing serious."""

import shutil
import socket
import threading
import time

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from commentary_hub_server.rules.catalogue import Query
from tests.server.catalogue.seeding import world

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH (Debian: apt-get install chromium)")


@pytest.fixture(scope="module")
def site():
    app, catalogue, *_ = world(24)
    door = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{door.getsockname()[1]}", catalogue
    server.should_exit = True
    thread.join(10)
    door.close()


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


def sign_in(page, base, name):
    page.goto(f"{base}/sign-in")
    page.fill("#name", name)
    page.fill("#password", name * 2)
    page.click("main button")
    page.wait_for_url(f"{base}/")


def test_search_to_dataset_to_commentary_to_copied_snippet(site, browser):
    base, _ = site
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(base)
    page.fill("#search", "cifar10 weights")
    page.keyboard.press("Enter")
    page.click("ol.list p a >> nth=0")
    assert page.inner_text("h1") == "uoft-cs/cifar10"
    page.click("tbody th a >> nth=0")
    page.click("[data-copy=snippet-cli]")
    page.wait_for_function("document.getElementById('said').textContent === 'Copied'")
    assert page.evaluate("navigator.clipboard.readText()").startswith("commentary-hub pull ")
    context.close()


def test_made_private_it_is_gone_for_everybody_else(site, browser):
    base, catalogue = site
    repo_id = catalogue.search(Query(owner="emmy")).entries[0].repo_id
    mine, other = browser.new_context(), browser.new_context()
    page, stranger = mine.new_page(), other.new_page()
    sign_in(page, base, "emmy")
    sign_in(stranger, base, "grace")
    assert stranger.goto(f"{base}/datasets/{repo_id}").status == 200
    page.goto(f"{base}/datasets/{repo_id}/settings")
    page.click("text=Make private")
    page.wait_for_selector("text=Make public")
    assert page.goto(f"{base}/datasets/{repo_id}").status == 200
    assert stranger.goto(f"{base}/datasets/{repo_id}").status == 404
    hidden = stranger.content()
    stranger.goto(f"{base}/datasets/emmy/never-made")
    assert strip_token(stranger.content()) == strip_token(hidden)
    stranger.goto(f"{base}/owners/emmy")
    assert repo_id not in stranger.content()
    catalogue.set_private(repo_id, private=False)
    mine.close()
    other.close()


def strip_token(html):
    start = html.index('name="csrf"')
    return html[:start] + html[html.index(">", start) :]


def test_without_javascript_and_by_keyboard_alone(site, browser):
    base, _ = site
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(base)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.url.endswith("#main")
    page.focus("#search")
    page.keyboard.type("digits")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?search=digits*")
    page.focus("ol.list h3 a >> nth=0")
    page.keyboard.press("Enter")
    page.wait_for_url("**/datasets/**")
    assert page.inner_text("#use") == "Use it"
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_and_pages_are_light(site, browser, scheme):
    base, catalogue = site
    entry = catalogue.search(Query(kind="example_weights")).entries[0]
    # axe is injected as a script, which the pages' policy rightly refuses.
    context = browser.new_context(bypass_csp=True, color_scheme=scheme, viewport={"width": 360, "height": 800})
    page = context.new_page()
    sign_in(page, base, "ada")
    own = catalogue.search(Query(owner="ada")).entries[0].repo_id
    home = f"/datasets/{entry.repo_id}"
    compare = "/compare?" + "&".join(f"id={one.repo_id}" for one in catalogue.search(Query(limit=2)).entries)
    paths = ["/", "/datasets", f"/for/{entry.dataset}", home, f"{home}/tree/main", f"{home}/commits/main", compare,
             f"{home}/blob/main/commentary.safetensors", "/owners/ada", "/tokens", f"/datasets/{own}/settings",
             f"{home}/difference?before={entry.revision}&after={entry.revision}", "/sign-in"]  # fmt: skip
    for path in paths:
        weight = []
        page.on("response", lambda response, weight=weight: weight.append(len(response.body())))
        assert page.goto(base + path).status == 200, path
        page.wait_for_load_state("networkidle")
        serious = [
            found["id"]
            for found in Axe().run(page).response["violations"]
            if found["impact"] in ("serious", "critical")
        ]
        assert serious == [], path
        assert sum(weight) < 150_000, path
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    context.close()
