"""A recipe: parts in the order of one training step."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any, get_args

import torch
from torch import Tensor, nn

from dastc._core.checks import check_at_least, check_choice
from dastc._core.compiling import left_eager, left_out, orchestrates
from dastc._core.distributed import batch_rand
from dastc._core.optimizer_steps import hear_of_steps, heard_of_step
from dastc._core.wrappers import averages_gradients
from dastc.adapt.fitting import check_parts, named
from dastc.adapt.passes import Pass, Passes, run_passes
from dastc.adapt.terms import Segmentation
from dastc.adapt.views import Clean, View
from dastc.augment import PhotometricJitter
from dastc.clip import Clip, check_clip, check_pair
from dastc.labelling.segment import is_video
from dastc.labelling.target_labels import TeacherLabels, TrueLabels
from dastc.labelling.teacher import Teacher
from dastc.models import FeatureTap

__all__ = ["Recipe"]

left_out(batch_rand)  # draws on the host
_IDLE = 100  # steps in training without a change of the weights, after which something must be wrong


class Recipe(nn.Module):
    """Turn a labelled source clip and an unlabelled target clip into named losses, by parts.

    A step prepares the source, labels the target, makes views of both, sends them through the network, and adds up
    terms over what comes out. Each part is a Module with options of its own; yours take the place of ours with the
    same call. To leave a part out, leave it out of the list.

    The clock of a recipe are the changes of the student's weights, not its calls: the teacher, and the warm-up, move
    once after each ``optimizer.step()``, however many batches the gradients were accumulated over. The teacher starts
    where the warm-up ends, as the student is then. They notice by themselves; :meth:`update` moves them at once.

    Args:
        model: The student: an image model, or a :class:`~dastc.models.VideoSegmenter`. It may be wrapped by
            DistributedDataParallel or ``torch.compile``, be compiled later, or be sharded by ``fully_shard`` after the
            recipe is made. So may the recipe: ``DistributedDataParallel(recipe)`` is the way to several ranks.
        num_classes: Number of classes K, at least 2.
        views: What is trained on: Modules called with the source, the labelled target and the confidence of its
            labels, that return lists of :class:`View`.
        terms: What is minimised: Modules called with the passes by name that return named losses. In the warm-up only
            the first counts. ``None`` means :class:`Segmentation`.
        labels: Labels the target; ``None`` for a recipe that does not look at it.
        prepare: Changes the source clip, called with both clips, such as :class:`MatchHistograms`. The source's clip
            has the frames that are trained on.
        warmup: Changes of the weights during which the clean source alone is trained on: a teacher that knows nothing
            yet labels badly, and is believed.
        ramp: Changes of the weights after the warm-up over which all losses but the clean source's grow from 0 to their
            weight: a teacher is young at first, and holds back what the source still teaches.
        all_frames: Train on every frame of a clip, not on the current one alone.
        passes: ``"each"`` view passes through the network by itself; ``"together"`` they are one batch: fewer, larger
            kernels; ``"recomputed"`` each is computed again in the backward pass, so that memory holds the activations
            of one view and not of all, for the time of a further forward pass. The gradients are the same, but for
            models with statistics of the batch.
        augment: Changes the look of frames; ``None`` means :class:`~dastc.augment.PhotometricJitter`.
        seed: Seed of that change. Every rank takes the same seed: each draws for the whole batch and keeps its own.
        ignore_index: Label of the pixels that are ignored.

    Shape:
        - source: a labelled clip; target: a clip of the same size, flow in both or in neither. Labels of the target
          are not looked at. T = 1 needs no flow.
        - target_labels: ``(B, T, H, W)``, int64: true labels of the target where there are some, ``ignore_index``
          elsewhere; they take the place of the teacher's.
        - output: losses by name, ``"total"`` among them, each ``()``.

    Raises:
        ValueError: If parts do not fit each other; in ``forward`` if a clip is not labelled, shapes do not fit, or the
            model's logits are not of K classes.
        TypeError: If a part is no Module, or a clip is no :class:`~dastc.Clip`.

    Source:
        docs/method.md#the-total.

    Example:
        >>> from dastc.adapt import Alignment, Clean, Exchange, Segmentation, TeacherLabels
        >>> from dastc.fusion import SequencePatchFusion
        >>> from dastc.models import TinySegmenter
        >>> model = TinySegmenter(3)
        >>> recipe = Recipe(
        ...     model,
        ...     3,
        ...     labels=TeacherLabels(Teacher(model)),
        ...     views=[Clean("source"), Exchange(SequencePatchFusion(3))],
        ...     terms=[Segmentation(), Alignment(3, features="neck")],
        ... )
        >>> clip = Clip(torch.randn(1, 2, 3, 16, 16), torch.randint(0, 3, (1, 2, 16, 16)))
        >>> sorted(recipe(clip, Clip(clip.frames)))
        ['align', 'in_source', 'in_target', 'source', 'total']
    """

    _grown: Tensor

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        *,
        views: Iterable[nn.Module],
        terms: Iterable[nn.Module] | None = None,
        labels: nn.Module | None = None,
        prepare: nn.Module | None = None,
        warmup: int = 0,
        ramp: int = 0,
        all_frames: bool = False,
        passes: Passes = "each",
        augment: Callable[[Tensor], Tensor] | None = None,
        seed: int = 0,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        caller = type(self).__name__
        if num_classes == 1:
            raise ValueError(
                f"{caller}: `num_classes` must be at least 2; got 1, of which a softmax is always sure. Give what is "
                "not of the class a class of its own, and the model two outputs."
            )
        check_at_least(caller, "num_classes", num_classes, 2)
        check_at_least(caller, "warmup", warmup, 0)
        check_at_least(caller, "ramp", ramp, 0)
        check_choice(caller, "passes", passes, get_args(Passes))
        views, terms = list(views), [Segmentation(ignore_index=ignore_index)] if terms is None else list(terms)
        check_parts(caller, views, terms, labels, prepare)
        self.model, self.num_classes, self.labels, self.prepare = model, num_classes, labels, prepare
        self.views, self.terms = nn.ModuleList(views), nn.ModuleList(terms)
        self.warmup, self.ramp, self.all_frames, self.passes = warmup, ramp, all_frames, passes
        self.seed, self.ignore_index = seed, ignore_index
        self.augment = PhotometricJitter(seed=seed) if augment is None else augment
        # an unknown name is an error now, not at the first step
        self._read = tuple(dict.fromkeys(named(self.terms, "features")))
        self._taps = {name: FeatureTap(model, name) for name in (*self._read, *named(self.views, "shallow"))}
        self._warm = Clean("source")
        self.updates, self.warming = 0, warmup > 0
        self._seen: tuple[int, ...] | None = None
        self._pending, self._idle = True, 0
        # on the device, for a number of Python would be compiled in; what it is follows from the number of updates
        self.register_buffer("_grown", torch.ones(()), persistent=False)
        self._grow()

    @orchestrates
    def forward(
        self, source: Clip, target: Clip | None = None, *, target_labels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the losses of one step."""
        source, target = self._checked(source, target, target_labels)
        self._follow_student()
        if self._current_only:
            source = source.last()
        if self.prepare is not None:
            source = self.prepare(source, target)
        if isinstance(self.labels, TeacherLabels):
            self.labels.see(source)
        views = self._views(source, target, target_labels)
        losses: dict[str, Tensor] = {}
        passes = self._through(views)
        for term in self.terms[:1] if self.warming else self.terms:
            found = term(passes)
            if twice := [name for name in found if name in losses or name == "total"]:
                raise ValueError(
                    f"{type(self).__name__}.step: `terms` must give losses of names of their own; got {twice} more "
                    "than once. Put a Module around one of them that gives its loss another name."
                )
            losses |= found if self.ramp == 0 else self._ramped(found)
        # the first step of shared patches has nothing to align
        nothing = [one.logits.sum() * 0 for one in passes.values()] if not losses else []
        return losses | {"total": torch.stack([*losses.values(), *nothing]).sum()}

    def step(
        self, source: Clip, target: Clip | None = None, *, target_labels: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the losses of one step; the same as calling the recipe."""
        losses: dict[str, Tensor] = self(source, target, target_labels=target_labels)
        return losses

    @left_eager
    def update(self, *, force: bool = False) -> bool:
        """Let the teacher and the warm-up follow the student's weights, if these have changed; return whether they had.

        Calling it after ``optimizer.step()`` is allowed and needed nowhere: the next call of the recipe does the same.
        ``force`` is for what changes weights without an optimizer and without PyTorch's knowledge, by way of ``.data``
        or a captured graph.
        """
        changed = self._has_changed()
        self._seen = tuple(p._version for p in self.model.parameters())
        hear_of_steps(self)
        if not (force or changed):
            return False
        self._pending, self._idle = False, 0
        self.updates += 1
        self.warming = self.updates <= self.warmup
        self._grow()
        if isinstance(self.labels, TeacherLabels) and not self.warming:
            self.labels.update()  # for the first time when it is about to label: it takes the student as it is then
        return True

    @property
    def teacher(self) -> Teacher | None:
        """The model that labels the target, if there is one."""
        return self.labels.teacher if isinstance(self.labels, TeacherLabels) else None

    @property
    def decisions(self) -> list[str]:
        """What parts have decided for themselves so far, and why, in sentences."""
        return [found for part in self.modules() if (found := getattr(part, "decision", ""))]

    def get_extra_state(self) -> dict[str, int]:
        """Return how often the weights have changed, and whether they have since the last step."""
        return {"updates": self.updates, "pending": int(self._has_changed())}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Go on from there."""
        self.updates, self._pending, self._seen = int(state["updates"]), bool(state["pending"]), None
        hear_of_steps(self)
        self.warming = max(self.updates, 1) <= self.warmup
        self._grow()

    def _grow(self) -> None:
        if self.ramp:
            self._grown.fill_(min(1.0, max(0, self.updates - self.warmup) / self.ramp))

    @left_eager
    def _ramped(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: loss if name == "source" else loss * self._grown for name, loss in losses.items()}

    def _has_changed(self) -> bool:
        if self._pending or heard_of_step(self):
            return True
        # without a sight of them, the weights are as they were restored or copied
        return self._seen is not None and self._seen != tuple(p._version for p in self.model.parameters())

    @left_eager
    def _follow_student(self) -> None:
        if not self.training:
            return
        if self.updates == 0 and not averages_gradients(self.model):
            warnings.warn(
                f"{type(self).__name__}: there are several ranks, and nothing that averages their gradients, so their "
                "weights will drift apart. Call DistributedDataParallel(recipe), and not its `module`.",
                stacklevel=5,
            )
        if not self.update():
            self._idle += 1
            if self._idle == _IDLE:
                warnings.warn(
                    f"{type(self).__name__}: the student's weights have not changed for {_IDLE} steps, so neither has "
                    "the teacher. If something writes to their `.data`, call recipe.update(force=True) after it.",
                    stacklevel=5,
                )

    @orchestrates
    def _views(self, source: Clip, target: Clip | None, known: Tensor | None) -> list[View]:
        if self.warming:
            return self._warm(source, target)  # type: ignore[no-any-return]
        clip, confidence = self._labelled(target, known)
        views = [view for part in self.views for view in part(source, clip, confidence)]
        return views or self._warm(source, target)

    @orchestrates
    def _labelled(self, target: Clip | None, known: Tensor | None) -> tuple[Clip | None, Tensor | None]:
        """Return the labelled target and the confidence, of the frames that are trained on."""
        if target is None or self.labels is None:
            return (target.last() if target is not None and self._current_only else target), None
        if isinstance(self.labels, TeacherLabels):
            clip, confidence = self.labels(target, known, current=self._current_only)
            return clip, confidence
        clip, confidence = self.labels(target, known)
        return (clip.last(), confidence[:, -1:]) if self._current_only else (clip, confidence)

    @property
    def _current_only(self) -> bool:
        # a video model sees every frame, even where only the current one is trained on
        return not (self.all_frames or is_video(self.model))

    @orchestrates
    def _through(self, views: list[View]) -> dict[str, Pass]:
        return run_passes(
            self.model,
            [self._shown(view, self.augment(view.clip.frames)) for view in views],
            self._taps,
            read=self._read,
            num_classes=self.num_classes,
            all_frames=self.all_frames,
            passes=self.passes,
        )

    @left_eager
    def _shown(self, view: View, frames: Tensor) -> View:
        if view.hidden is not None:
            frames = frames.masked_fill(view.hidden.unsqueeze(2), 0)
        return view._replace(clip=view.clip._replace(frames=frames))

    @left_eager
    def _checked(self, source: Clip, target: Clip | None, known: Tensor | None) -> tuple[Clip, Clip | None]:
        caller = f"{type(self).__name__}.step"
        if known is not None and self.labels is None:
            raise ValueError(f"{caller}: `target_labels` must be None in a recipe without `labels`; it looks at none.")
        if self.labels is None and self.prepare is None:
            check_clip(caller, "source", source, labelled=True)
            return source, None
        if target is None:
            raise TypeError(f"{caller}: `target` must be a dastc.Clip; got None.")
        true = isinstance(self.labels, TrueLabels)
        return check_pair(caller, source, target, alike=not true, labelled=true and known is None)

    def __getstate__(self) -> dict[str, Any]:
        # a copy's weights have versions of their own
        return self.__dict__ | {"_pending": bool(self.get_extra_state()["pending"]), "_seen": None}

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return (
            f"num_classes={self.num_classes}, warmup={self.warmup}, ramp={self.ramp}, all_frames={self.all_frames}, "
            f"passes={self.passes!r}, seed={self.seed}, ignore_index={self.ignore_index}"
        )
