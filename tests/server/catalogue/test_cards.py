"""Cards: what strangers write is shown as text, tables and mathematics, and nothing of it runs or calls home."""

import re
import time

import pytest

from commentary_hub_server.rules.catalogue import render_card_html

PAGE = ("/datasets/a/b", "rev")
BASE = "/datasets/a/b/picture/rev"
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)><style>@import 'https://e.org/x.css'</style></svg>",
    "<math><mtext><style><img src=x onerror=alert(1)></style></mtext></math>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "[x](javascript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "[x](vbscript:x)",
    "<a href='javascript&#58;alert(1)'>x</a>",
    "![x](javascript:alert(1).png)",
    "![x](https://e.org/pixel.png)",
    "![x](//e.org/pixel.png)",
    "![x](\\\\e.org\\pixel.png)",
    "![x](../../../other/secret.png)",
    "![x](%2e%2e/%2e%2e/secret.png)",
    "![x](/datasets/ada/secret/picture/main/plots/a.png)",
    "![x](plots/run.svg)",
    "![x](plots/page.html)",
    "<form action='/sign-out' method=post><button>Free tokens</button></form>",
    "<input name=csrf value=x>",
    '<p id="said" class="skip" style="position:fixed;inset:0" onclick="x()">x</p>',
    "$\\text{<script>alert(1)</script>}$",
    "$\\text{<img src=x onerror=alert(1)>}$",
    "$\\href{javascript:alert(1)}{x}$",
    "$\\style{background:url(//e.org)}{x}$",
    "$\\class{skip}{x}$",
    "$\\mathrm{</math><script>alert(1)</script>}$",
    "[x](../../other/secret)",
    "[x](%2e%2e/secret)",
    "[x](a/../../secret)",
    "[x](..)",
    "[x](\\\\e.org\\x)",
    "[x](&#106;avascript:alert(1))",
    "``` <script>\n<script>alert(1)</script>\n```",
    '``` x" onclick="alert(1)\ny\n```',
    "<base href='https://e.org/'>",
    "<meta http-equiv=refresh content='0;url=https://e.org'>",
    "<link rel=stylesheet href=https://e.org/x.css>",
    "<object data=x></object><embed src=x>",
]
ALLOWED = re.compile(
    r"<(?:/?(?:p|em|strong|code|pre|span|math|m[a-z]+|br|h2|ul|li)"
    r"(?: (?:class|display|stretchy|mathvariant|form|fence|width)=\"[a-z. 0-9-]+\")*"
    r"|a href=\"https?://[^\"]+\" rel=\"[a-z ]+\"|/?a(?: rel=\"[a-z ]+\")?|img(?: alt=\"[^\"]*\")?)>"
)


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_hostile_survives(text):
    html = render_card_html(text, *PAGE)
    left = ALLOWED.sub("", html)
    assert "<" not in left, html
    assert not re.search(r'(?:src|href)="(?!https?://)', html), html
    assert "e.org" not in "".join(re.findall(r"<[^>]*>", html)), html


def test_pictures_come_from_the_repository_alone():
    html = render_card_html("![c](plots/c.png) ![d](./plots/d%20e.png?x#y) ![e](https://e.org/e.png)", *PAGE)
    assert re.findall(r'src="([^"]*)"', html) == [f"{BASE}/plots/c.png", f"{BASE}/plots/d%20e.png"]


def test_relative_links_lead_to_the_files_of_the_revision():
    card = (
        "[a](docs/more.md) [b](./x%20y.md?z#w) [c](docs/) [d](.) [e](/for/x) [f](https://e.org) [g](mailto:a@b.c) "
        "[h](docs/more.md#part-é) [i](docs/#b)"
    )
    assert re.findall(r'href="([^"]*)"', render_card_html(card, *PAGE)) == [
        "/datasets/a/b/blob/rev/docs/more.md", "/datasets/a/b/blob/rev/x%20y.md#w", "/datasets/a/b/tree/rev/docs",
        "/datasets/a/b/tree/rev", "/for/x", "https://e.org", "mailto:a@b.c",
        "/datasets/a/b/blob/rev/docs/more.md#part-%C3%A9", "/datasets/a/b/tree/rev/docs#b",
    ]  # fmt: skip
    for odd in ("java\tscript:x", "\x01javascript:x"):
        assert 'href="/datasets/a/b/blob/rev/' in render_card_html(f"[x](<{odd}>)", *PAGE)
    inside = render_card_html("[a](more.md) [b](../../README.md) ![c](../c.webp) [d](../../../x)", *PAGE, "in/side")
    assert re.findall(r'(?:href|src)="([^"]*)"', inside) == [
        "/datasets/a/b/blob/rev/in/side/more.md", "/datasets/a/b/blob/rev/README.md", f"{BASE}/in/c.webp",
    ]  # fmt: skip


def test_headings_are_led_to_by_ids_that_no_part_of_the_page_has():
    html = render_card_html("# Main\n\n## Part *two*: `é`\n\n# Main\n\n[x](#part-two-é) [y](#main-1)\n", *PAGE)
    assert re.findall(r' id="([^"]*)"', html) == ["card-main", "card-part-two-é", "card-main-1"]
    assert re.findall(r'href="([^"]*)"', html) == ["#card-part-two-%C3%A9", "#card-main-1"]


def test_tables_lists_and_links_are_kept():
    html = render_card_html("# T\n\n|a|b|\n|-:|:-:|\n|1|2|\n\n- [x](https://e.org/y) ~~z~~\n\n1. one\n", *PAGE)
    assert '<h2 id="card-t">T</h2>' in html
    assert '<td class="right">1</td>' in html
    assert '<a href="https://e.org/y" rel="nofollow noopener noreferrer">x</a> <s>z</s>' in html
    assert "<ol>" in html


def test_mathematics_becomes_mathml_and_what_cannot_be_read_stays_as_it_was_written():
    html = render_card_html("a $x_i^2 < y$ b\n\n$$\\frac{a}{b}$$\n\n$\\frac{$", *PAGE)
    assert '<math display="inline"><mrow><msubsup><mi>x</mi><mi>i</mi><mn>2</mn></msubsup>' in html
    assert "<mo>&lt;</mo>" in html
    assert '<math display="block"><mrow><mfrac>' in html
    assert '<code class="math">\\frac{</code>' in html


def test_the_yaml_block_is_not_shown_and_a_broken_one_hides_nothing():
    assert "tags" not in render_card_html("---\ntags: [a]\n---\nHello", *PAGE)
    assert "Hello" in render_card_html("---\n{: [\n---\nHello", *PAGE)


def test_a_card_shows_its_first_500_pictures_and_is_rendered_once():
    text = "# Many\n\n" + "![](a.png)\n" * 600
    assert render_card_html(text, *PAGE).count("<img") == 500
    assert render_card_html(text, *PAGE) is render_card_html(text, *PAGE)
    began = time.process_time()
    render_card_html("![" * 30_000, *PAGE)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    "text",
    [
        "[" * 50_000, "> " * 20_000 + "x", "*a **b " * 20_000, "$" * 50_001, "$x$ " * 20_000, "`" * 50_001,
        "|a" * 20_000 + "|\n" + "|-" * 20_000 + "|\n", "![a](" * 20_000, "${" * 10_000 + "$", "$" + "{" * 900 + "$",
        "# a\n" * 15_000, "[a](b/../c) " * 5_000,
    ],
)  # fmt: skip
def test_no_card_takes_long(text):
    began = time.process_time()
    render_card_html(text, *PAGE)
    assert time.process_time() - began < 5
