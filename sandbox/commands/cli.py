"""The command line. Results go to stdout, progress and errors to stderr.

Exit codes: 0 done; 1 the run failed; 2 the input is wrong; 130 interrupted; 143 ended by SIGTERM. Heavy modules are
imported inside the commands, so that `sandbox --help` answers at once.
"""

from __future__ import annotations

import functools
import json
import shutil
import sys
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from sandbox.tools.ending import INTERRUPTED, Told, ending_when_told
from sandbox.tools.errors import InputError, RunError, UnwrittenError
from sandbox.tools.process import set_up

_EXAMPLES = """\b
Examples:
  sandbox run scenarios/crossing.yaml
  sandbox run crossing --set populations.sgd.learning_rate=0.1 --out results/faster
  sandbox check my_scenario.yaml
  sandbox answer results/crossing
"""


_RLCT_EXAMPLES = """\b
Examples:
  sandbox rlct "(x**2 - y**3)**2"
  sandbox rlct "x**2 * y**4" --at x=0,y=1/2 --prior "abs(y)"
  sandbox rlct "((y - x**2)**2 - x**5)**2" --json
"""


class _Group(click.Group):
    """A group of commands that turns the package's errors into a message and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        warnings.showwarning = _plain_warning
        set_up()
        try:
            with ending_when_told():
                return super().invoke(ctx)
        except InputError as error:
            click.echo(str(error), err=True)
            sys.exit(2)
        except BrokenPipeError:
            # The reader of stdout has what it wants (`sandbox list | head -1`): Click ends the command without a word.
            raise
        except (RunError, OSError) as error:
            click.echo(f"the run failed: {error}", err=True)
            sys.exit(1)
        except MemoryError:
            click.echo("the run failed: not enough memory; fewer particles, frames or positions need less", err=True)
            sys.exit(1)
        except KeyboardInterrupt as stop:
            click.echo(INTERRUPTED, err=True)
            sys.exit(stop.code if isinstance(stop, Told) else 130)


def _plain_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"warning: {message}", err=True)


@click.group(cls=_Group, epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sandbox-slt", prog_name="sandbox")
def main() -> None:
    """Does SGD reach simple solutions? Particles on singular losses beside the exact Bayesian posterior."""


def _scenario_names(_: click.Context, __: click.Parameter, incomplete: str) -> list[Any]:
    """Return the scenarios whose names begin like this, or the files, for a shell's completion."""
    from sandbox.scenario.files import available

    known = [name for name in available() if name.startswith(incomplete)]
    return [CompletionItem(name) for name in known] or [CompletionItem(incomplete, type="file")]


