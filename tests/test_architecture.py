"""The house's rules that can be read off the source: who imports whom, who prints, who catches what."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "msksam_cli"

# From left to right: a module imports from its own name or from layers to its right, never from a neighbour.
LAYERS = (
    {"app"},
    {"commands", "options"},
    {"pipeline"},
    {"training"},
    {"atlas", "sam", "fusion", "measure", "phantom", "io", "cluster"},
    {"network", "executor"},
    {"embeddings"},
    {"core"},
    {"errors"},
)
LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}
# Not neighbours: options.py holds the option types that commands share.
ALLOWED_SIDEWAYS = {("commands", "options")}

HOMES = {
    "torch": ("sam/*", "training/*"),
    "torchvision": ("sam/vision_shim.py",),
    "segment_anything": ("sam/*",),
    "pydicom": ("io/*",),
    "dicom2nifti": ("io/*",),
    "highdicom": ("io/*",),
    "nibabel": ("io/*",),
    "SimpleITK": ("atlas/placement.py", "atlas/distance.py", "io/*"),
    "typer": ("app.py", "options.py", "commands/*"),
    "onnxruntime": ("sam/*",),
    "openvino": ("sam/openvino_encoder.py",),
    "distributed": ("cluster/*",),
    "dask": ("cluster/*",),
    "dask_jobqueue": ("cluster/*",),
    "surface_distance": (),
    "matplotlib": (),
}
FRONT = ("app.py", "options.py", "commands/*")
RUNNERS = {"torch", "onnxruntime", "openvino"}
HEAVY = RUNNERS | {"scipy", "nibabel", "SimpleITK", "pydicom", "highdicom", "dicom2nifti", "numpy", "PIL", "tqdm"}
BROAD = {"Exception", "BaseException"}
# The worker that decodes other people's DICOM and the workers of a cluster answer for whatever happens inside; the
# progress of a run says that it was stopped, whatever stopped it.
MAY_CATCH_BROADLY = ("io/dicom_worker.py", "cluster/dask_executor.py", "pipeline/progress.py")
LONGEST_COMMAND = 60


@dataclass(frozen=True)
class Import:
    """One import statement's module, and whether it runs when the importing module is imported."""

    module: str
    line: int
    at_top: bool

    @property
    def package(self) -> str:
        """The part that names the distribution: torch of torch.nn."""
        return self.module.split(".")[0]


def sources() -> list[str]:
    """Every module of the package, as a path below it."""
    return sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


@cache
def parsed(source: str) -> ast.Module:
    """The syntax tree of one module of the package."""
    return ast.parse((PACKAGE / source).read_text(encoding="utf-8"), source)


def own_name(source: str) -> str:
    """The name in LAYERS that a module belongs to; empty for the package's own __init__."""
    first = source.split("/", maxsplit=1)[0].removesuffix(".py")
    return "" if first == "__init__" else first


def lives_in(source: str, homes: tuple[str, ...]) -> bool:
    """Whether a module is one of those that the patterns name."""
    return any(PurePosixPath(source).match(home) for home in homes)


def imports(tree: ast.Module) -> Iterator[Import]:
    """Every import of a module; those inside a function or under TYPE_CHECKING do not run at import."""
    inner = {
        id(node)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or is_type_checking(outer)
        for node in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, id(node) not in inner)
        elif isinstance(node, ast.ImportFrom):
            for module in imported_from(node):
                yield Import(module, node.lineno, id(node) not in inner)


def is_type_checking(node: ast.AST) -> bool:
    """Whether a node is `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imported_from(node: ast.ImportFrom) -> list[str]:
    """The modules of `from a import b`: a.b where a is the package itself or one of its folders, else a."""
    module = "." * node.level + (node.module or "")
    if module.split(".")[0] == "msksam_cli" and (ROOT / module.replace(".", "/")).is_dir():
        return [f"{module}.{alias.name}" for alias in node.names]
    return [module]


@cache
def all_imports() -> tuple[tuple[str, Import], ...]:
    """Every import of every module of the package."""
    return tuple((source, one) for source in sources() for one in imports(parsed(source)))


def forbidden(importer: str, imported: str) -> bool:
    """Whether the house's direction forbids a module of `importer` to import one of `imported`."""
    if importer == imported or (importer, imported) in ALLOWED_SIDEWAYS:
        return False
    return LAYER_OF[imported] <= LAYER_OF[importer]


def test_every_module_belongs_to_a_layer() -> None:
    unknown = {own_name(source) for source in sources()} - set(LAYER_OF) - {""}
    assert unknown == set()


def test_imports_go_from_left_to_right_only() -> None:
    wrong = []
    for source, one in all_imports():
        if one.package != "msksam_cli" or one.module in {"msksam_cli", "msksam_cli.__version__"}:
            continue
        imported = one.module.split(".")[1]
        face = not own_name(source)  # the package's own __init__.py, the Python API
        if (face and imported != "pipeline") or (not face and forbidden(own_name(source), imported)):
            wrong.append(f"{source}:{one.line} imports {one.module}")
    assert wrong == []


