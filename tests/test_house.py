"""The rules of the house, read from the source: floors, silence, lengths, names, start of the command line."""

from __future__ import annotations

import ast
import functools
import itertools
import json
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "medssl"
SOURCES = sorted(PACKAGE.rglob("*.py"))

FLOORS = {
    "core": 0,
    **dict.fromkeys(("data", "dicom", "networks", "losses", "metrics"), 1),
    **dict.fromkeys(("training", "inference", "evaluation", "reduction"), 2),
    "methods": 3,
    **dict.fromkeys(("bundle", "reports", "studies"), 4),
    "cli": 5,
}
LONGEST_FUNCTION = 60
START_SECONDS = 0.6  # 0.3 on a quiet machine; a busy one has been seen at 0.46

# Source files without a test file of their own name, each with the reason
TESTED_ELSEWHERE = {
    "core/errors.py": "classes without behaviour",
    "core/exit_codes.py": "numbers; every command's test uses them",
    "bundle/config.py": "tests/bundle/test_resolve.py and test_trust.py: merging is tested with what stands on it",
    "bundle/describe.py": "tests/cli/test_finetune.py: what it writes is checked on a finished bundle",
    **{f"bundle/{name}.py": "tests/cli/test_finetune.py" for name in ("finetune", "finetune_segments", "prepare")},
    **{
        f"bundle/checks/{name}.py": "tests/bundle/test_verify.py: each check breaks a good bundle in one way"
        for name in ("configuration", "description", "files", "hosts", "subject")
    },
    "bundle/source_free.py": "tests/cli/test_finetune.py",
    "methods/umct/gradients.py": "tests/methods/umct/test_step.py and test_source_free.py: steps written out",
    "cli/evaluate_detection.py": "tests/cli/test_evaluate.py",
    "cli/evaluate_classes.py": "tests/bundle/test_finetune_classes.py: its table of a finished bundle",
    "cli/findings.py": "tests/cli/test_check.py",
    "cli/import_.py": "tests/cli/test_import.py",
    "cli/reduce_steps.py": "tests/cli/test_reduce.py",
    "cli/progress.py": "sets loggers; its lines are seen in every command's test",
    "data/import_cases.py": "tests/data/test_importers.py",
    "data/volume_checks.py": "tests/data/test_volumes.py: every check through the reader that makes it",
    "data/volumes_itk.py": "tests/data/test_volumes.py",
}

MAY_END_THE_PROCESS = {"training/resume.py": "after SIGTERM, once the checkpoint is written, also under torchrun"}


