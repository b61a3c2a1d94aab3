"""VIPER to Cityscapes-Seq, 15 classes.

python examples/reproduce/viper_to_cityscapes_seq.py --source viper --target cityscapes
python examples/reproduce/viper_to_cityscapes_seq.py --miniature
"""

import miniature
from benchmark import Benchmark, Cropped, main

from dastc.data import CityscapesSeq, Viper
from dastc.data.spaces import VIPER15

NAME = "viper_to_cityscapes_seq"


def data(args, at):
    source = Viper(args.source, size=at(720, 1280), flow=args.source_flow)
    target = CityscapesSeq(args.target, size=at(512, 1024), flow=args.target_flow, label_space=VIPER15)
    scored = CityscapesSeq(args.target, split="val", flow=args.val_flow, label_space=VIPER15)
    # the published windows leave out the lowest 80 rows, and nearly all of the sky
    return Cropped(source, at(512, 1024), rows=at(100, 128)), target, scored


def small(root):
    source, target = miniature.viper(root / "viper"), root / "cityscapes"
    names = [f"{sequence}_{pair}" for sequence in ("001", "077") for pair in ("0001000009", "0002000019")]
    return {"source": source, "source_flow": miniature.flow(root / "flow", names)} | miniature.target_with_flow(target)


BENCHMARK = Benchmark(
    name=NAME, space=VIPER15, data=data, miniature=small, frames=2, input_size=(512, 1024),
    lr={"adamw": 6e-5, "sgd": 1e-4}, target_weight=0.2, photometric=False,
)  # fmt: skip

if __name__ == "__main__":
    main(BENCHMARK, __doc__)
