"""SYNTHIA-RAND-CITYSCAPES to Cityscapes, single pictures; 16 classes are scored.

python examples/reproduce/synthia_to_cityscapes.py --source synthia --target cityscapes
python examples/reproduce/synthia_to_cityscapes.py --miniature
"""

import miniature
from benchmark import Benchmark, Cropped, main

from dastc.data import Cityscapes, SynthiaRand
from dastc.data.spaces import SYNTHIA16

NAME = "synthia_to_cityscapes"


def data(args, at):
    source = SynthiaRand(args.source, size=at(1520, 2560), label_space=SYNTHIA16)
    target = Cityscapes(args.target, size=at(1024, 2048), label_space=SYNTHIA16)
    scored = Cityscapes(args.target, split="val", label_space=SYNTHIA16)
    return Cropped(source, at(1024, 1024)), Cropped(target, at(1024, 1024)), scored


def small(root):
    target = miniature.cityscapes(miniature.cityscapes(root / "cityscapes"), "val", miniature.VAL)
    return {"source": miniature.synthia_rand(root / "synthia"), "target": target}


BENCHMARK = Benchmark(
    name=NAME, space=SYNTHIA16, data=data, miniature=small, frames=1, input_size=None,
    lr={"adamw": 6e-5, "sgd": 2.5e-4}, batch=2, rare=0.01,
)  # fmt: skip

if __name__ == "__main__":
    main(BENCHMARK, __doc__)
