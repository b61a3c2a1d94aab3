"""Whether the parts of a recipe fit each other: told when it is put together, and not at its first step."""

from collections.abc import Iterable, Sequence

from torch import nn

__all__ = ["check_parts", "named"]


def check_parts(
    caller: str,
    views: Sequence[nn.Module],
    terms: Sequence[nn.Module],
    labels: nn.Module | None,
    prepare: nn.Module | None,
) -> None:
    """Refuse parts that are none, or that lack what they need; the message names the part, and what it needs."""
    given = {"labels": labels, "prepare": prepare}
    optional = {name: [part] for name, part in given.items() if part is not None}
    for name, parts in ({"views": views, "terms": terms} | optional).items():
        for part in parts:
            if not isinstance(part, nn.Module):
                raise TypeError(f"{caller}: `{name}` must be of Modules; got {type(part).__name__}.")
        if not parts:
            raise ValueError(f"{caller}: `{name}` must hold at least one part; got none.")
    made = [name for view in views for name in _names_of(view)]
    if twice := sorted({name for name in made if made.count(name) > 1}):
        raise ValueError(f"{caller}: `views` must have names of their own; got {twice} more than once.")
    if labels is None and (unlabelled := [name for name in made if name != "source"]):
        raise ValueError(f"{caller}: the views {unlabelled} need `labels` for the target; got None.")
    for term in terms:
        _check_term(caller, term, views, made)


def named(parts: Iterable[nn.Module], attribute: str) -> list[str]:
    """Return what parts say of themselves under this attribute, where they do."""
    return [name for part in parts if (name := getattr(part, attribute, None)) is not None]


def _check_term(caller: str, term: nn.Module, views: Sequence[nn.Module], made: list[str]) -> None:
    # views of one's own may keep their names to themselves: then nothing is known to be lacking
    lacking = [name for name in getattr(term, "needs", ()) if name not in made]
    if lacking and all(_names_of(view) for view in views):
        raise ValueError(
            f"{caller}: {type(term).__name__} needs the views {lacking}; got {made}. Add a part to `views` that makes "
            "them, or leave the term out."
        )
    fused = [view for view in views if hasattr(view, "alike")]
    if getattr(term, "needs_alike", False) and fused and not any(view.alike for view in fused):
        raise ValueError(
            f"{caller}: {type(term).__name__} needs two contexts that show the same pixels; got "
            f"{', '.join(type(view).__name__ for view in fused)} without. Take Shared, or Exchange with a "
            "SequencePatchFusion(complementary=False)."
        )


def _names_of(view: nn.Module) -> Sequence[str]:
    names: Sequence[str] = getattr(view, "names", ())
    return names
