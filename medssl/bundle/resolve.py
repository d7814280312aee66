"""From configuration files to a MONAI workflow: trusted, checked as a whole, and only then built.

`workflow` is what the commands use. Every problem of a configuration is found at once, before anything is made of it:
references that lead nowhere, components that do not exist, arguments that their signature does not have.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medssl.bundle.config import COMPONENT_KEYS, META, BundleConfig, get_item, id_steps, merge_config, nearest_id, walk
from medssl.bundle.expressions import references
from medssl.bundle.targets import find_target, known_names, target_refusal
from medssl.bundle.trust import require_trust
from medssl.core.errors import ConfigError, MedsslError
from medssl.core.findings import Finding
from medssl.core.suggest import did_you_mean

if TYPE_CHECKING:
    from torch import nn

# How MONAI begins what it says of a component or an expression that failed
_FAILED = re.compile(
    r"""Failed to (?:instantiate component '(?P<component>[^']*)'|evaluate ConfigExpression:\s*"(?P<expression>.*)")"""
)
_CODE = "B05"
_VARIADIC = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def load_config(
    bundle: Path,
    files: Sequence[str] = ("train",),
    overrides: Mapping[str, Any] | None = None,
    *,
    trust: bool = False,
) -> BundleConfig:
    """Merge configuration files and overrides, and pass the result through the guard and every check.

    Args:
        bundle: Folder of the bundle.
        files: Names below configs/, with or without ".json"; a later one wins.
        overrides: Id ("train#trainer#max_epochs", "#" or "::") to value; every id must exist.
        trust: The user takes the bundle's code as his own.

    Returns:
        The merged configuration, of which nothing has been evaluated.

    Raises:
        ConfigError: If it cannot be read, merged, overridden or built; all problems of a kind are listed.
        TrustError: If it would run what bundles do not need and `trust` is not given.
    """
    config = merge_config(bundle, files, overrides)
    require_trust(config, trust=trust)
    check_config(config, trust=trust)
    return config


def config_findings(config: BundleConfig, *, trust: bool = False) -> list[Finding]:
    """Return every reference, component and argument of a configuration that does not fit; builds nothing.

    Args:
        config: What `load_config` or `merge_config` returned.
        trust: Components outside the list of what bundles need may be imported to see their signature.
    """
    found = []
    for item_id, value in walk(config.content):
        where = config.locate(item_id)
        found += [
            _finding(where, f"{name!r} refers to an id that does not exist.{hint}", "Correct the id, or add the item.")
            for name, hint in _lost_references(config.content, value)
        ]
        if isinstance(value, Mapping) and "_target_" in value:
            found += _component_findings(config, item_id, value, trust=trust)
    return found


def check_config(config: BundleConfig, *, trust: bool = False) -> None:
    """Stop at a configuration that cannot be built.

    Args:
        config: What `load_config` or `merge_config` returned.
        trust: See `config_findings`.

    Raises:
        ConfigError: With every problem: file, id, argument and the nearest name.
    """
    found = config_findings(config, trust=trust)
    if found:
        count = len(found)
        lines = "\n".join(
            f"  {finding.where}: {finding.text} ({number} of {count} problems)"
            for number, finding in enumerate(found, start=1)
        )
        message = f"bundle {config.bundle.name}: the configuration cannot be built.\n{lines}"
        raise ConfigError(message)


def resolved_json(config: BundleConfig) -> dict[str, Any]:
    """Return the merged configuration with its overrides as plain JSON, without metadata.

    Two runs that differ in any value differ here; used for hashes and for the comparison on resume.
    """
    return {key: deepcopy(value) for key, value in config.content.items() if key != META}


