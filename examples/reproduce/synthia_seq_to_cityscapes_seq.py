"""SYNTHIA-Seq to Cityscapes-Seq: 12 classes are trained, 11 scored.

python examples/reproduce/synthia_seq_to_cityscapes_seq.py --source SYNTHIA-SEQS-04-DAWN --target cityscapes
python examples/reproduce/synthia_seq_to_cityscapes_seq.py --miniature
"""

import miniature
from benchmark import Benchmark, Cropped, main

from dastc.data import CityscapesSeq, SynthiaSeq
from dastc.data.spaces import SYNTHIA_SEQ12

NAME = "synthia_seq_to_cityscapes_seq"


def data(args, at):
    source = SynthiaSeq(args.source, cut=120 if args.shrink == 1 else 12, size=at(640, 1280), flow=args.source_flow)
    target = CityscapesSeq(args.target, size=at(512, 1024), flow=args.target_flow, label_space=SYNTHIA_SEQ12)
    scored = CityscapesSeq(args.target, split="val", flow=args.val_flow, label_space=SYNTHIA_SEQ12)
    return Cropped(source, at(512, 1024)), target, scored


def small(root):
    source, target = miniature.synthia_seq(root / "SYNTHIA-SEQS-04-DAWN"), root / "cityscapes"
    flow = miniature.flow(root / "flow", ["000001", "000002", "000003"])
    return {"source": source, "source_flow": flow} | miniature.target_with_flow(target)


BENCHMARK = Benchmark(
    name=NAME, space=SYNTHIA_SEQ12, data=data, miniature=small, frames=2, input_size=(512, 1024),
    lr={"adamw": 6e-5, "sgd": 2.5e-4},
)  # fmt: skip

if __name__ == "__main__":
    main(BENCHMARK, __doc__)