def _keys(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[Any]:
    """Return the keys of `--set` that begin like this, one level at a time, for a shell's completion."""
    from sandbox.scenario.override import keys

    # Behind a `--set` without its value Click has not read the arguments yet.
    scenario = ctx.params.get("scenario") or next((word for word in ctx.args if not word.startswith("-")), "")
    return [CompletionItem(key) for key in keys(scenario, incomplete)]


def _print_answer(tree: Any, as_json: bool, indent: int | None = None) -> None:
    """Print the answer of a record as JSON or Markdown; on a terminal the latter is set in its width."""
    from sandbox.comparison.page import markdown
    from sandbox.comparison.report import answer
    from sandbox.tools.progress import print_markdown

    found = answer(tree)
    if as_json:
        click.echo(json.dumps(found, indent=indent))
    elif sys.stdout.isatty():
        print_markdown(markdown(found, glossary=None))
    else:
        click.echo(markdown(found, glossary=None))


def _show_lines(text: str) -> None:
    """Print lines: as they are to a file or pipe; on a terminal long ones go on below their own indent."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    for line in text.split("\n"):
        indent = " " * (len(line) - len(line.lstrip()) + 4)
        fits = not width or len(line) <= width
        click.echo(line if fits else textwrap.fill(line, width, subsequent_indent=indent, drop_whitespace=True))


def _scenario_options(command: Callable[..., None]) -> Callable[..., None]:
    command = click.option(
        "--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="Change one value; repeat for several.",
        shell_complete=_keys,
    )(command)  # fmt: skip
    command = click.option("--seed", type=click.IntRange(0, 2**64 - 1), help="Seed to use in place of the scenario's.")(
        command
    )
    return click.argument("scenario", shell_complete=_scenario_names)(command)


def _loaded(scenario: str, overrides: tuple[str, ...], seed: int | None) -> Any:
    from sandbox.scenario.scenario import load

    return load(scenario, [*overrides, *([f"seed={seed}"] if seed is not None else [])])


@main.command(epilog=_EXAMPLES)
@_scenario_options
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the results [results/<scenario name>].")
@click.option("--force", is_flag=True, help="Replace a finished result.")
@click.option(
    "--quick", is_flag=True, help="A preview, not an answer: at most 512 particles, 2,000 steps, light measurements."
)
@click.option("--threads", type=click.IntRange(1), help="Threads [all processors]; changes no bit of the result.")
@click.option("--no-progress", is_flag=True, help="Print nothing on stderr during the run.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def run(
    scenario: str, overrides: tuple[str, ...], seed: int | None, out: Path | None, force: bool, quick: bool,
    threads: int | None, no_progress: bool, as_json: bool,
) -> None:  # fmt: skip
    """Run SCENARIO and write record, answer, figure and animation.

    SCENARIO is a file, the name of one in scenarios/, or the folder of a finished result.
    """
    from sandbox.commands.run import run as run_scenario

    loaded = _loaded(scenario, overrides, seed)
    target = out or Path("results") / loaded.name
    said = None if no_progress else functools.partial(click.echo, err=True)
    try:
        tree = run_scenario(
            loaded, quick=quick, out=target, force=force, threads=threads, progress=not no_progress, report=said
        )
    except UnwrittenError as error:
        # A full disk must not cost the answer.
        if error.record is not None:
            _print_answer(error.record, as_json, indent=1)
        raise
    _print_answer(tree, as_json, indent=1)
    click.echo(f"written to {target}", err=True)


@main.command()
@_scenario_options
def check(scenario: str, overrides: tuple[str, ...], seed: int | None) -> None:
    """Validate SCENARIO and print the quantities derived from it: λ and m of the strata, stability, cost."""
    from sandbox.commands.check import describe

    _show_lines(describe(_loaded(scenario, overrides, seed)))


@main.command(name="list")
def list_scenarios() -> None:
    """List the shipped scenarios, and those in scenarios/ here, with their questions."""
    from sandbox.scenario.files import available, question

    for name, path in available().items():
        _show_lines(f"{name:25s} {question(path)}")


@main.command(epilog=_RLCT_EXAMPLES)
@click.argument("expression")
@click.option("--at", metavar="x=0,y=1/2", help="The point, coordinates as decimals or fractions [the origin].")
@click.option("--prior", default="1", metavar="x**2", help="The prior density, a product of powers of parameters.")
@click.option("--box", metavar="x=-1:1,y=-1:1", help="Instead of a point: the smallest λ over this box.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def rlct(expression: str, at: str | None, prior: str, box: str | None, as_json: bool) -> None:
    """Print the learning coefficient λ and multiplicity m of the loss K = EXPRESSION >= 0 at a zero.

    Every name in EXPRESSION is a parameter, E too, but pi is the number, and e is refused: exp(1) is Euler's number.
    """
    from sandbox.commands.rlct import describe, rlct, words

    sides = {name: tuple(value.split(":", 1)) for name, value in _assignments("--box", box).items()} if box else None
    for name, side in (sides or {}).items():
        if len(side) != 2:
            raise InputError(f"--box {name}: found '{side[0]}'; allowed: low:high")
    found = rlct(expression, at=_assignments("--at", at) if at else None, prior=prior, box=sides)  # type: ignore[arg-type]
    click.echo(json.dumps(describe(found), indent=1) if as_json else words(found))


def _assignments(option: str, text: str) -> dict[str, str]:
    """Parse "x=0,y=1/2" into {"x": "0", "y": "1/2"}. Raises InputError for another form or a repeated name."""
    found: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not (name and equals and value) or name in found:
            allowed = "name=value, once for each name, with commas between"
            raise InputError(f"{option}: found '{part.strip()}'; allowed: {allowed}")
        found[name] = value
    return found


@main.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object per line.")
def answer(results: tuple[Path, ...], as_json: bool) -> None:
    """Print the answer of finished RESULTS."""
    from sandbox.comparison.record import open_result

    for result in results:
        _print_answer(open_result(result), as_json)


@main.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
def verify(results: tuple[Path, ...]) -> None:
    """Check that each file in the records of RESULTS is as it was written; name those that are not.

    The answer and the pictures of a result can be made again from its record, and are not checked.
    """
    from sandbox.comparison.record import folder_of, verified
    from sandbox.scenario.files import STORE

    for result in results:
        store = folder_of(result) / STORE
        click.echo(f"{store}: all {len(verified(store))} files are as they were written")


@main.command()
@click.argument("result", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The PNG to write [RESULT/figure.png].")
def figure(result: Path, out: Path | None) -> None:
    """Draw the figure of a finished RESULT again."""
    from sandbox.comparison.record import folder_of, open_result
    from sandbox.pictures.figure import save_figure

    save_figure(open_result(result), out or folder_of(result) / "figure.png")


@main.command()
@click.argument("result", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The GIF to write [RESULT/animation.gif].")
@click.option("--frames", type=click.IntRange(2), help="At most this many frames.")
@click.option("--fps", type=click.FloatRange(1, 50), default=15.0, show_default=True, help="Frames per second.")
def animate(result: Path, out: Path | None, frames: int | None, fps: float) -> None:
    """Draw the animation of a finished RESULT again."""
    from sandbox.comparison.record import folder_of, open_result
    from sandbox.pictures.animation import animate as draw

    draw(open_result(result), out or folder_of(result) / "animation.gif", frames=frames, fps=fps)


@main.command()
@click.argument("scenarios", nargs=-1)
def precompile(scenarios: tuple[str, ...]) -> None:
    """Compile the kernels of SCENARIOS before their first runs; without a name, of all in scenarios/."""
    from sandbox.commands.precompile import precompile as compile_all
    from sandbox.compiled.cache import cache_directory
    from sandbox.scenario.files import available
    from sandbox.tools.progress import on_stderr

    progress = on_stderr()
    try:
        new, known = compile_all(scenarios or list(available()), progress=progress)
    finally:
        progress.close()
    click.echo(f"{new} kernels compiled, {known} were there: {cache_directory()}")


@main.command()
@click.option("--only", multiple=True, metavar="NAME", help="Run this scenario only; repeat for several [all].")
@click.option("--quick", is_flag=True, help="Previews, as of `sandbox run --quick`.")
@click.option("--out", type=click.Path(path_type=Path), default="results", show_default=True, help="Folder to write.")
@click.option("--force", is_flag=True, help="Run again what is finished.")
@click.option("--answers-only", is_flag=True, help="Run nothing; write the page from the finished results.")
@click.option("--threads", type=click.IntRange(1), help="Threads [all processors]; changes no bit of the results.")
def gallery(
    only: tuple[str, ...], quick: bool, out: Path, force: bool, answers_only: bool, threads: int | None
) -> None:  # fmt: skip
    """Run every scenario that has no finished result, then write the page of all answers.

    A result is finished if this version has written it for the present text of its scenario.
    """
    from sandbox.commands.gallery import gallery as run_all
    from sandbox.tools.progress import on_stderr

    progress = on_stderr()
    try:
        ran = run_all(
            only=only, quick=quick, out=out, force=force, answers_only=answers_only, threads=threads, progress=progress
        )
    finally:
        progress.close()
    click.echo(f"{len(ran)} scenarios run; written to {out / 'README.md'}", err=True)


@main.command()
def schema() -> None:
    """Print the JSON Schema of scenarios, for editors that complete and check them."""
    from sandbox.scenario.schema import schema as schema_of

    click.echo(json.dumps(schema_of(), indent=1))


@main.command()
@click.option("--peers", is_flag=True, help="Also time JAX (the optional extra `peers`).")
@click.option(
    "--repeats", type=click.IntRange(1), default=7, show_default=True, help="Timed rounds; medians are shown."
)
def bench(peers: bool, repeats: int) -> None:
    """Time the kernels beside vectorised NumPy and plain Numba, in one process."""
    from sandbox.commands.bench import table

    click.echo(table(peers=peers, repeats=repeats))


@main.command()
def doctor() -> None:
    """Print versions, threads, the kernel cache, and a self-test of the random numbers."""
    from sandbox.commands.check import diagnose

    click.echo(diagnose())