def workflow(
    bundle: Path,
    files: Sequence[str] = ("train",),
    *,
    workflow_type: str = "train",
    overrides: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> Any:
    """Return MONAI's workflow of a bundle, after the guard and every check have passed.

    `bundle_root` is set to the bundle's folder unless it is overridden, so that the working directory does not matter.
    Logging stays with the caller: the bundle's logging.conf is not applied.

    Args:
        bundle: Folder of the bundle.
        files: Names below configs/, merged in order.
        workflow_type: "train" or "inference".
        overrides: Id to value.
        trust: The user takes the bundle's code as his own.

    Returns:
        A `monai.bundle.ConfigWorkflow`, not yet initialized.

    Raises:
        ConfigError: If the configuration cannot be read, merged or built.
        TrustError: If it would run what bundles do not need and `trust` is not given.
    """
    overrides = {"bundle_root": str(Path(bundle).resolve())} | dict(overrides or {})
    return workflow_of(load_config(bundle, files, overrides, trust=trust), workflow_type)


def workflow_of(config: BundleConfig, workflow_type: str) -> Any:
    """Return MONAI's workflow of a configuration that `load_config` returned, not yet initialized."""
    from monai.bundle import ConfigWorkflow

    return _built(ConfigWorkflow, config, workflow_type)


def build_network(config: BundleConfig, **changes: Any) -> nn.Module:
    """Build `network_def` of a configuration that `load_config` returned, without the bundle's weights.

    Args:
        config: The configuration.
        changes: Arguments of the network that replace those of the configuration.

    Raises:
        ConfigError: If the network cannot be made of its arguments.
    """
    from monai.bundle import ConfigParser

    definition = {**config.content["network_def"], **changes}
    parser = ConfigParser({**config.content, "network_def": definition})
    with own_errors():
        network: nn.Module = parser.get_parsed_content("network_def")
    return network


def evaluated(config: BundleConfig, item_id: str) -> Any:
    """Return a value of a configuration with its references and expressions evaluated, and no component made."""
    from monai.bundle import ConfigParser

    parser = ConfigParser(dict(config.content))

    def of(at: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: of(f"{at}#{key}", each) for key, each in value.items()}
        if isinstance(value, list):
            return [of(f"{at}#{number}", each) for number, each in enumerate(value)]
        refers = isinstance(value, str) and value.startswith(("@", "$"))
        return parser.get_parsed_content(at) if refers else value

    at = "#".join(id_steps(item_id))
    return of(at, get_item(config.content, at))


def run_workflow(flow: Any) -> None:
    """Initialize, run and finalize a workflow.

    Raises:
        MedsslError: See `own_errors`.
    """
    with own_errors():
        flow.initialize()
        flow.run()
        flow.finalize()


@contextmanager
def own_errors() -> Iterator[None]:
    """Let an error of medssl come out as itself, and name the component or expression that values do not suit.

    MONAI wraps whatever a `$` expression raises, which would hide text and remedy behind "Failed to evaluate".

    Raises:
        MedsslError: The one that MONAI's error was made from.
        ConfigError: If a component could not be made, or an expression that runs nothing not be evaluated.
    """
    try:
        yield
    except RuntimeError as error:
        told = _told(error) or _unfit(error)
        if told is None:
            raise
        raise told from error


def _told(error: BaseException | None) -> MedsslError | None:
    """Return the error of medssl that another was made from, if there is one."""
    while error is not None and not isinstance(error, MedsslError):
        error = error.__cause__
    return error


def _unfit(error: BaseException) -> ConfigError | None:
    """Return what is wrong with a configuration by which something could not be made, None for errors of a run."""
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    found = [match for cause in causes if (match := _FAILED.match(str(cause)))]
    if not found or (found[-1]["expression"] or "").endswith("run()"):
        return None
    what, cause = found[-1]["component"] or found[-1]["expression"], causes[-1]
    if isinstance(cause, MemoryError | OSError) or "OutOfMemory" in type(cause).__name__:
        return None  # the machine's, not the configuration's
    message = f"{what}: cannot be made of the values it is given ({type(cause).__name__}: {cause})."
    return ConfigError(message, fix="Correct them in the configuration, or after --set.")


def missing_properties(config: BundleConfig, workflow_type: str) -> list[str]:
    """Return what MONAI's own `check_properties` misses, looking at ids only, so that no data is needed.

    The stock workflow instantiates every required property to see whether it exists; here it is looked up.

    Raises:
        Exception: Whatever MONAI's check raises on ids of an unexpected form.
    """
    from monai.bundle import ConfigWorkflow

    class IdWorkflow(ConfigWorkflow):
        def _get_property(self, name: str, property: dict[str, Any]) -> Any:
            try:
                return self.parser[self._get_prop_id(name, property)]
            except KeyError as error:
                raise AttributeError(name) from error

    with _quiet_monai():
        return list(_built(IdWorkflow, config, workflow_type).check_properties() or [])


def _built(kind: Any, config: BundleConfig, workflow_type: str) -> Any:
    from monai.bundle import ConfigParser

    folder = config.bundle / "configs"
    with _quiet_monai():
        built = kind(
            config_file=[str(folder / name) for name in config.files],
            meta_file=str(folder / "metadata.json"),
            logging_file=False,
            workflow_type=workflow_type,
        )
    # What was checked is what runs: the content that MONAI just read from the files is put aside.
    built.parser = ConfigParser(config=deepcopy(config.content))
    return built


@contextmanager
def _quiet_monai() -> Iterator[None]:
    """Keep MONAI from warning of what is intended here: logging that stays with the caller."""
    logger = logging.getLogger("monai.bundle.workflows")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _lost_references(content: dict[str, Any], value: Any) -> Iterator[tuple[str, str]]:
    for name in references(value):
        try:
            get_item(content, name)
        except KeyError:
            yield f"@{name.replace('::', '#')}", nearest_id(content, name)


def _component_findings(
    config: BundleConfig, item_id: str, component: Mapping[str, Any], *, trust: bool
) -> list[Finding]:
    target = component["_target_"]
    where = config.locate(f"{item_id}#_target_")
    if not trust and target_refusal(target):
        return []  # the guard has it; looking it up would import it
    found = find_target(target, trusted=trust) if isinstance(target, str) else None
    if found is None:
        text = f"there is no {target!r}.{did_you_mean(str(target), known_names(str(target)))}"
        return [_finding(where, text, "Correct the name, or install the package that has it.")]
    return [
        _finding(config.locate(f"{item_id}#{argument}"), text, "Correct the argument.")
        for argument, text in _argument_problems(found, component)
    ]


def _argument_problems(found: Any, component: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    try:
        parameters = inspect.signature(found).parameters
    except (TypeError, ValueError):
        return  # built-in classes without a signature, such as torch.device
    name = component["_target_"].rpartition(".")[2]
    given = [key for key in component if key not in COMPONENT_KEYS]
    named = [key for key, parameter in parameters.items() if parameter.kind not in _VARIADIC]
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        for key in given:
            if key not in named:
                yield key, f"{name} has no argument {key!r}.{did_you_mean(key, named)}"
    if component.get("_mode_", "default") == "default":
        for key in named:
            if parameters[key].default is inspect.Parameter.empty and key not in given:
                yield key, f"{name} needs the argument {key!r}, which is not given."


def _finding(where: str, text: str, fix: str) -> Finding:
    return Finding(code=_CODE, severity="error", where=where, text=text, fix=fix)
