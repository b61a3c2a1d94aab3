"""Every public name is documented, annotated, exemplified, and has its place in the documentation."""

import importlib
import importlib.util
import inspect
import re
import typing
from pathlib import Path

import pytest
from torch import nn

ROOT = Path(__file__).parents[1]
# their public surfaces are dastc.functional, dastc.adapt, and the command line, which docs/commands.md explains
INSIDE = ("ops", "labelling", "commands")
FOLDERS = sorted(
    path.parent.name for path in (ROOT / "dastc").glob("[a-z]*/__init__.py") if path.parent.name not in INSIDE
)
PACKAGES = ["dastc", *(f"dastc.{name}" for name in FOLDERS)]
NAMES = [(package, name) for package in PACKAGES for name in getattr(importlib.import_module(package), "__all__", ())]
LIMIT = 112
# constants and modules have no docstring of their own
DOCUMENTED = [
    (package, name)
    for package, name in NAMES
    if inspect.isroutine(getattr(importlib.import_module(package), name))
    or inspect.isclass(getattr(importlib.import_module(package), name))
]
each_name = pytest.mark.parametrize(("package", "name"), DOCUMENTED, ids=[".".join(pair) for pair in DOCUMENTED])


def _find(package, name):
    found = getattr(importlib.import_module(package), name)
    return found, inspect.getdoc(found) or ""


def _methods(found):
    return [
        method
        for name, method in vars(found).items()
        if inspect.isfunction(method)
        and method.__module__.startswith("dastc")  # not what NamedTuple and Protocol generate
        and (name == "__init__" or not name.startswith("_"))
    ]


def _functions(found):
    """Return what a caller calls: the function, or the class' own public methods."""
    return _methods(found) if inspect.isclass(found) else [found]


def _is_tuple(found):
    return inspect.isclass(found) and issubclass(found, tuple) and hasattr(found, "_fields")


def _parameters(function):
    skipped = ("self", "cls")
    return {k: v for k, v in inspect.signature(function).parameters.items() if k not in skipped}


def _annotations(found):
    """Return the annotations, as text, of what goes into a call: parameters, or a tuple's fields."""
    if _is_tuple(found):
        return [str(annotation) for annotation in found.__annotations__.values()]
    return [str(parameter.annotation) for f in _functions(found) for parameter in _parameters(f).values()]


def _takes_arguments(found):
    if inspect.isclass(found):
        if _is_tuple(found):
            return True
        init = vars(found).get("__init__")
        return inspect.isfunction(init) and init.__module__.startswith("dastc") and bool(_parameters(init))
    # a single argument is told by the first line, and tensors by Shape
    annotations = [str(parameter.annotation) for parameter in _parameters(found).values()]
    return len(annotations) > 1 and any("Tensor" not in annotation for annotation in annotations)


def _takes_tensors(found):
    return any(re.search(r"\bTensor\b", text) and "Callable" not in text for text in _annotations(found))


def test_something_is_public():
    assert len(DOCUMENTED) > 5


def _listed(package):
    """Return what a package and the packages below it list; what is handed up from below counts once."""
    module, path = importlib.import_module(package), ROOT.joinpath(*package.split("."))
    below = [f"{package}.{child.parent.name}" for child in path.glob("[a-z]*/__init__.py")]
    own = {(name, id(getattr(module, name))) for name in getattr(module, "__all__", ())}
    return own.union(*map(_listed, below))