def _room(path: Path) -> str:
    """Return "data" for medssl/data/manifest.py and "methods.umct" for medssl/methods/umct/step.py."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:2]) if parts[0] == "methods" and len(parts) > 2 else parts[0]


def _room_of_module(module: str) -> str | None:
    parts = module.split(".")
    if parts[0] != "medssl" or len(parts) == 1:
        return None
    return ".".join(parts[1:3]) if parts[1] == "methods" and len(parts) > 2 else parts[1]


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, module) for every import, deferred ones in functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # "from medssl.methods import umct" and "from medssl import data" name a room in the second part
            yield from ((node.lineno, f"{'.' * node.level}{node.module or ''}.{alias.name}") for alias in node.names)


def _forbidden(source_room: str, target_room: str) -> bool:
    if source_room == target_room:
        return False
    return FLOORS[target_room.split(".")[0]] >= FLOORS[source_room.split(".")[0]]


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def test_every_room_has_a_floor():
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms <= FLOORS.keys()


def test_imports_go_down_only():
    wrong = []
    for path in SOURCES:
        if path.parent == PACKAGE:
            continue
        for line, module in _imports(_tree(path)):
            target = _room_of_module(module)
            outside = target is None or target.split(".")[0] not in FLOORS
            if module.startswith(".") or (not outside and _forbidden(_room(path), str(target))):
                wrong.append(f"{_where(path, line)} imports {module}")
    assert wrong == []


@pytest.mark.parametrize(
    ("source", "target", "forbidden"),
    [
        ("data", "core", False),
        ("data", "metrics", True),
        ("core", "data", True),
        ("methods.umct", "methods.supervised", True),
        ("methods.umct", "training", False),
        ("reports", "bundle", True),
        ("cli", "reports", False),
        ("training", "training", False),
    ],
)
def test_the_rule_of_floors(source, target, forbidden):
    assert _forbidden(source, target) is forbidden


def test_deferred_imports_are_seen():
    tree = ast.parse("def f():\n    from medssl.methods.umct import step\n    import medssl.cli.main")
    assert [_room_of_module(module) for _, module in _imports(tree)] == ["methods.umct", "cli"]


def test_the_library_neither_prints_nor_exits():
    wrong = []
    for path in SOURCES:
        if path == PACKAGE / "cli" / "main.py":
            continue
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"print", "sys.exit", "exit", "quit"}:
                wrong.append(_where(path, node.lineno))
            raised = ast.unparse(node.exc) if isinstance(node, ast.Raise) and node.exc is not None else ""
            if "SystemExit" in raised and path.relative_to(PACKAGE).as_posix() not in MAY_END_THE_PROCESS:
                wrong.append(_where(path, node.lineno))
    assert wrong == []


def test_environment_variables_are_read_in_one_module_at_most():
    readers = set()
    for path in SOURCES:
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "environb"}:
                readers.add(path.relative_to(ROOT).as_posix())
            if isinstance(node, ast.ImportFrom) and node.module == "os":
                readers |= {str(path) for alias in node.names if alias.name in {"environ", "getenv"}}
    assert len(readers) <= 1, sorted(readers)


def test_functions_fit_on_a_screen():
    functions = (
        (path, node)
        for path in SOURCES
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    long = [
        f"{_where(path, node.lineno)} {node.name}"
        for path, node in functions
        if (node.end_lineno or 0) - node.lineno + 1 > LONGEST_FUNCTION
    ]
    assert long == []


def test_every_source_file_has_a_test_file_of_its_name():
    missing = []
    for path in SOURCES:
        place = path.relative_to(PACKAGE)
        mirror = ROOT / "tests" / place.parent / f"test_{place.name}"
        if place.name != "__init__.py" and place.as_posix() not in TESTED_ELSEWHERE and not mirror.is_file():
            missing.append(f"{place}: expected {mirror.relative_to(ROOT)}")
    assert missing == []


def test_exceptions_are_still_needed():
    for place in TESTED_ELSEWHERE:
        assert (PACKAGE / place).is_file()
        assert not (ROOT / "tests" / place).with_name(f"test_{Path(place).name}").is_file()


def _project_texts(folder: Path = ROOT) -> Iterator[Path]:
    suffixes = {".py", ".json", ".toml", ".txt", ".md", ".html", ".css", ".js", ".conf", ".yml", ".yaml", ""}
    skipped = {"__pycache__", "demo", "runs", "shared", "build", "dist"}
    for path in sorted(folder.iterdir()):
        hidden = path.name.startswith(".") and path.name != ".ci"
        if path.is_dir() and not hidden and path.name not in skipped and path.suffix != ".egg-info":
            yield from _project_texts(path)
        elif path.is_file() and not hidden and path.suffix in suffixes:
            yield path


def test_commands_of_the_documents_can_be_pasted():
    torn = []
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bundles/*/docs/*.md")]:
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, (before, line) in enumerate(itertools.pairwise(lines), 2):
            goes_on = re.match(r" {4,}--", line) and before.startswith("    ")
            if goes_on and not before.endswith("\\"):
                torn.append(f"{path.name}, line {number}: expected a backslash at the end of the line before")
    assert torn == []


def test_no_file_names_a_machine_or_a_package_index():
    # Put together so that this file does not name them itself
    homes = "|".join(("work", "home", "root", "Users"))
    machine = re.compile(rf"(?<![\w.<{{}}/\]-])/(?:{homes})/\w")
    index = re.compile("(?:extra-)?index" + r"[-_]url\s*[= ]|https?://[^/\s]*(?:mirror|proxy|nexus|artifactory)")
    documents_the_cpu_build = {ROOT / "README.md"}
    wrong = []
    for path in _project_texts():
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            named = machine.search(line) or (path not in documents_the_cpu_build and index.search(line))
            planted = "/home/someone" in line  # what tests write where they mean any such path
            if named and not planted and path != Path(__file__).resolve():
                wrong.append(f"{_where(path, number)}: {line.strip()[:80]}")
    assert wrong == []


def test_constraints_pin_exact_public_versions():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    assert any(line.startswith("torch==") for line in lines)


_HELP_OF_EVERYTHING = """
import contextlib, io, json, sys
from medssl.cli.main import app, run
names = [entry.name for entry in [*app.registered_commands, *app.registered_groups]]
groups = {group.name: [command.name for command in group.typer_instance.registered_commands]
          for group in app.registered_groups}
words = [[], *([name] for name in names), *([group, name] for group, inner in groups.items() for name in inner)]
with contextlib.redirect_stdout(io.StringIO()):
    codes = [run([*start, "--help"]) for start in words]
heavy = sorted({"torch", "monai", "ignite", "numpy", "nibabel", "SimpleITK", "matplotlib"} & set(sys.modules))
print(json.dumps({"names": names, "codes": codes, "heavy": heavy}))
"""


def _python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def test_help_of_every_command_needs_no_heavy_package():
    found = json.loads(_python(_HELP_OF_EVERYTHING))
    assert "report" in found["names"]
    assert set(found["codes"]) == {0}
    assert found["heavy"] == []


def test_the_command_line_starts_at_once():
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        _python("from medssl.cli.main import main; main()", "--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Processor time: the wall clock of a busy machine says nothing about the program
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(3)) < START_SECONDS
