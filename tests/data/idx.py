"""MNIST's own file format."""

import numpy as np


def write_idx(folder, pictures, labels):
    """The four files of MNIST, uncompressed, as torchvision reads them."""
    raw = folder / "MNIST/raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        header = np.array([0x803, *pictures.shape], ">i4").tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + pictures.tobytes())
        header = np.array([0x801, len(labels)], ">i4").tobytes()
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(header + labels.astype(np.uint8).tobytes())
