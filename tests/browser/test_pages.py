"""The pages in a real browser: find, look, copy; sign in and hide; keyboard only; axe finds nothing serious."""

import shutil

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

from commentary_hub_server.rules.catalogue import Query
from tests.browser.screenshots import pages
from tests.browser.serving import FLAGS, listening, sign_in
from tests.server.catalogue.seeding import world

CHROMIUM = shutil.which("chromium")
MAX_PAGE_BYTES = 150_000
# Pages with every part that has colours of its own; the others are checked in light alone.
DISTINCT = {"search", "dataset", "weights", "blend", "tensors", "difference", "missing", "own-tokens", "own-settings"}
ALIKE = {"home", "lineage", "text", "compare-none", "own-plain", "own-future"}  # nothing on them that is not on others
WEIGHTS = "/datasets/katherine/cifar10-example-weights-16"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH (Debian: apt-get install chromium)")


@pytest.fixture(scope="module")
def site():
    app, catalogue, _, accounts = world(24)
    with listening(app) as base:
        yield base, catalogue, accounts


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture
def page(browser):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    context.set_default_timeout(20_000)
    yield context.new_page()
    context.close()


def test_search_to_dataset_to_commentary_to_copied_snippet(site, page):
    base, *_ = site
    page.goto(base)
    page.fill("#search", "cifar10 weights")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?search=cifar10*")
    page.click(".list a.for >> nth=0")
    assert page.inner_text("h1") == "uoft-cs/cifar10"
    page.click("tbody th a >> nth=0")
    page.click("text=Lightning")
    page.click("[data-copy=snippet-lightning]")
    expect(page.locator("#said")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("from commentary_hub import load\n")
    assert "trainer.fit(*commented(" in copied


def test_results_follow_the_typing_without_a_new_page(site, page):
    base, *_ = site
    page.goto(base)
    page.evaluate("window.kept = 1")
    page.type("#search", "label blend")
    expect(page.locator("#found")).to_have_text("6 commentaries")
    assert page.evaluate("window.kept") == 1
    assert "search=label+blend" in page.url or "search=label%20blend" in page.url
    assert page.evaluate("document.activeElement.id") == "search"


def test_the_threshold_moves_the_chart_at_once_and_fetches_the_examples_of_either_side(site, page):
    base, *_ = site
    page.goto(base + WEIGHTS)
    before = page.inner_text("#sides h4 >> nth=0")
    low = page.locator(".histogram .bar.low").count()
    page.focus("#threshold")
    with page.expect_response("**threshold=0.51*"):
        page.keyboard.press("ArrowRight")
    page.evaluate("document.getElementById('threshold').value = 0.8")
    with page.expect_response("**threshold=0.8*"):
        page.evaluate(
            "for (const kind of ['input', 'change'])"
            " document.getElementById('threshold').dispatchEvent(new Event(kind, {bubbles: true}))"
        )
    expect(page.locator("#sides h4").first).not_to_have_text(before)
    assert page.locator(".histogram .bar.low").count() > low
    assert page.inner_text("#threshold-now") == "0.80"
    assert page.evaluate("document.querySelector('#weights').getAttribute('style')") is None


def test_made_private_it_is_gone_for_everybody_else(site, browser):
    base, catalogue, _ = site
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
    assert "private" in page.inner_text(".head .tags")
    assert stranger.goto(f"{base}/datasets/{repo_id}").status == 404
    hidden = stranger.content()
    stranger.goto(f"{base}/datasets/emmy/never-made")
    assert stranger.content() == hidden
    for path in ("/owners/emmy", f"/?search={repo_id.partition('/')[2]}", "/datasets"):
        stranger.goto(base + path)
        assert repo_id not in stranger.content(), path
    page.goto(f"{base}/datasets/{repo_id}/settings")
    page.click("text=Make public")
    page.wait_for_selector("text=Make private")
    mine.close()
    other.close()


def test_a_token_is_made_shown_once_and_revoked(site, page):
    base, _, accounts = site
    page.goto(f"{base}/tokens")
    assert page.url.endswith("/sign-in?to=/tokens")
    page.fill("#name", "alan")
    page.fill("#password", "alanalan")
    page.click("main button")
    page.wait_for_url(f"{base}/tokens")
    page.fill("#label", "laptop")
    page.select_option("#role", "write")
    page.click("text=Make a token")
    page.click("[data-copy=secret]")
    expect(page.locator("#said")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "hf_shown_once"
    assert [(token.name, token.role) for token in accounts.tokens("alan")] == [("laptop", "write")]
    page.goto(f"{base}/tokens")
    assert "hf_shown_once" not in page.content()
    page.click("button.danger")
    page.wait_for_selector("text=None yet")
    assert accounts.tokens("alan") == []


def tab_to(page, wanted, limit=120):
    """Press Tab until the focused element's text or label holds ``wanted``; it must be seen to have the focus."""
    for _ in range(limit):
        page.keyboard.press("Tab")
        text = page.evaluate(
            "(one => [one.textContent, one.labels?.[0]?.textContent, one.ariaLabel].filter(Boolean).join(' '))"
            "(document.activeElement)"
        )
        if wanted in text:
            assert page.evaluate("document.activeElement.matches(':focus-visible')")
            return
    raise AssertionError(f"{wanted!r} was not reached in {limit} steps")


def test_everything_is_reached_by_the_keyboard_alone(site, page):
    base, *_ = site
    page.goto(base)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.url.endswith("#main")
    tab_to(page, "Search name")
    page.keyboard.type("digits")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?search=digits*")
    tab_to(page, "digits-example-weights")
    page.keyboard.press("Enter")
    page.wait_for_url("**/datasets/**")
    tab_to(page, "PyTorch")
    page.keyboard.press("ArrowRight")
    assert page.is_visible("#snippet-trainer")
    assert not page.is_visible("#snippet-pytorch")
    tab_to(page, "Copy")
    page.keyboard.press("Enter")
    expect(page.locator("#said")).to_have_text("Copied")
    assert "commented(Trainer" in page.evaluate("navigator.clipboard.readText()")
    tab_to(page, "Threshold")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#threshold-now") == "0.49"


def test_everything_is_there_without_javascript(site, browser):
    base, *_ = site
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(base)
    page.fill("#search", "cifar10 example")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?search=cifar10*")
    page.goto(base + WEIGHTS)
    page.click("text=Command line")
    assert page.inner_text("#snippet-cli").startswith("commentary-hub pull katherine/cifar10-example-weights-16@")
    assert not page.is_visible("[data-copy=snippet-cli]")
    page.click("text=Show")
    page.wait_for_url("**threshold=0.5*")
    assert page.is_visible(".histogram")
    assert page.locator(".examples li").count() == 12
    context.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1280)])
