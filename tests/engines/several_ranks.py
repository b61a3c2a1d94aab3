"""Train small recipes on one process, or under torchrun with the engine that is named; the first rank saves the end.

torchrun --nproc-per-node 2 several_ranks.py ENGINE FILE
"""

import copy
import sys
import warnings

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from dastc import Clip
from dastc.adapt import DACS, DASTC, TPS, SourceOnly
from dastc.models import TinySegmenter, VideoSegmenter
from dastc.training.parts_by_name import ADDITIONS, dastc_by_names

K, BATCH, STEPS = 5, 4, 5
# what the ranks are given: the same everywhere, classes that some ranks lack, a rank without any label
PATTERNS = ("alike", "classes missing", "a rank ignored")
RECIPES = {
    "source_only": lambda model, _: SourceOnly(model, K),
    "dacs": lambda model, _: DACS(model, K, threshold=0.21),  # of an untrained net, some pixels are that sure
    "tps": lambda model, _: TPS(model, K, threshold=0.21),
    # with what can be added to it: ranks must share what the class prior counts
    "default": lambda model, at: dastc_by_names(model, K, adding=ADDITIONS, features=f"{at}neck", warmup=1),
    "paper": lambda model, at: DASTC(model, K, preset="paper", features=f"{at}neck", shallow=f"{at}stem", warmup=1),
    "released": lambda model, at: DASTC(model, K, preset="released", shallow=f"{at}stem", rare_classes=(1, 4)),
}


def make(name, video):
    torch.manual_seed(0)
    model = TinySegmenter(K, width=16)
    model = VideoSegmenter(model, K) if video else model
    return RECIPES[name](model, "image_model." if video else "").double()


def clips(step, pattern):
    generator = torch.Generator().manual_seed(step)

    def one():
        frames, flow = (torch.randn(BATCH, t, c, 16, 24, generator=generator).double() for t, c in ((2, 3), (1, 2)))
        return Clip(frames, torch.randint(0, K, (BATCH, 2, 16, 24), generator=generator), flow)

    source, target = one(), one()
    source.labels[0, :, :7] = 255  # more on one rank than on another
    if pattern != "alike":
        source.labels[:2][source.labels[:2] >= 3] = 0
    if pattern == "a rank ignored":
        source.labels[2:] = 255
    return source, target._replace(labels=None)


def mine(clip):
    """Return this rank's part of a batch."""
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    part = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
    return Clip(*(None if x is None else x[part] for x in clip))


def optimizer_of(recipe):
    return torch.optim.SGD(recipe.model.parameters(), lr=0.05, momentum=0.9)


def state_of(recipe):
    teacher = [] if recipe.teacher is None else recipe.teacher.copy.parameters()
    whole = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in recipe.model.parameters()]
    return torch.cat([p.detach().flatten() for p in (*whole, *teacher)]), recipe.updates


def trained(name, video=False, pattern="alike", wrap=lambda recipe: recipe):
    """Train as a loop of one's own does, around whatever ``wrap`` makes of the recipe."""
    recipe = make(name, video)
    wrapped, optimizer = wrap(recipe), None
    for step in range(STEPS):
        optimizer = optimizer or optimizer_of(recipe)
        losses = wrapped(*map(mine, clips(step, pattern)))
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
    return state_of(recipe)


def by_accelerate(name):
    from accelerate import Accelerator

    accelerator, recipe = Accelerator(cpu=True), make(name, False)
    wrapped, optimizer = accelerator.prepare(recipe, optimizer_of(recipe))
    for step in range(STEPS):
        losses = wrapped(*map(mine, clips(step, "classes missing")))
        optimizer.zero_grad()
        accelerator.backward(losses["total"])
        optimizer.step()
    return state_of(accelerator.unwrap_model(wrapped))


def by_lightning(name):
    import lightning

    class Adaptation(lightning.LightningModule):
        def __init__(self, recipe):
            super().__init__()
            self.recipe = recipe

        def training_step(self, batch, _):
            return self.recipe(*batch)["total"]

        def configure_optimizers(self):
            return optimizer_of(self.recipe)

    recipe = make(name, False)
    steps = [tuple(map(mine, clips(step, "classes missing"))) for step in range(STEPS)]
    trainer = lightning.Trainer(
        accelerator="cpu", devices=dist.get_world_size() if dist.is_initialized() else 1, strategy="ddp", max_epochs=1,
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(Adaptation(recipe), torch.utils.data.DataLoader(steps, batch_size=None))
    return state_of(recipe)


def sharded(recipe):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    fully_shard(recipe.model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    return recipe


def student_wrapped(recipe):
    recipe.model = DistributedDataParallel(recipe.model)
    return recipe


def cases(world):
    """Return which recipe, whether on video, and what is given: all on two ranks, the hardest on four."""
    if world == 4:  # they share the cores of a laptop
        return [(name, False, "a rank ignored") for name in RECIPES]
    return [(name, False, pattern) for name in RECIPES for pattern in PATTERNS if pattern != "alike"] + [
        (name, True, "classes missing") for name in RECIPES
    ]


ENGINES = {
    "ddp": lambda: {case: trained(*case, DistributedDataParallel) for case in cases(dist.get_world_size())},
    "student": lambda: {name: trained(name, wrap=student_wrapped) for name in ("dacs", "default")},
    "fsdp": lambda: {name: trained(name, wrap=sharded) for name in ("dacs", "default")},
    "accelerate": lambda: {name: by_accelerate(name) for name in ("dacs", "default")},
    "lightning": lambda: {name: by_lightning(name) for name in ("dacs", "default")},
}


def main(path, *engines):
    """Run each engine in turn, since starting processes takes longer than most of them."""
    warnings.simplefilter("ignore")  # of the engines; what dastc warns of is tested elsewhere
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    found = {engine: ENGINES[engine]() for engine in engines}
    if dist.get_rank() == 0:
        torch.save(copy.deepcopy(found), path)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
