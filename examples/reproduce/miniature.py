"""Trees of a few small files in the layouts of the real data sets: nothing can be learnt from them."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from dastc.data.spaces import RAW_NAMES

# cities and numbers as they occur: one sequence is numbered like its frame
TRAIN = (("aachen", 19, 19), ("hamburg", 0, 42))
VAL = (("frankfurt", 1, 275),)


def cityscapes(root, split="train", snippets=TRAIN, before=2, size=(64, 128)):
    """Write pictures, labels of the named frames, and the frames of the video before them."""
    for seed, (city, sequence, number) in enumerate(snippets):
        for n in range(number - before, number + 1):
            name = f"{split}/{city}/{city}_{sequence:06}_{n:06}"
            save(root / f"leftImg8bit_sequence/{name}_leftImg8bit.png", picture(100 * seed + n, size))
        save(root / f"leftImg8bit/{name}_leftImg8bit.png", picture(100 * seed + number, size))
        save(root / f"gtFine/{name}_gtFine_labelIds.png", ids("cityscapes", seed, size))
    return root


def viper(root, split="train", sequences=("001", "077"), numbers=(1, 9, 10, 19, 20), size=(36, 64)):
    """Write frames and labels; the own car is at the lower edge."""
    for sequence in sequences:
        for n in numbers:
            name = f"{sequence}/{sequence}_{n:05}"
            save(root / f"{split}/img/{name}.jpg", picture(n, size))
            labels = ids("viper", n, size)
            labels[-2:] = 24
            save(root / f"{split}/cls/{name}.png", labels)
    return root


def synthia_seq(root, numbers=range(4), size=(76, 128), archive=True):
    """Write frames and 16-bit labels, as in the archive or as often unpacked."""
    view = "Stereo_Left/Omni_F"
    images, labels = (f"RGB/{view}", f"GT/LABELS/{view}") if archive else ("rgb", "label")
    for n in numbers:
        save(root / images / f"{n:06}.png", picture(n, size))
        save_16_bit(root / labels / f"{n:06}.png", ids("synthia_seq", n, size))
    return root


def synthia_rand(root, numbers=range(3), size=(76, 128)):
    """Write pictures and 16-bit labels."""
    for n in numbers:
        save(root / f"RGB/{n:07}.png", picture(n, size))
        save_16_bit(root / f"GT/LABELS/{n:07}.png", ids("synthia_rand", n, size))
    return root


def gta5(root, numbers=range(1, 4), size=(53, 96)):
    """Write pictures and palette labels, one of them of another size, and a converted file to be left alone."""
    for n in numbers:
        here = (size[0] - (n == 3), size[1])
        save(root / f"images/{n:05}.png", picture(n, here))
        labels = Image.fromarray(ids("gta5", n, here)).convert("P")
        labels.putdata(ids("gta5", n, here).flatten().tolist())
        labels.putpalette([7, 8, 9] * 256)
        labels.save(_made(root / f"labels/{n:05}.png"))
    save(root / "labels/00001_labelTrainIds.png", np.zeros(size, np.uint8))
    return root


def flow(folder, names, size=(8, 16), tenths=(25, -10)):
    """Write constant flow, int16 in tenths of a pixel."""
    for name in names:
        np.save(_made(folder / f"{name}_int16_x10.npy"), np.broadcast_to(np.int16(tenths), (*size, 2)))
    return folder


def picture(seed, size):
    """Return noise, ``(H, W, 3)``."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def ids(name, seed, size):
    """Return blocks of every id that a data set defines, ``(H, W)``."""
    blocks = np.random.default_rng(seed).permutation(len(RAW_NAMES[name]))
    rows, columns = (np.arange(n) * 6 // n for n in size)
    return blocks[(rows[:, None] * 6 + columns) % len(blocks)].astype(np.uint8)


def save(path, pixels):
    Image.fromarray(pixels).save(_made(path))


def save_16_bit(path, ids):
    """Write 16-bit RGB with the ids first and numbers of instances second, which Pillow cannot write."""
    channels = np.stack([ids, 300 + ids.astype(int), np.zeros_like(ids)], axis=-1).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in channels)  # each row without a filter
    head = struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    body = (struct.pack(">I", len(x)) + tag + x + struct.pack(">I", zlib.crc32(tag + x)) for tag, x in chunks)
    _made(path).write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(body))


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def target_with_flow(root):
    """Write Cityscapes, train and val, with the flow of clips of two frames."""
    folders = {}
    for split, snippets in (("train", TRAIN), ("val", VAL)):
        cityscapes(root, split, snippets)
        names = [f"{city}_{sequence:06}_{n:06}_{n - 1:06}" for city, sequence, n in snippets]
        folders[split] = flow(root / f"flow_{split}", names)
    return {"target": root, "target_flow": folders["train"], "val_flow": folders["val"]}
