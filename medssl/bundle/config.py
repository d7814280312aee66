"""Configuration files of a bundle as data: read strictly, merged as MONAI merges them, overridden by checked values."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medssl.core.errors import ConfigError
from medssl.core.files import sha256_json
from medssl.core.strict_json import no_constant, parse_json
from medssl.core.suggest import did_you_mean

META = "_meta_"  # where MONAI keeps metadata.json inside a configuration
_MACRO_ROUNDS = 8
OVERRIDE = "--set"
COMPONENT_KEYS = frozenset({"_target_", "_disabled_", "_requires_", "_desc_", "_mode_"})
"""What MONAI itself reads of a component; all other keys are arguments."""


@dataclass(frozen=True, kw_only=True)
class BundleConfig:
    """A merged configuration, not yet evaluated.

    Attributes:
        bundle: Folder of the bundle.
        content: The merged items, with metadata.json under "_meta_".
        sources: Id ("train#trainer") to the file that set it last.
        files: Names of the merged files below configs/.
    """

    bundle: Path
    content: dict[str, Any]
    sources: dict[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()

    def locate(self, item_id: str) -> str:
        """Return "file, id" for an id, naming the file that set it or the part it belongs to."""
        parts = item_id.split("#")
        for count in range(len(parts), 0, -1):
            source = self.sources.get("#".join(parts[:count]))
            if source is not None:
                return f"{source}, {item_id}"
        return item_id


def input_channels(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the channels of a bundle's image, in their order; none where metadata.json does not tell."""
    try:
        image = metadata["network_data_format"]["inputs"]["image"]
        names = tuple(str(image["channel_def"][str(number)]) for number in range(int(image["num_channels"])))
    except (KeyError, TypeError, ValueError):
        return ()
    return names


