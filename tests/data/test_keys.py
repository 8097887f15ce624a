"""Content keys: golden vectors, equality across containers, refusal of what has no key."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from commentary_hub.data import content_form, content_key, content_keys, salt_check, target_digest, target_digests
from commentary_hub.errors import InputError, ShapeError

GREY = (np.arange(64, dtype=np.uint8) * 3).reshape(8, 8)
COLOUR = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
SALT = "a salt of more than sixteen bytes"

# These bytes are the format: an artefact that was stored yesterday is found by them tomorrow.
GOLDEN = {
    "text": ("Ünïcode 🙂", "49b43a4020b527c531dc6ffe7f95ed23"),
    "empty text": ("", "f58983ddde43d0964629de1b594a4cb5"),
    "grey picture": (GREY, "adc7bdee7f0bfaaec8b7f8254f2f39bd"),
    "colour picture": (COLOUR, "05e50777faa0cd451f04304a79019a09"),
    "row of float64": (np.array([0.0, -1.5, 2.25]), "1a0f8a26b4ca0446b77259f866d470f0"),
    "row of float32": (np.array([0.0, -1.5, 2.25], dtype=np.float32), "2c5e94da2b6c9a67d99a00b60ef06728"),
    "row of bytes": (np.arange(4, dtype=np.uint8), "ce1728600c3728401030cfe96836042e"),
    "scalar": (7, "4b045727efcbb9795548fadc49fc45c6"),
}
GOLDEN_TARGETS = {
    "class": (3, "b64216c480c06f77"),
    "name": ("cat", "040283dc6a64c822"),
    "float": (0.5, "32874b3d6f09a892"),
    "list": ([1, 2, 3], "f6efc11adbdf5319"),
    "none": (None, "910b12765938abd9"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_keys_are_the_ones_that_were_stored(name):
    value, expected = GOLDEN[name]
    assert content_key(value).hex() == expected


def test_salted_keys_are_the_ones_that_were_stored():
    assert content_key(GREY, salt=SALT).hex() == "7d18080dad693a3fb11b09c3088b6c66"
    assert salt_check(SALT) == "a2259a8b8e919368"


@pytest.mark.parametrize("name", GOLDEN_TARGETS)
def test_target_digests_are_the_ones_that_were_stored(name):
    target, expected = GOLDEN_TARGETS[name]
    assert target_digest(target).hex() == expected


def reencoded(picture, **options):
    file = io.BytesIO()
    picture.save(file, **options)
    return Image.open(io.BytesIO(file.getvalue()))


@pytest.mark.parametrize("array", [GREY, COLOUR], ids=["grey", "colour"])
def test_one_picture_has_one_key_in_every_container(array):
    picture = Image.fromarray(array)
    key = content_key(array)
    as_tensor = torch.from_numpy(array) if array.ndim == 2 else torch.from_numpy(array).permute(2, 0, 1)
    others = [
        picture,
        reencoded(picture, format="PNG"),
        reencoded(picture, format="PNG", compress_level=0),
        reencoded(picture, format="BMP"),
        reencoded(picture, format="TIFF"),
        as_tensor,
        as_tensor.clone(memory_format=torch.contiguous_format),
        np.asfortranarray(array),
    ]
    assert {content_key(other) for other in others} == {key}


def test_channel_axis_of_a_grey_picture_does_not_matter():
    tensor = torch.from_numpy(GREY)
    assert content_key(tensor[None]) == content_key(tensor) == content_key(GREY[:, :, None])


def test_palette_and_bilevel_pictures_are_keyed_as_what_they_show():
    colours = Image.fromarray(np.repeat(GREY[:, :, None] // 24, 3, axis=2) * 24)
    palette = colours.quantize(256)
    assert np.array_equal(np.asarray(palette.convert("RGB")), np.asarray(colours))
    assert content_key(palette) == content_key(colours)
    bilevel = Image.fromarray((GREY > 90).astype(np.uint8) * 255).convert("1")
    assert content_key(bilevel) == content_key(bilevel.convert("L"))


def test_a_picture_lying_on_its_side_is_keyed_upright():
    upright = Image.fromarray(COLOUR)
    sideways = upright.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate 90 degrees clockwise to view"
    lying = reencoded(sideways, format="PNG", exif=exif)
    assert content_key(lying) == content_key(upright)


def test_what_differs_has_another_key():
    transposed = np.ascontiguousarray(GREY.T)
    values = [GREY, transposed, GREY.reshape(4, 16), GREY.reshape(-1), GREY.astype(np.int16), GREY.astype(np.float32)]
    values += [COLOUR, COLOUR[:, :, ::-1], "8", 8, 8.0, np.float32(8), ""]
    keys = [content_key(value) for value in values]
    assert len(set(keys)) == len(keys)
    assert content_key(GREY, salt=SALT) != content_key(GREY) != content_key(GREY, salt=SALT + "!")


def test_byte_order_is_not_content():
    row = np.array([1.5, 2.5])
    assert content_key(row) == content_key(row.astype(">f8"))


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.float32, np.float64, np.int64, np.bool_]),
        hnp.array_shapes(min_dims=2, max_dims=4, max_side=4),
    )
)
def test_a_batch_has_the_keys_of_its_rows(batch):
    try:
        expected = [content_key(row) for row in batch]
    except ShapeError:
        with pytest.raises(ShapeError):
            content_keys(batch)
        return
    assert [key.tobytes() for key in content_keys(batch)] == expected
    assert [key.tobytes() for key in content_keys(list(batch), salt=None)] == expected


@pytest.mark.parametrize("shape", [(6, 8, 8), (6, 3, 5, 7), (6, 1, 5, 7)])
def test_a_batch_of_tensors_has_the_keys_of_its_rows(shape):
    batch = torch.randint(0, 256, shape, dtype=torch.uint8)
    assert [key.tobytes() for key in content_keys(batch, salt=SALT)] == [content_key(row, salt=SALT) for row in batch]


def test_progress_counts_every_example_once():
    counted = []
    content_keys(np.zeros((9000, 2, 2), np.uint8), progress=counted.append)
    content_keys(("text" for _ in range(5000)), progress=counted.append)
    assert sum(counted) == 14000


def test_whole_numbers_digest_by_value():
    same = [3, np.int64(3), np.uint8(3), torch.tensor(3), torch.tensor(3, dtype=torch.int32), np.array(3)]
    assert {target_digest(target) for target in same} == {target_digest(3)}
    other = [target_digest(target) for target in (4, 3.0, "3", [3], None)]
    assert target_digest(3) not in other
    assert len(set(other)) == 5
    assert (
        target_digest(0.5) == target_digest(np.float32(0.5)) == target_digest(torch.tensor(0.5, dtype=torch.bfloat16))
    )
    assert target_digest([1, 2]) == target_digest(np.array([1, 2], np.int32)) == target_digest(torch.tensor([1, 2]))


@pytest.mark.parametrize(
    "targets",
    [np.array([3, 1, 3]), torch.tensor([3, 1, 3]), [3, 1, 3], np.array([0.5, 1]), ["a", "b", "a"], [[1], [2]]],
)
def test_a_batch_of_targets_has_the_digests_of_its_rows(targets):
    assert [digest.tobytes() for digest in target_digests(targets)] == [target_digest(target) for target in targets]


def test_forms():
    forms = [
        content_form(value) for value in (GREY, Image.fromarray(COLOUR), "words", [1.0, 2.0], torch.zeros(3, 4, 4))
    ]
    assert forms == ["image", "image", "text", "numeric", "numeric"]


@pytest.mark.parametrize("value", [None, {"a": 1}, object(), np.array(["a"]), [[1], [1, 2]], torch.zeros(2).bfloat16()])
def test_what_has_no_key_is_refused(value):
    with pytest.raises(InputError):
        content_key(value)


def test_a_tensor_with_channels_last_is_refused():
    with pytest.raises(ShapeError, match=r"\[C, H, W\]"):
        content_key(torch.zeros(32, 32, 3, dtype=torch.uint8))


def test_sixteen_bit_pictures_are_refused():
    with pytest.raises(InputError, match="8 bits"):
        content_key(Image.fromarray(GREY.astype(np.uint16)))


@pytest.mark.parametrize("salt", ["", "short", b"15 bytes exactl"])
def test_a_salt_that_can_be_guessed_is_refused(salt):
    with pytest.raises(InputError, match="16 or more"):
        content_key(GREY, salt=salt)


def test_a_salt_longer_than_the_hash_allows_is_used_whole():
    assert content_key(GREY, salt="x" * 100) != content_key(GREY, salt="x" * 99 + "y")


@pytest.mark.parametrize("target", [{"a": 1}, object(), np.array(["a"]), [[1], [1, 2]]])
def test_what_has_no_digest_is_refused(target):
    with pytest.raises(InputError):
        target_digest(target)