def test_axe_finds_nothing_serious_and_pages_are_light_and_fit(site, browser, scheme, width):
    base, catalogue, _ = site
    # axe is injected as a script, which the pages' policy rightly refuses.
    context = browser.new_context(bypass_csp=True, color_scheme=scheme, viewport={"width": width, "height": 800})
    page, faults = context.new_page(), []
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    for name, path in pages(catalogue).items():
        if (scheme == "dark" and name not in DISTINCT) or name in ALIKE:
            continue
        if name == "own-tokens":
            sign_in(page, base, "katherine")
        weight = []
        page.on("response", lambda response, weight=weight: weight.append(len(response.body())))
        status = page.goto(base + path).status
        assert status == (404 if name == "missing" else 200), path
        found = Axe().run(page).response["violations"]
        serious = [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in {"serious", "critical"}]
        assert serious == [], path
        assert sum(weight) < MAX_PAGE_BYTES, path
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        faults = [fault for fault in faults if "404" not in fault]
        assert faults == [], path
    context.close()


def test_outcomes_stay_in_their_column_and_changed_lines_are_marked_to_their_end(site, browser):
    base, catalogue, _ = site
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(base)
    beyond = (
        "box => [...document.querySelectorAll('.list .outcome')].map((one) => one.getBoundingClientRect().right - box)"
    )
    over = page.evaluate(beyond, page.evaluate("document.querySelector('.list').getBoundingClientRect().right"))
    assert "no difference" in page.inner_text(".list")
    assert max(over) < 1
    page.set_viewport_size({"width": 360, "height": 800})
    page.goto(base + pages(catalogue)["difference"])
    page.evaluate("document.querySelector('.diff > :last-child').textContent = '+' + 'x'.repeat(200)")
    widths = page.evaluate("[...document.querySelectorAll('.diff > *')].map((line) => line.offsetWidth)")
    assert set(widths) == {page.evaluate("document.querySelector('.diff').scrollWidth")}
    page.close()


def test_light_and_dark_follow_the_system_and_the_reader(site, browser):
    base, *_ = site
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto(base)
    dark = page.evaluate(ground)
    page.click("[data-theme-toggle]")
    light = page.evaluate(ground)
    assert light != dark
    page.goto(f"{base}/datasets")
    assert page.evaluate(ground) == light
    context.close()