@pytest.mark.parametrize(
    ("importer", "imported"),
    [("core", "io"), ("io", "atlas"), ("atlas", "sam"), ("sam", "training"), ("errors", "core"), ("pipeline", "app")],
)
def test_the_direction_is_one_way(importer: str, imported: str) -> None:
    assert forbidden(importer, imported)


@pytest.mark.parametrize(
    ("importer", "imported"), [("app", "errors"), ("pipeline", "io"), ("training", "phantom"), ("io", "core")]
)
def test_the_direction_lets_through_what_flows(importer: str, imported: str) -> None:
    assert not forbidden(importer, imported)


def test_no_import_is_relative() -> None:
    assert [f"{source}:{one.line}" for source, one in all_imports() if one.module.startswith(".")] == []


@pytest.mark.parametrize("package", sorted(HOMES))
def test_a_package_is_imported_only_in_its_home(package: str) -> None:
    strays = [
        f"{source}:{one.line}"
        for source, one in all_imports()
        if one.package == package and not lives_in(source, HOMES[package])
    ]
    assert strays == []


def test_each_home_holds_what_it_is_for() -> None:
    found = {one.package for _, one in all_imports()}
    assert {"torch", "pydicom", "dicom2nifti", "nibabel", "SimpleITK", "typer"} <= found


def test_the_front_imports_nothing_heavy_at_its_top() -> None:
    early = [
        f"{source}:{one.line} imports {one.module}"
        for source, one in all_imports()
        if lives_in(source, FRONT)
        and one.at_top
        and (one.package in HEAVY or one.module.startswith(("msksam_cli.pipeline", "msksam_cli.core")))
    ]
    assert early == []


def test_commands_are_short() -> None:
    lengths = {s: len((PACKAGE / s).read_text().splitlines()) for s in sources() if s.startswith("commands/")}
    functions = {
        f"{source}:{node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for source in lengths
        for node in ast.walk(parsed(source))
        if isinstance(node, ast.FunctionDef)
    }
    assert len(functions) > len(lengths) / 2
    assert {name: lines for name, lines in functions.items() if lines >= LONGEST_COMMAND} == {}


def test_only_commands_print() -> None:
    printing = [
        f"{source}:{node.lineno}"
        for source in sources()
        if not source.startswith("commands/")
        for node in ast.walk(parsed(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert printing == []


def caught_names(handler: ast.ExceptHandler) -> set[str]:
    """The exceptions a handler names; BaseException for a bare one."""
    if handler.type is None:
        return {"BaseException"}
    return {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)}


def raises_on(handler: ast.ExceptHandler) -> bool:
    """Whether a handler ends by raising again what it caught: it cleans up, it does not swallow."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def broad_handlers(tree: ast.Module) -> list[int]:
    """Lines of handlers that swallow everything."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and caught_names(node) & BROAD and not raises_on(node)
    ]


def test_nobody_swallows_every_exception_but_the_boundaries() -> None:
    wrong = [
        f"{source}:{line}"
        for source in sources()
        if source not in MAY_CATCH_BROADLY
        for line in broad_handlers(parsed(source))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("handler", "is_broad"),
    [
        ("except Exception:\n    pass", True),
        ("except:\n    pass", True),
        ("except (OSError, BaseException) as e:\n    print(e)", True),
        ("except BaseException:\n    clean()\n    raise", False),
        ("except ValueError:\n    pass", False),
    ],
)
def test_broad_handlers_are_recognised(handler: str, is_broad: bool) -> None:
    assert bool(broad_handlers(ast.parse(f"try:\n    f()\n{handler}"))) is is_broad


def test_no_assert_guards_the_user() -> None:
    asserting = [
        f"{source}:{node.lineno}"
        for source in sources()
        for node in ast.walk(parsed(source))
        if isinstance(node, ast.Assert)
    ]
    assert asserting == []


def test_models_is_data_only() -> None:
    assert (ROOT / "models" / "registry.toml").is_file()
    assert list((ROOT / "models").rglob("*.py")) == []


def test_every_public_name_says_what_it_is() -> None:
    silent = []
    for source in sources():
        tree = parsed(source)
        if not ast.get_docstring(tree):
            silent.append(source)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                silent += [] if ast.get_docstring(node) else [f"{source}:{node.name}"]
    assert silent == []


def test_no_test_imports_a_benchmark() -> None:
    importing = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests").rglob("*.py")
        for one in imports(ast.parse(path.read_text(encoding="utf-8")))
        if one.package == "benchmarks"
    ]
    assert importing == []


def test_no_file_is_named_after_nothing() -> None:
    empty_words = {"utils", "util", "helper", "helpers", "manager", "misc", "common"}
    assert [source for source in sources() if Path(source).stem in empty_words] == []
