"""GTA5 to Cityscapes, single pictures; 19 classes are scored.

python examples/reproduce/gta5_to_cityscapes.py --source gta5 --target cityscapes
python examples/reproduce/gta5_to_cityscapes.py --miniature
"""

import miniature
from benchmark import Benchmark, Cropped, main

from dastc.data import GTA5, Cityscapes
from dastc.data.spaces import CITYSCAPES19

NAME = "gta5_to_cityscapes"


def data(args, at):
    source = GTA5(args.source, size=at(1440, 2560), label_space=CITYSCAPES19)
    target = Cityscapes(args.target, size=at(1024, 2048), label_space=CITYSCAPES19)
    scored = Cityscapes(args.target, split="val", label_space=CITYSCAPES19)
    return Cropped(source, at(1024, 1024)), Cropped(target, at(1024, 1024)), scored


def small(root):
    target = miniature.cityscapes(miniature.cityscapes(root / "cityscapes"), "val", miniature.VAL)
    return {"source": miniature.gta5(root / "gta5"), "target": target}


BENCHMARK = Benchmark(
    name=NAME, space=CITYSCAPES19, data=data, miniature=small, frames=1, input_size=None,
    lr={"adamw": 6e-5, "sgd": 2.5e-4}, batch=2, rare=0.01,
)  # fmt: skip

if __name__ == "__main__":
    main(BENCHMARK, __doc__)
