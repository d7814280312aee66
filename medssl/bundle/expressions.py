"""The closed grammar of `$` expressions: what a bundle may write, decided on the syntax tree and never by pattern.

MONAI hands every `$` string to `eval`. Here the very text that `eval` would see is parsed, and each node of it has
to be one that bundles need: paths, devices, dtypes, references and the few calls on them, arithmetic and lists.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from typing import Any

LONGEST_EXPRESSION = 60
DEVICE_EXPRESSION = "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')"

_REFERENCE = re.compile(r"@\w*(?:::\w*)*")
_LOCALS = "__local_refs"  # the name under which MONAI hands resolved items to eval

_IMPORTS = frozenset(
    f"import {module}"
    for module in ("glob", "os", "torch", "torch.distributed as dist", "numpy", "numpy as np", "monai", "medssl")
)
_GROUP_CALLS: dict[str, tuple[str, ...]] = {
    "init_process_group": ("backend",),  # init_method and store would open connections of the bundle's choice
    "destroy_process_group": (),
    "get_rank": (),
    "get_world_size": (),
    "is_available": (),
    "is_initialized": (),
    "barrier": (),
}
_CALLS: dict[str, tuple[str, ...]] = {
    "os.path.join": (),
    "os.path.exists": (),
    "glob.glob": ("recursive",),
    "sorted": (),
    "list": (),
    "len": (),
    "int": (),
    "min": (),
    "max": (),
    "torch.device": (),
    "torch.cuda.is_available": (),
    "torch.cuda.device_count": (),
    "torch.cuda.set_device": (),
    "monai.utils.set_determinism": ("seed",),
    **{
        f"{module}.{name}": allowed
        for module in ("torch.distributed", "dist")
        for name, allowed in _GROUP_CALLS.items()
    },
}
_DTYPES = ("float16", "float32", "float64", "uint8", "uint16", "int8", "int16", "int32", "int64")
_CONSTANTS = frozenset(
    [f"{module}.{name}" for module in ("torch", "numpy", "np") for name in _DTYPES]
    + ["torch.bfloat16", "torch.bool", "torch.long", "torch.float", "torch.half", "torch.channels_last_3d"]
)
_METHODS = {"run": 0, "to": 1, "parameters": 0}
_RANKS = frozenset({"LOCAL_RANK", "RANK", "WORLD_SIZE"})  # torchrun's own way to tell a process who it is

_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod)
_LITERALS = (str, int, float, bool, type(None))


class _RefusedError(Exception):
    """Why an expression is outside the grammar."""


def is_expression(value: Any) -> bool:
    """Tell whether MONAI would evaluate this value."""
    return isinstance(value, str) and value.startswith("$")


def references(value: Any) -> Iterator[str]:
    """Yield the ids (with "::" between their parts) that a string refers to."""
    if not isinstance(value, str):
        return
    text = value.replace("#", "::")
    for match in _REFERENCE.findall(text):
        if is_expression(text) or match == text:
            yield match[1:]


def refusal(expression: str) -> str | None:
    """Tell why a `$` expression is outside the closed grammar, or None if it is inside.

    Args:
        expression: The whole string, with its "$".
    """
    text = expression.removeprefix("$")
    if "__" in text:
        return "names with two underscores are not allowed"
    if " ".join(text.split()) in _IMPORTS:
        return None
    try:
        tree = ast.parse(_as_evaluated(text), mode="eval")
        _check(tree.body, frozenset())
    except _RefusedError as reason:
        return str(reason)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "it is not a single expression, or an import that bundles do not need"
    return None


def has_control_flow(expression: str) -> bool:
    """Tell whether an expression decides or loops, beyond choosing a device and building a plain list."""
    if expression == DEVICE_EXPRESSION:
        return False
    try:
        nodes = list(ast.walk(ast.parse(_as_evaluated(expression.removeprefix("$")))))
    except (SyntaxError, ValueError):
        return True
    loops = [node for node in nodes if isinstance(node, ast.comprehension)]
    branches = any(isinstance(node, (ast.IfExp, ast.Lambda)) for node in nodes)
    return branches or len(loops) > 1 or any(loop.ifs for loop in loops)


def leading_literals(expression: str) -> list[str]:
    """Return the string literals of an expression that may begin a path: all but those appended with "+"."""
    try:
        tree = ast.parse(_as_evaluated(expression.removeprefix("$")))
    except (SyntaxError, ValueError):
        return []
    appended = {id(node.right) for node in ast.walk(tree) if isinstance(node, ast.BinOp)}
    literals = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [str(node.value) for node in literals if id(node) not in appended]


def _as_evaluated(text: str) -> str:
    # The same replacement as MONAI's, longest reference first, so that a reference inside a string literal
    # (which would end that literal) is seen exactly as eval would see it.
    text = text.replace("#", "::")
    for match in sorted(_REFERENCE.findall(text), key=len, reverse=True):
        text = text.replace(match, f"{_LOCALS}['{match[1:]}']")
    return text


def _check(node: ast.AST, names: frozenset[str]) -> None:
    rule = _RULES.get(type(node))
    if rule is None:
        raise _RefusedError(f"{type(node).__name__} is outside the grammar of bundle expressions")
    rule(node, names)


def _constant(node: ast.Constant, names: frozenset[str]) -> None:
    if not isinstance(node.value, _LITERALS):
        raise _RefusedError(f"a literal {type(node.value).__name__} is not allowed")


def _name(node: ast.Name, names: frozenset[str]) -> None:
    if node.id not in names:
        raise _RefusedError(f"the name {node.id!r} is not allowed here")


def _attribute(node: ast.Attribute, names: frozenset[str]) -> None:
    dotted = _dotted(node)
    if dotted not in _CONSTANTS:
        raise _RefusedError(f"{dotted or '.' + node.attr!r} is not on the list of dtypes")


def _items(*fields: str) -> Callable[[Any, frozenset[str]], None]:
    def rule(node: ast.AST, names: frozenset[str]) -> None:
        for field in fields:
            value = getattr(node, field)
            for part in value if isinstance(value, list) else [value]:
                if part is not None:
                    _check(part, names)
                elif isinstance(node, ast.Dict):
                    raise _RefusedError("dict unpacking is not allowed")

    return rule


def _operation(node: ast.BinOp, names: frozenset[str]) -> None:
    if not isinstance(node.op, _OPERATORS):
        raise _RefusedError(f"the operator {type(node.op).__name__} is not allowed")
    _check(node.left, names)
    _check(node.right, names)


def _subscript(node: ast.Subscript, names: frozenset[str]) -> None:
    if isinstance(node.value, ast.Name) and node.value.id == _LOCALS:
        if not (isinstance(node.slice, ast.Constant) and node.slice.value):
            raise _RefusedError('"@" without an id')
        return
    if _dotted(node.value) == "os.environ":
        if not (isinstance(node.slice, ast.Constant) and node.slice.value in _RANKS):
            raise _RefusedError(f"of os.environ only {', '.join(sorted(_RANKS))} may be read")
        return
    _check(node.value, names)
    _check(node.slice, names)


def _list_building(node: ast.ListComp, names: frozenset[str]) -> None:
    for loop in node.generators:
        if not isinstance(loop.target, ast.Name) or loop.is_async:
            raise _RefusedError("a list is built over one plain name")
        _check(loop.iter, names)
        names = names | {loop.target.id}
        for condition in loop.ifs:
            _check(condition, names)
    _check(node.elt, names)


def _call(node: ast.Call, names: frozenset[str]) -> None:
    dotted = _dotted(node.func)
    if dotted in _CALLS and dotted.split(".")[0] not in names:
        allowed = _CALLS[dotted]
        if any(keyword.arg not in allowed for keyword in node.keywords):
            raise _RefusedError(f"{dotted} takes no keyword here but {', '.join(allowed) or 'none'}")
    elif _is_method_of_reference(node):
        pass
    else:
        raise _RefusedError(f"the call of {dotted or ast.unparse(node.func)!r} is not on the list")
    for value in [*node.args, *(keyword.value for keyword in node.keywords)]:
        _check(value, names)


def _is_method_of_reference(node: ast.Call) -> bool:
    function = node.func
    return (
        isinstance(function, ast.Attribute)
        and isinstance(function.value, ast.Subscript)
        and isinstance(function.value.value, ast.Name)
        and function.value.value.id == _LOCALS
        and isinstance(function.value.slice, ast.Constant)
        and bool(function.value.slice.value)
        and _METHODS.get(function.attr) == len(node.args)
        and not node.keywords
    )


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = _dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""


_RULES: dict[type[ast.AST], Callable[[Any, frozenset[str]], None]] = {
    ast.Constant: _constant,
    ast.Name: _name,
    ast.Attribute: _attribute,
    ast.Subscript: _subscript,
    ast.Slice: _items("lower", "upper", "step"),
    ast.List: _items("elts"),
    ast.Tuple: _items("elts"),
    ast.Dict: _items("keys", "values"),
    ast.BinOp: _operation,
    ast.UnaryOp: _items("operand"),
    ast.BoolOp: _items("values"),
    ast.Compare: _items("left", "comparators"),
    ast.IfExp: _items("test", "body", "orelse"),
    ast.ListComp: _list_building,
    ast.Call: _call,
}
