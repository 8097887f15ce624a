"""Ranges of bytes: joined, grouped, and found again in an answer to several of them."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from commentary_hub.hub._ranges import cut, grouped, joined, parts

EDGES = st.lists(st.integers(0, 5_000), unique=True, max_size=60).map(sorted)
CONTENT = bytes(n * 7 % 251 for n in range(5_001))


def spans_of(edges):
    return list(zip(edges[::2], edges[1::2], strict=False))


@given(EDGES, st.integers(0, 500))
def test_joined_spans_hold_all_and_lie_further_apart_than_the_gap(edges, gap):
    spans = spans_of(edges)
    found = joined(spans, gap)
    assert all(any(start <= first and last <= stop for start, stop in found) for first, last in spans)
    assert all(right[0] - left[1] > gap for left, right in pairwise(found))
    assert {edge for span in found for edge in span} <= set(edges)


@given(EDGES, st.integers(0, 500), st.randoms())
def test_spans_are_cut_out_of_whatever_pieces_hold_them(edges, gap, random):
    spans = spans_of(edges)
    pieces = []
    for start, stop in joined(spans, gap):
        middle = random.randint(start, stop - 1)
        pieces += [(begin, CONTENT[begin:end]) for begin, end in ((start, middle), (middle, stop)) if begin < end]
    assert cut(spans, pieces) == [CONTENT[start:stop] for start, stop in spans]
    if pieces:
        lost = random.randrange(len(pieces))
        begin, end = pieces[lost][0], pieces[lost][0] + len(pieces[lost][1])
        needed = any(start < end and begin < stop for start, stop in spans)
        assert (cut(spans, pieces[:lost] + pieces[lost + 1 :]) is None) == needed


@given(EDGES)
def test_groups_hold_all_spans_in_their_order(edges):
    spans = spans_of(edges)
    assert [span for group in grouped(spans) for span in group] == spans


@given(EDGES, st.binary(min_size=1, max_size=3), st.sampled_from(['"a-b"', "a-b"]))
def test_parts_are_read_by_their_lengths_whatever_their_bytes_are(edges, noise, boundary):
    content = (b"\r\n--a-b\r\nContent-Range: bytes 0-9/10\r\n\r\n" + noise) * 130
    spans = spans_of([edge % len(content) for edge in edges]) if not edges or edges[-1] < len(content) else []
    body = b"".join(
        b"\r\n--a-b\r\nContent-Type: x/y\r\ncontent-range: bytes %d-%d/5000\r\n\r\n" % (start, stop - 1)
        + content[start:stop]
        for start, stop in spans
    )
    found = parts(f"multipart/byteranges; boundary={boundary}", body + b"\r\n--a-b--\r\n")
    assert found == [(start, content[start:stop]) for start, stop in spans]
    assert parts("application/octet-stream", body) is None


@given(st.binary(max_size=400), st.lists(st.sampled_from([b"--x", b"\r\n\r\n", b"Content-Range: bytes 5-2/3\r\n"])))
def test_any_bytes_as_an_answer_are_read_to_their_end(noise, pieces):
    body = noise.join(pieces)
    for start, content in parts("multipart/byteranges; boundary=x", body):
        assert start >= 0
        assert len(content) <= len(body)