def wanted_channels(content: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the channels that a configuration's network takes; none where nothing tells.

    They are those of metadata.json, unless the network was given another number of them.
    """
    names = input_channels(content.get(META, {}))
    network = content.get("network_def")
    count = network.get("in_channels") if isinstance(network, Mapping) else None
    if not isinstance(count, int) or count == len(names):
        return names
    return tuple(f"channel {number}" for number in range(1, count + 1))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, refusing duplicate keys and values that are no JSON.

    Raises:
        ConfigError: If the file is missing, is no JSON object, or says one key twice.
    """
    try:
        content = parse_json(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        message = f"{path}: no such file. Check the name; a bundle keeps its configurations in configs/."
        raise ConfigError(message) from error
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        message = f"{path}: expected JSON, found something else ({error}). Correct the file."
        raise ConfigError(message) from error
    if not isinstance(content, dict):
        message = f"{path}: expected a JSON object, found a {type(content).__name__}. Correct the file."
        raise ConfigError(message)
    return content


def config_path(bundle: Path, name: str) -> Path:
    """Return the path of a configuration of a bundle by its name, "train" or "train.json" or "configs/train.json".

    Raises:
        ConfigError: If the bundle has no such JSON file.
    """
    folder = Path(bundle) / "configs"
    bare = str(name).replace("\\", "/").removeprefix("configs/").removesuffix(".json")
    known = sorted(path.stem for path in folder.glob("*.json"))
    if bare not in known:
        message = (
            f"{folder}: no configuration {bare!r}.{did_you_mean(bare, known)} "
            f"Expected one of: {', '.join(known) or 'none, the folder has no JSON file'}."
        )
        raise ConfigError(message)
    return folder / f"{bare}.json"


def merge_config(
    bundle: Path, files: Sequence[str] = ("train",), overrides: Mapping[str, Any] | None = None
) -> BundleConfig:
    """Merge configuration files of a bundle and apply overrides; evaluates nothing.

    A later file wins; a key that begins with "+" extends a list or merges a dict. Macros ("%id") are replaced by what
    they stand for, and may reach only into the bundle's own configs.

    Args:
        bundle: Folder of the bundle.
        files: Names below configs/, with or without ".json".
        overrides: Id ("train#trainer#max_epochs", "#" or "::") to value; every id must exist.

    Raises:
        ConfigError: If a file cannot be read or merged, or an override does not fit; every bad override is named.
    """
    from monai.bundle import ConfigParser

    bundle = Path(bundle)
    parser = ConfigParser(config={})
    sources: dict[str, str] = {}
    paths = [config_path(bundle, name) for name in files]
    for path in paths:
        for key, value in read_json(path).items():
            _merge(parser, key, value, path)
            sources[key.removeprefix("+").replace("::", "#")] = path.name
    _override(parser, overrides or {}, sources)
    metadata = bundle / "configs" / "metadata.json"
    parser[META] = read_json(metadata) if metadata.is_file() else {}
    sources[META] = metadata.name
    _resolve_macros(parser, bundle)
    return BundleConfig(bundle=bundle, content=parser.get(), sources=sources, files=tuple(path.name for path in paths))


def configurations_sha256(bundle: Path, configurations: Iterable[Sequence[str]]) -> str:
    """Return one hash of what configurations of a bundle say, wherever its folder lies.

    Args:
        bundle: Bundle folder.
        configurations: Each the files that it is merged from, in this order.

    Raises:
        ConfigError: If a file is missing or is no JSON.
    """
    merged = [merge_config(bundle, files).content for files in configurations]
    return sha256_json([{key: value for key, value in content.items() if key != META} for content in merged])


def parse_overrides(pairs: Sequence[str]) -> dict[str, Any]:
    """Turn "id=value" strings into typed values: JSON where it is JSON, otherwise the text itself.

    "false", "0", "1e-3", "[1, 2]", "null" and '"text"' become what they say; Python's spellings work too.

    Raises:
        ConfigError: If a string has no "=" or an empty id.
    """
    parsed = {}
    for pair in pairs:
        item_id, equals, text = pair.partition("=")
        if not equals or not item_id.strip():
            message = f"{OVERRIDE} {pair}: expected id=value, such as train#trainer#max_epochs=5."
            raise ConfigError(message)
        parsed[item_id.strip().replace("::", "#")] = _typed(text)
    return parsed


def walk(content: Any, item_id: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (id, value) for a configuration and everything in it, with "#" between the parts of an id."""
    if item_id:
        yield item_id, content
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in pairs:
        yield from walk(value, f"{item_id}#{key}" if item_id else str(key))


def handlers_of(content: Mapping[str, Any], kind: str) -> Iterator[tuple[str, Any]]:
    """Yield the training handlers of a class with their ids."""
    for number, handler in enumerate(content.get("train", {}).get("handlers", [])):
        if str(handler.get("_target_")).endswith(kind):
            yield f"train#handlers#{number}", handler


def id_steps(item_id: str) -> list[str]:
    """Return the keys and numbers that a configuration id goes through."""
    return item_id.replace("::", "#").split("#")


def get_item(content: Any, item_id: str) -> Any:
    """Return the item with an id.

    Raises:
        KeyError: If there is none.
    """
    for step in id_steps(item_id):
        if isinstance(content, dict) and step in content:
            content = content[step]
        elif isinstance(content, list) and step.isdigit() and int(step) < len(content):
            content = content[int(step)]
        else:
            raise KeyError(item_id)
    return content


def has_item(content: Any, item_id: str) -> bool:
    """Tell whether there is an item with an id."""
    try:
        get_item(content, item_id)
    except KeyError:
        return False
    return True


def set_item(content: dict[str, Any], item_id: str, value: Any) -> None:
    """Change the item with an id in place, or add it to the mapping above it.

    Raises:
        KeyError: If there is nothing above it, or a list without this number.
    """
    above, _, last = item_id.replace("::", "#").rpartition("#")
    target = get_item(content, above) if above else content
    if isinstance(target, list):
        get_item(content, item_id)
        target[int(last)] = value
    else:
        target[last] = value


def nearest_id(content: Any, item_id: str) -> str:
    """Return a did-you-mean for an id that is not in a configuration."""
    item_id = item_id.replace("::", "#")
    known = [known_id for known_id, _ in walk(content)]
    # the last part is the likeliest to be wrong, so names beside it come first
    parent = item_id.rpartition("#")[0]
    beside = [known_id for known_id in known if known_id.rpartition("#")[0] == parent]
    return did_you_mean(item_id, beside) or did_you_mean(item_id, known)


def _merge(parser: Any, key: str, value: Any, path: Path) -> None:
    from monai.bundle.utils import merge_kv

    plain = key.removeprefix("+")
    if key != plain and plain not in parser:
        message = f"{path.name}, {key}: there is nothing to extend.{nearest_id(parser.get(), plain)} Correct the id."
        raise ConfigError(message)
    try:
        merge_kv(parser, key, value)
    except KeyError as error:
        message = f"{path.name}, {key}: there is nothing above it to change.{nearest_id(parser.get(), plain)}"
        raise ConfigError(message, fix="Merge it over a configuration with it: --config train before.") from error
    except (ValueError, IndexError, TypeError) as error:
        message = f"{path.name}, {key}: cannot be merged ({error}).{nearest_id(parser.get(), plain)}"
        raise ConfigError(message) from error


def _override(parser: Any, overrides: Mapping[str, Any], sources: dict[str, str]) -> None:
    problems = []
    for raw_id, value in overrides.items():
        item_id = raw_id.replace("::", "#")
        try:
            current = get_item(parser.get(), item_id)
        except KeyError:
            problems.append(f"{item_id}: no such id.{nearest_id(parser.get(), item_id)}")
            continue
        wanted = _wanted_type(current, value)
        if wanted:
            problems.append(f"{item_id}: expected {wanted} like {current!r}, found {value!r}.")
            continue
        parser[item_id] = deepcopy(value)
        sources[item_id] = OVERRIDE
    if problems:
        lines = "\n".join(f"  {OVERRIDE} {problem}" for problem in problems)
        message = f"{len(problems)} overrides do not fit the configuration:\n{lines}"
        raise ConfigError(message)


def _wanted_type(current: Any, value: Any) -> str | None:
    """Return what an override should have been, or None if its type fits."""
    if current is None or value is None or _is_reference(current) or _is_reference(value):
        return None
    if isinstance(current, (int, float)) and not isinstance(current, bool):
        # a whole number may stand for a real one (0, 1), so only its being a number is held
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
    elif isinstance(current, str):
        fits = isinstance(value, (str, list))
    else:
        fits = type(value) is type(current)
    return None if fits else _kind(current)


def _is_reference(value: Any) -> bool:
    return isinstance(value, str) and value[:1] in {"@", "$", "%"}


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)


def _typed(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=no_constant)
    except ValueError:
        pass
    try:
        value = ast.literal_eval(text)
        return json.loads(json.dumps(value, allow_nan=False))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return text


def _resolve_macros(parser: Any, bundle: Path) -> None:
    """Resolve until nothing changes, so that MONAI, which resolves again and from any file, runs what was checked."""
    for _ in range(_MACRO_ROUNDS):
        before = deepcopy(parser.get())
        _import_macro_files(parser.get(), bundle)
        try:
            parser.resolve_macro_and_relative_ids()
        except (KeyError, ValueError, IndexError, RecursionError) as error:
            message = f"bundle {bundle.name}: a macro or relative id does not resolve ({error}). Correct the id."
            raise ConfigError(message) from error
        macros = any(isinstance(value, str) and value.startswith("%") for _, value in walk(parser.get()))
        if not macros and parser.get() == before:
            return
    message = f"bundle {bundle.name}: macros or relative ids lead on without end. Write one of them out."
    raise ConfigError(message)


def _import_macro_files(content: Any, bundle: Path) -> None:
    for key, value in list(content.items()) if isinstance(content, dict) else list(enumerate(content)):
        if isinstance(value, (dict, list)):
            _import_macro_files(value, bundle)
        elif isinstance(value, str) and value.startswith("%"):
            content[key] = _macro_content(value, bundle)


def _macro_content(macro: str, bundle: Path) -> Any:
    from monai.bundle import ConfigParser

    path, item_id = ConfigParser.split_path_id(macro[1:])
    if not path:
        return macro
    folder = (bundle / "configs").resolve()
    file = (bundle / path).resolve()
    if not file.is_relative_to(folder) or file.suffix != ".json":
        message = f"bundle {bundle.name}: the macro {macro!r} leaves the bundle's configs. Write its content out."
        raise ConfigError(message)
    try:
        return deepcopy(get_item(read_json(file), item_id) if item_id else read_json(file))
    except KeyError as error:
        message = f"bundle {bundle.name}: the macro {macro!r} names an id that {path} does not have."
        raise ConfigError(message) from error
