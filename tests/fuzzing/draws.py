"""Random arguments, from one seed for each call: sizes, dtypes, layouts, contents, and what is wrong on purpose."""

import random

import torch

from dastc import Clip

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
LAYOUTS = ("contiguous", "contiguous", "channels_last", "strided", "expanded", "transposed", "offset")
MOODS = ("tame", "tame", "tame", "tame", "edge", "nan", "inf", "constant")


class Draw:
    """What a call is made of. ``tame`` says that all that was drawn is finite and of ordinary size."""

    def __init__(self, seed, case):
        self.random = random.Random(f"{seed} {case}")
        self.torch = torch.Generator().manual_seed(self.random.getrandbits(60))
        torch.manual_seed(self.random.getrandbits(60))
        self.mood = self.random.choice(MOODS)
        self.tame = self.mood in ("tame", "constant")
        self.dtype = self.random.choice(FLOATS)

    def chance(self, probability):
        return self.random.random() < probability

    def pick(self, *choices):
        return self.random.choice(choices)

    def number(self, low, high):
        return self.random.uniform(low, high)

    def maybe(self, value, probability=0.5):
        return value() if self.chance(probability) else None

    def size(self, least=1, most=9):
        """Return a side: mostly small and odd as often as even, sometimes 1, the least, or large."""
        kind = self.random.random()
        if kind < 0.04:
            return least
        if kind < 0.2:
            return 1
        return self.random.randint(1, most) if kind < 0.95 else self.random.randint(most, 5 * most)

    def batch(self):
        return self.pick(0, 1, 1, 2, 2, 3)

    def sides(self):
        return self.size(), self.size()

    def classes(self):
        return self.pick(1, 2, 2, 3, 3, 4, 5, 19, 300)

    def ignored(self, classes):
        return self.pick(255, 255, 255, 0, classes - 1, -1, -100)

    def float_dtype(self):
        return self.dtype if self.chance(0.9) else self.pick(*FLOATS)

    def laid_out(self, x):
        """Return the same numbers in another layout."""
        layout = self.pick(*LAYOUTS)
        if layout == "channels_last" and x.dim() == 4:
            return x.contiguous(memory_format=torch.channels_last)
        if layout == "strided" and x.dim():
            wide = x.new_zeros((*x.shape[:-1], 2 * x.shape[-1]))
            wide[..., ::2] = x
            return wide[..., ::2]
        if layout == "expanded" and x.dim() and x.shape[0] > 1:
            return x[:1].expand_as(x)
        if layout == "transposed" and x.dim() > 1:
            return x.transpose(-1, -2).contiguous().transpose(-1, -2)
        if layout == "offset" and x.numel():
            return torch.cat((x.new_zeros(3), x.flatten()))[3:].view(x.shape)
        return x

    def values(self, *shape, scale=1.0, dtype=None):
        """Return numbers of the call's mood."""
        dtype = self.float_dtype() if dtype is None else dtype
        x = torch.randn(shape, generator=self.torch, dtype=torch.float64) * scale
        if self.mood == "constant" and self.chance(0.5):
            x = torch.full_like(x, self.pick(0.0, 0.0, 1.0, -scale))
        x = x.to(dtype)
        if not self.tame and x.numel():
            limits = torch.finfo(dtype)
            wild = {"edge": (limits.max, limits.min, limits.tiny, -limits.tiny, limits.smallest_normal / 2, 0.0)}
            wild |= {"nan": (torch.nan,), "inf": (torch.inf, -torch.inf)}
            where = torch.rand(shape, generator=self.torch) < self.pick(0.05, 0.5, 1.0)
            index = torch.randint(len(wild[self.mood]), shape, generator=self.torch)
            x = torch.where(where, torch.tensor(wild[self.mood], dtype=torch.float64)[index].to(dtype), x)
        return self.laid_out(x)

    def features(self, *shape, **how):
        """Return numbers that may ask for a gradient."""
        x = self.values(*shape, **how)
        return x.detach().requires_grad_() if self.chance(0.7) else x

    def shares(self, *shape):
        """Return weights in [0, 1], some of them the ends, or of the call's mood."""
        if not self.tame and self.chance(0.5):
            return self.values(*shape)
        x = torch.rand(shape, generator=self.torch)
        ends = torch.rand(shape, generator=self.torch)
        return self.laid_out(x.where(ends > 0.3, 0).where(ends < 0.8, 1).to(self.float_dtype()))

    def labels(self, *shape, classes=3, ignore_index=255):
        kind = self.pick("all", "all", "one", "some ignored", "ignored", "outside")
        x = torch.randint(classes, shape, generator=self.torch)
        if kind == "one":
            x = torch.full_like(x, self.random.randrange(classes))
        elif kind == "ignored":
            x = torch.full_like(x, ignore_index)
        elif kind != "all":
            odd = [ignore_index] if kind == "some ignored" else [-1, classes, 255, -(2**63), 2**63 - 1, ignore_index]
            where = torch.rand(shape, generator=self.torch) < 0.3
            x = torch.where(where, torch.tensor(odd)[torch.randint(len(odd), shape, generator=self.torch)], x)
        return self.laid_out(x)

    def flow(self, *shape):
        """Return flow: small, of whole pixels, leading out, or of the call's mood; in float32 at least."""
        x = torch.randn(shape, generator=self.torch) * self.pick(0.5, 2.0, 20.0)
        kind = self.pick("any", "any", "whole", "none")
        x = {"any": x, "whole": x.round(), "none": torch.zeros_like(x)}[kind].to(self.float_dtype())
        if not self.tame and x.numel():
            odd = torch.tensor(
                [torch.nan, torch.inf, -torch.inf, torch.finfo(x.dtype).max, 1e9, -1e9, 2.0**31, 2.0**63]
            )
            where = torch.rand(shape, generator=self.torch) < self.pick(0.1, 1.0)
            x = torch.where(where, odd[torch.randint(len(odd), shape, generator=self.torch)].to(x.dtype), x)
        x = self.laid_out(x)
        return x.detach().requires_grad_() if self.chance(0.3) else x

    def mask(self, *shape):
        x = torch.rand(shape, generator=self.torch) < self.pick(0.0, 0.5, 0.5, 1.0)
        return self.laid_out(x)

    def clip(self, sizes=None, *, classes=3, labelled=True, flow=None, weights=None, ignore_index=255, channels=3):
        """Return a clip of sizes (B, T, H, W), small ones of its own if there are none given."""
        batch, time, height, width = sizes or (self.batch(), self.pick(1, 2, 2, 3), *self.sides())
        flow = self.chance(0.5) if flow is None else flow
        weights = self.chance(0.4) if weights is None else weights
        return Clip(
            self.features(batch, time, channels, height, width),
            self.labels(batch, time, height, width, classes=classes, ignore_index=ignore_index) if labelled else None,
            self.flow(batch, time - 1, 2, height, width) if flow else None,
            self.shares(batch, time, height, width) if weights else None,
        )

    def spoilt(self, arguments):
        """Return the arguments with one of them wrong: of another kind, dtype, size or range."""
        name = self.pick(*arguments)
        value = arguments[name]
        if isinstance(value, Clip) and self.chance(0.8):
            field = self.pick(*(field for field, x in zip(Clip._fields, value, strict=True) if x is not None))
            return arguments | {name: value._replace(**{field: self._wrong(getattr(value, field))})}
        return arguments | {name: self._wrong(value)}

    def _wrong(self, value):
        if isinstance(value, torch.Tensor):
            return self._wrong_tensor(value.detach())
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, (int, float)):
            return self.pick(-1, 0, 1, 0.5, 1.5, 2.5, float("nan"), float("inf"), -float("inf"), "3", None, [1], 1j)
        if isinstance(value, str):
            return self.pick("nonsense", "", None, 3)
        if isinstance(value, (tuple, list)):
            return self.pick((), (0, 3), (-1, 2), (1.5, 2), (3,), (2, 3, 4), 5, "ab", None, (None, 2), ("a", 1))
        return self.pick(None, 3, "nonsense", torch.zeros(2))

    def _wrong_tensor(self, x):
        kind = self.pick("dtype", "less", "more", "longer", "empty", "none", "list", "number", "numpy", "meta")
        if kind == "dtype":
            dtypes = (torch.int32, torch.uint8, torch.bool, torch.int64, torch.float32, torch.float64, torch.complex64)
            return torch.zeros(x.shape, dtype=self.pick(*dtypes))
        if kind == "less":
            return x[0] if x.dim() and len(x) else x.new_zeros(())
        if kind == "more":
            return x.unsqueeze(self.random.randint(0, x.dim()))
        if kind in ("longer", "empty") and x.dim():
            shape = list(x.shape)
            axis = self.random.randrange(x.dim())
            shape[axis] = shape[axis] + 1 if kind == "longer" else 0
            return x.new_zeros(shape)
        wrong = {"list": [1.0, 2.0], "number": 1.0, "none": None, "meta": torch.empty_like(x, device="meta")}
        return x.float().numpy() if kind == "numpy" else wrong.get(kind)
