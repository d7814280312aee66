"""The command line: one file for each verb, errors shown without a traceback, exit codes of core."""

from __future__ import annotations

import sys

import typer

from medssl.cli import (
    bundle,
    check,
    compare,
    demo,
    doctor,
    evaluate,
    export,
    finetune,
    import_,
    infer,
    pretrain,
    reduce,
    report,
    split,
    study,
    train,
)
from medssl.cli.progress import show_progress
from medssl.core import exit_codes
from medssl.core.errors import MedsslError
from medssl.core.files import disk_full

app = typer.Typer(
    name="medssl",
    help="From a handful of labelled scans and a pile of unlabelled ones to a MONAI bundle that a hospital can run.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


app.add_typer(bundle.app, name="bundle")
app.command(name="check")(check.check)
app.command(name="compare")(compare.compare)
app.command(name="demo")(demo.demo)
app.command(name="doctor")(doctor.doctor)
app.command(name="evaluate")(evaluate.evaluate)
app.command(name="export")(export.export)
app.command(name="finetune")(finetune.finetune)
app.command(name="import")(import_.import_)
app.command(name="infer")(infer.infer)
app.command(name="pretrain")(pretrain.pretrain)
app.command(name="reduce")(reduce.reduce)
app.command(name="report")(report.report)
app.command(name="split")(split.split)
app.command(name="study")(study.study)
app.command(name="train")(train.train)


@app.command(name="version")
def version() -> None:
    """Print the versions that decide a result."""
    from medssl.core.provenance import package_versions

    for package, installed in package_versions().items():
        typer.echo(f"{package} {installed}")


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; used by `main`, the demo and the tests.

    Args:
        arguments: What follows `medssl` on the command line.
    """
    show_progress()
    try:
        code = app(arguments, standalone_mode=False)
    except MedsslError as error:
        typer.echo(f"error: {error}", err=True)
        return exit_codes.USAGE
    except OSError as error:
        known = disk_full(error, f"medssl {arguments[0]}") or _out_of_reach(error, arguments[0])
        if known is None:
            raise
        typer.echo(f"error: {known}", err=True)
        return exit_codes.USAGE
    except typer.TyperException as error:
        # TyperException is the public base; only the usage errors below it show themselves, with usage and hint
        show = getattr(error, "show", None)
        typer.echo(f"error: {error}", err=True) if show is None else show()
        return exit_codes.USAGE
    except (typer.Abort, KeyboardInterrupt):
        return exit_codes.STOPPED
    except typer.Exit as stop:
        return int(stop.exit_code)
    return code if isinstance(code, int) else exit_codes.OK


def _out_of_reach(error: OSError, verb: str) -> MedsslError | None:
    """Return what to tell the user about a path that cannot be read or written; None if the error names no path."""
    path = error.filename if error.filename2 is None else error.filename2  # of a rename, where it leads
    if path is None:
        return None
    text = f"medssl {verb}: expected a path that can be used, found: {error.strerror}: {path}."
    return MedsslError(text, fix="Check what lies there and its permissions, or choose another place.")


def main() -> None:
    """Entry point of the `medssl` script."""
    sys.exit(run(sys.argv[1:]))