def test_there_are_few_enough_names_to_learn():
    counts = {package: len(_listed(package)) for package in PACKAGES[1:]}
    total = len(importlib.import_module("dastc").__all__) + sum(counts.values())
    assert total <= LIMIT, (
        f"{total} public names, and {LIMIT} are allowed: {counts}. Drop from `__all__` what no user types: results "
        "that only annotate a return, helpers, constants. The library imports those from the modules that define them."
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_all_names_exist_once_and_nothing_else_is_exported(package):
    module = importlib.import_module(package)
    names = list(getattr(module, "__all__", ()))
    assert names, f"{package}: `__all__` must list the public names; got none."
    assert len(set(names)) == len(names), f"{package}: `__all__` names something twice."
    assert [name for name in names if not hasattr(module, name)] == []


@each_name
def test_docstring_opens_with_one_sentence(package, name):
    lines = _find(package, name)[1].splitlines()
    assert lines, f"{package}.{name} has no docstring."
    # a colon may end it where an enumeration follows
    assert lines[0].endswith((".", ":")), f"{package}.{name}: the first line must be a sentence; got {lines[0]!r}."
    assert len(lines) == 1 or not lines[1], f"{package}.{name}: the first line must stand alone."


@each_name
def test_docstring_has_its_sections(package, name):
    found, doc = _find(package, name)
    wanted = ["Example:"]
    wanted += ["Args:"] if _takes_arguments(found) else []
    wanted += ["Shape:"] if _takes_tensors(found) else []
    missing = [section for section in wanted if not re.search(rf"^{section}$", doc, re.M)]
    assert not missing, f"{package}.{name}: the docstring must have the sections {', '.join(missing)}."
    order = ["Args:", "Shape:", "Returns:", "Attributes:", "Raises:", "Source:", "Example:"]
    there = [line for line in doc.splitlines() if line in order]
    assert there == sorted(there, key=order.index), f"{package}.{name}: sections must come in the order {order}."


@each_name
def test_example_is_a_doctest(package, name):
    example = _find(package, name)[1].partition("\nExample:\n")[2]
    assert ">>>" in example, f"{package}.{name}: the Example must be a doctest."


@each_name
def test_everything_is_annotated(package, name):
    found, _ = _find(package, name)
    for function in _functions(found):
        signature = inspect.signature(function)
        bare = [k for k, v in _parameters(function).items() if v.annotation is inspect.Parameter.empty]
        assert not bare, f"{package}.{name}: {function.__qualname__} must annotate {', '.join(bare)}."
        assert signature.return_annotation is not inspect.Signature.empty, (
            f"{package}.{name}: {function.__qualname__} must annotate what it returns."
        )


@each_name
def test_arguments_beyond_the_first_tensors_are_keyword_only(package, name):
    found, _ = _find(package, name)
    if not inspect.isclass(found) or not issubclass(found, nn.Module) or "__init__" not in vars(found):
        return
    positional = [k for k, v in _parameters(found.__init__).items() if v.kind is v.POSITIONAL_OR_KEYWORD]
    allowed = {"CategoryMemory": 3}.get(name, 2)  # (num_classes, dim, momentum) is its public contract
    assert len(positional) <= allowed, (
        f"{package}.{name}: beyond the obvious arguments, keywords only; got {positional}."
    )


@each_name
def test_modules_show_their_arguments(package, name):
    found, _ = _find(package, name)
    if not inspect.isclass(found) or not issubclass(found, nn.Module) or "__init__" not in vars(found):
        return
    # sub-modules show themselves
    shown = [k for k, v in _parameters(found.__init__).items() if "Module" not in str(v.annotation)]
    assert not shown or found.extra_repr is not nn.Module.extra_repr, (
        f"{package}.{name}: extra_repr must show {', '.join(shown)}."
    )


def _pages(folder):
    spec = importlib.util.spec_from_file_location("docs_conf", ROOT / "docs" / "conf.py")
    conf = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conf)
    conf.write_api_pages(folder)
    return {path.stem: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def test_every_name_has_its_place_in_the_documentation(tmp_path):
    pages = _pages(tmp_path)
    missing = [f"{p}.{n}" for p, n in NAMES if not re.search(rf"^\.\. [\w:]+:: {n}$", pages.get(p, ""), re.M)]
    assert not missing, f"without a place on the API pages: {', '.join(missing)}"
    listed = re.findall(r"^dastc[\w.]*$", pages["index"], re.M)
    assert sorted(listed) == sorted(PACKAGES)


def test_pages_of_packages_that_are_gone_go_too(tmp_path):
    (tmp_path / "dastc.gone.md").write_text("old")
    assert "dastc.gone" not in _pages(tmp_path)


@each_name
def test_annotations_can_be_resolved(package, name):
    for function in _functions(_find(package, name)[0]):
        assert typing.get_type_hints(inspect.unwrap(function)) is not None
