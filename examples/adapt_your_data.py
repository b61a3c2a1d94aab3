r"""Adapt your model from your labelled data to your unlabelled data: `dastc adapt` as a script to copy and change.

    python examples/adapt_your_data.py --classes road,car,person \
        --source sim --source-images "{sequence}/rgb/{number}.png" --source-labels "{sequence}/ids/{number}.png" \
        --target drive --target-images "{sequence}/{number}.jpg" --size 512 1024 --model my_models.py:make_model
    torchrun --nproc-per-node 4 examples/adapt_your_data.py ...

Each line of `run` can be replaced: by a data set of your own, a model made here, another recipe, another optimiser.
All files are opened once before training. Writes OUT/last.pt, with which --resume goes on and segment_video.py works,
and OUT/scores.jsonl if frames to score are given. Scores are shown, and decide nothing.
"""

import sys

import torch

from dastc.commands.adapt import data_of, on_device, optimizer_of, train
from dastc.commands.adapt_arguments import parse as parse_for
from dastc.commands.clip_sources import clips_of
from dastc.commands.recipes import make_recipe, prepared_model
from dastc.training import ranks
from dastc.training.command_line import reported

__all__ = ["clips_of", "main", "parse", "run"]


def main(argv=None):
    with reported("adapt_your_data.py"):
        args = parse(sys.argv[1:] if argv is None else argv)
        with ranks(args.device) as device:
            run(args, device)


def parse(argv):
    return parse_for(argv, "adapt_your_data.py")


def run(args, device):
    data = data_of(args, device)  # source, target, what is scored, and the classes: data sets of dastc.Clip
    torch.manual_seed(args.seed)
    model = prepared_model(args, len(data.space.names))  # any nn.Module: images (N, 3, H, W) to logits (N, K, h, w)
    model = on_device(model, device)
    recipe = make_recipe(args, model, data.space).to(device)  # any dastc.adapt.Recipe, such as DASTC(model, K)
    optimizer = optimizer_of(args, model)  # any optimiser of the model's parameters
    train(args, recipe, optimizer, data)  # batches, checkpoints and scores around dastc.training.fit


if __name__ == "__main__":
    main()
