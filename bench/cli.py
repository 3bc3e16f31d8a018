"""The command line: `bench`.  Renders; every decision is made elsewhere."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .._version import __version__
from ..codecs.errors import BitstreamError, PccbenchError, PccbenchWarning
from ..metrics.errors import MetricError
from ..reports.counts import Counts
from ..reports.errors import ReportError
from .errors import StoreWriteError, UsageError
from .prepare.command import prepare
from .signals import treat_as_interrupts, was_asked_to_end
from .system import require_supported
from .train import train

if TYPE_CHECKING:
    from ..codecs.base import Codec
    from ..codecs.registry import CodecSpec
    from ..reports import Limits
    from .spec import RunSpec

EXIT_JOB_FAILED, EXIT_USAGE, EXIT_INTERNAL, EXIT_INTERRUPTED = 1, 2, 70, 130

FILE = click.Path(path_type=Path)


def main() -> None:
    """Run the command line; a user gets one clear line and an exit code, never a traceback."""
    warnings.showwarning = _show_warning
    try:
        code = command.main(prog_name="bench", standalone_mode=False)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = _interrupted()
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except StoreWriteError as error:
        code = _fail(str(error), EXIT_JOB_FAILED)
    except (PccbenchError, MetricError, ReportError) as error:
        code = _fail(str(error), _exit_code(error.__cause__))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_JOB_FAILED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        code = _fail(f"{where}{error.strerror or error}", _exit_code(error))
    except Exception as error:
        code = _unforeseen(error)
    if code and was_asked_to_end():
        code = EXIT_INTERRUPTED  # whatever the interrupt was taken for on its way
    sys.exit(code if isinstance(code, int) else 0)


def _exit_code(error: BaseException | None) -> int:
    """A full or failing disk is nobody's wrong use."""
    is_disk = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO)
    return EXIT_JOB_FAILED if is_disk else EXIT_USAGE


def _unforeseen(error: Exception) -> int:
    if was_asked_to_end():  # an import that swallowed the interrupt fails in some way of its own
        return _interrupted()
    if os.environ.get("PCCBENCH_DEBUG"):
        raise error
    text = f"internal error: {type(error).__name__}: {' '.join(str(error).split())}"
    return _fail(f"{text} (PCCBENCH_DEBUG=1 shows where)", EXIT_INTERNAL)


def _interrupted() -> int:
    click.echo("bench: interrupted", err=True)  # nothing is imported here: an import may be what was interrupted
    return EXIT_INTERRUPTED


def _fail(text: str, code: int) -> int:
    _warn(text)
    return code


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any
) -> None:
    """A warning of ours is one line for a person; others keep Python's form."""
    if issubclass(category, PccbenchWarning):
        _warn(str(message))
    else:
        click.echo(warnings.formatwarning(message, category, filename, lineno), err=True, nl=False)


def _warn(text: str) -> None:
    _say(f"bench: {text}", err=True)


def _say(text: str, *, err: bool = False) -> None:
    """Print what may hold a codec's or file's words: nothing in it steers the terminal."""
    from .declared import printable

    click.echo(printable(text), err=err)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pccbench")
def command() -> None:
    """Benchmark point cloud geometry codecs: real bitstreams, sealed decoders, MPEG-exact metrics."""
    require_supported()
    treat_as_interrupts()


_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _names(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...] | None:
    r"""`A,B` as names, of an option given once or several times; `\,` is a comma within a name."""
    if not value:
        return None
    parts = [part.replace("\\,", ",").strip() for words in value for part in re.split(r"(?<!\\),", words)]
    names = tuple(part for part in parts if part)
    if not names:
        raise click.BadParameter("names nothing", context, parameter)
    return names


def _list_option(*names: str, help: str) -> _Decorator:
    return click.option(*names, callback=_names, multiple=True, help=help)


_columns = click.option(
    "--columns",
    type=click.IntRange(3, 256),
    help="Float32 values of a row of a headerless .bin [as name and values say].",
)


def _folders(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> dict[str, Path] | None:
    """`CODEC=FOLDER`, several times, as folders by codec, absolute."""
    found: dict[str, Path] = {}
    for text in value:
        name, _, folder = text.partition("=")
        if not name or not folder:
            raise click.BadParameter(f"expected CODEC=FOLDER, got {text!r}", context, parameter)
        if name in found:
            raise click.BadParameter(f"{name} is named twice", context, parameter)
        found[name] = Path(folder).expanduser().absolute()
    return found or None


def _finding_codecs(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say where codecs are found."""
    function = click.option("--tmc3", type=FILE, help="G-PCC executable [else PCCBENCH_TMC3, else PATH].")(function)
    return click.option(
        "--codec-module", "codec_modules", type=FILE, multiple=True, help="Python file with further codecs."
    )(function)


@command.command()
@click.option("--config", type=FILE, help="YAML file that describes the run; options override it.")
@_list_option("--codecs", help="Codecs, names or patterns separated by commas, or `all` [all].")
@_list_option("--dataset", "datasets", help="Data sets, separated by commas [synthetic].")
@_list_option(
    "--clouds", help="Clouds: names, sequences or patterns separated by commas; a comma in a name is `\\,`."
)
@_list_option("--rates", help="Rates, by name [all of each codec].")
@click.option("--data-root", type=FILE, help="Folder of the data sets [else PCCBENCH_DATA, else the config file].")
@_columns
@click.option("--out", type=FILE, help="Run folder; an existing run is continued [runs/DATASET].")
@click.option("--jobs", type=click.IntRange(1), help="Jobs at the same time, each on its own cores [1].")
@click.option("--threads", type=click.IntRange(1), help="Threads of each job [cores / jobs].")
@click.option("--share-cores", is_flag=True, default=None, help="Allow more threads than cores; rows say so.")
@click.option("--timeout", "timeout_s", type=float, help="Limit of one encode or decode, seconds [3600].")
@click.option("--memory-limit", "memory_limit_gb", type=float, help="Limit of one worker, GiB [none].")
@click.option("--repeats", type=click.IntRange(1), help="How often each call is timed [1].")
@click.option("--peak", type=float, help="Peak of the PSNR [the data set's].")
@click.option("--secondary", is_flag=True, default=None, help="Measure local density and normals, too (slower).")
@click.option("--anchor", help="Codec that BD figures compare with [gpcc-octree, else octree].")
@click.option(
    "--weights",
    callback=_folders,
    multiple=True,
    help="CODEC=FOLDER with weights of `bench train`; repeatable.",
)
@click.option("--allow-untrained", is_flag=True, default=None, help="Run learned codecs with random weights.")
@click.option("--keep-streams", is_flag=True, default=None, help="Keep the bitstreams in the run folder.")
@_list_option("--retry", help="Run stored failures again: `failed`, or statuses separated by commas (timeout, ...).")
@click.option("--no-report", is_flag=True, help="Leave the report for `bench report`.")
@_finding_codecs
def run(config: Path | None, out: Path | None, anchor: str | None, no_report: bool, **options: Any) -> int:
    """Run codecs over a data set, and report.  Continues a run that was interrupted.

    Exit code 0 when every applicable job of the available codecs is ok, 1 when a job failed, 2 for wrong use.
    """
    from .api import session_record
    from .plan import make_plan
    from .runner import execute
    from .spec import RunSpec
    from .store import Store

    settings = RunSpec.read(config) if config else {}
    settings.update({key: value for key, value in options.items() if value not in (None, ())})
    typed = RunSpec.make(**settings)
    spec = typed.absolute()
    plan = make_plan(spec, _warn)
    _require_jobs(plan.jobs, plan.unavailable)
    folder = out or Path("runs") / "+".join(name.replace("/", "_") for name in typed.datasets)
    store = Store(folder)
    session = session_record(spec, plan.unavailable, plan.missing_clouds)
    with _progress(spec) as observer:
        try:
            outcome = execute(plan, spec, store, session, observer)
        except KeyboardInterrupt:
            return _fail(f"interrupted; finished rows are in {folder}, the same command continues", EXIT_INTERRUPTED)
    _require_jobs(outcome.rows, outcome.unavailable)
    for text in _told(outcome.failed):
        _warn(text)
    counts = outcome.counts
    again = f", {outcome.repeated} of them from before" if outcome.repeated else ""
    _say(f"{counts.text}{again}; rows in {store.folder / 'rows.jsonl'}")
    if not no_report:
        _report(store, folder / "report", anchor)
    return EXIT_JOB_FAILED if counts.failed else 0


def _require_jobs(jobs: Sequence[Any], unavailable: Mapping[str, str]) -> None:
    if not jobs:
        raise UsageError("no codec of this run can run here: " + "; ".join(unavailable) + " (see `bench codecs`)")


def _told(rows: Sequence[Any]) -> Iterator[str]:
    """A line for each row that is not ok; one for all rows of a cloud that could not be loaded."""
    of_cloud = Counter((row.dataset, row.cloud) for row in rows if row.phase == "load")
    for row in rows:
        if row.phase != "load":
            yield f"{row.status}: {row.codec} {row.rate} on {row.cloud}: {row.reason}"
        elif count := of_cloud.pop((row.dataset, row.cloud), 0):
            yield f"{row.status}: {row.cloud}, {count} {'job' if count == 1 else 'jobs'}: {row.reason}"


@contextlib.contextmanager
def _progress(spec: RunSpec) -> Iterator[Any]:
    """A progress bar on a terminal, else a line for each job."""
    from tqdm import tqdm

    from .declared import printable
    from .plan import Job
    from .row import Row
    from .runner import Observer

    bar = tqdm(total=0, unit="job", dynamic_ncols=True, disable=not sys.stderr.isatty())
    told: set[tuple[str, str]] = set()

    def begin(todo: int, done: int) -> None:
        bar.reset(total=todo + done)
        bar.initial = bar.n = done
        bar.refresh()

    def starts(job: Job) -> None:
        bar.set_description(printable(f"{job.codec.spec.name} {job.rate.name} {job.cloud.name}"), refresh=True)

    def done(row: Row, calls: int) -> None:
        bar.update(calls)
        if bar.disable:
            if row.phase != "load" or (row.dataset, row.cloud) not in told:
                _say(_one_row(row), err=True)
            if row.phase == "load":
                told.add((row.dataset, row.cloud))
        elif spec.jobs > 1:
            bar.set_description(printable(f"{row.codec} {row.rate} {row.cloud} done"))

    def warn(text: str) -> None:
        with tqdm.external_write_mode(file=sys.stderr):
            _warn(text)

    with contextlib.closing(bar):
        yield Observer(begin, starts, done, warn)


def _one_row(row: Any) -> str:
    if row.phase == "load":
        return f"{row.cloud}: {row.status} {row.reason}"
    samples = len(row.decode_s_samples)
    again = f" repeat {samples}" if samples > 1 else ""
    head = f"{row.codec} {row.rate} {row.cloud}:{again} {row.status}"
    if row.rate_bpp is None or row.status != "ok":
        return f"{head} {row.reason}"
    quality = "" if row.d1_psnr_db is None else f" {row.d1_psnr_db:.2f} dB"
    decode = "" if row.decode_s is None else f", decoded in {row.decode_s:.2f} s"
    return f"{head} {row.size_bytes} B {row.rate_bpp:.4f} bpp{quality}, encoded in {row.encode_s:.2f} s{decode}"


def _report(store: Any, out: Path, anchor: str | None) -> None:
    from ..metrics.bjontegaard import certified_bd
    from ..reports import write_report

    try:
        page = write_report(store.frame(), store.provenance(), out, certify=certified_bd, anchor=anchor)
    except OSError as error:
        raise OSError(error.errno, f"cannot be written: {error.strerror}", str(out)) from None
    _say(f"report: {page}")


@command.command()
@click.argument("run", type=FILE)
@click.option("--out", type=FILE, help="Folder of the report [RUN/report].")
@click.option("--anchor", help="Codec that BD figures compare with [gpcc-octree, else octree].")
def report(run: Path, out: Path | None, anchor: str | None) -> None:
    """Make the report of a run again, from its stored rows alone."""
    from .store import Store

    store = Store.open(run)
    _warn_of_damage(store)
    _report(store, out or run / "report", anchor)


@command.command()
@click.argument("run", type=FILE)
def status(run: Path) -> int:
    """Say what a run holds: done, failed, to do, and which rows are stale and why."""
    from .plan import make_plan, missing_repeats, stale_reasons
    from .spec import RunSpec
    from .store import Store, identity

    store = Store.open(run)
    _warn_of_damage(store)
    rows = store.rows()
    counts = Counts.of(row.status for row in rows)
    each = ", ".join(f"{count} {name}" for name, count in counts.by_status.items())
    _say(f"{run}: {counts.text}" + (f" ({each})" if len(counts.by_status) > 1 else ""))
    for codec, reason in store.provenance()["unavailable"].items():
        _say(f"  unavailable: {codec}: {reason}")
    for text in _told([row for row in rows if row.status != "ok"]):
        _say(f"  {text}")
    spec = RunSpec.make(**RunSpec.read(run / "run.yaml"))
    stored = {identity(row): row for row in rows}
    missing = stale = few = 0
    for job in make_plan(spec, _warn).jobs:
        found = stored.get(job.identity)
        if found is None:
            missing += 1
        elif reasons := stale_reasons(job, found, spec):
            stale += 1
            _say(f"  stale: {found.codec} {found.rate} {found.cloud}: {'; '.join(reasons)}")
        elif missing_repeats(found, spec):
            few += 1
            samples = len(found.decode_s_samples)
            _say(f"  {found.codec} {found.rate} {found.cloud}: has {samples} of {spec.repeats} repeats")
    parts = [f"{missing} jobs to do", f"{stale} stale"] + ([f"{few} with too few repeats"] if few else [])
    _say(", ".join(parts) if missing or stale or few else "complete")
    return 0


def _warn_of_damage(store: Any) -> None:
    if damage := store.damage():
        _warn(f"{store.folder}: skipped {damage.text}; bench repair {store.folder} drops them")


@command.command()
@click.argument("run", type=FILE)
def repair(run: Path) -> None:
    """Drop from a run's rows what cannot be read; the file as it was is kept beside it.

    Rows that later ones replace go, too.  The next `bench run` runs what is missing then.
    """
    from .store import Store

    store = Store(run)
    found = store.repair()
    if found.backup is None:
        _say(f"{run}: nothing to repair")
        return
    _say(
        f"{run}: dropped {found.text} and {len(found.replaced)} rows that later ones replace; "
        f"{len(store.rows())} rows kept, the file as it was is {found.backup}"
    )


#: What `--limit` takes; a test holds the values to those of `Limits`.
_LIMITS_HELP = """\b
Limits, with what they are unless given:
  size_pct=0.5        bytes of one job, percent more
  psnr_db=0.02        D1 or D2 PSNR of one job, dB less
  chamfer_db=0.05     chamfer distance, dB more
  hausdorff_db=3      Hausdorff distance, dB more
  secondary_pct=2     local density and normals, percent worse
  trade_factor=1.5    a dB may cost this much more bytes than in the old run
  bd_rate_pct=0.5     BD-rate of new against old, percent
  time_ratio=1.1      seconds, new / old, of medians and of fastest repeats
  time_floor_s=0.02   seconds more that count at all
  time_p=0.01         chance of one false claim among all times
  busy_load=0.2       cores that others kept busy from which on times are doubted
  busy_ratio=1.7      then CPU seconds must rise so much more than those of other codecs
  memory_ratio=1.15   peak memory, new / old
  memory_mb=32        MiB more that count at all
"""


@command.command(epilog=_LIMITS_HELP)
@click.argument("old", type=FILE)
@click.argument("new", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--limit", "limits", multiple=True, metavar="NAME=VALUE", help="Limit of a regression, see below.")
@click.option("--allow-lost", is_flag=True, help="Jobs that are gone or cannot be compared are no regression.")
@click.option("--allow-unavailable", is_flag=True, help="Codecs that cannot run now are no regression.")
def compare(
    old: Path, new: Path, as_json: bool, limits: tuple[str, ...], allow_lost: bool, allow_unavailable: bool
) -> int:
    """Tell what changed from one run to another; exit code 1 on a regression."""
    from ..metrics.bjontegaard import certified_bd
    from ..reports import compare as compare_runs
    from .store import Store

    chosen = _limits(limits, lost_fails=not allow_lost, unavailable_fails=not allow_unavailable)
    before, after = Store.open(old), Store.open(new)
    provenances = before.provenance(), after.provenance()
    comparison = compare_runs(before.frame(), after.frame(), *provenances, certify=certified_bd, limits=chosen)
    click.echo(json.dumps(comparison.to_dict(), indent=1) if as_json else comparison.to_text())
    return EXIT_JOB_FAILED if comparison.has_regression else 0


def _limits(settings: tuple[str, ...], **flags: bool) -> Limits:
    """The limits of `--limit NAME=VALUE`."""
    from dataclasses import fields
    from difflib import get_close_matches

    from ..reports import Limits

    names = [one.name for one in fields(Limits) if one.name not in flags]
    values: dict[str, float] = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        if name not in names:
            near = get_close_matches(name, names, n=3, cutoff=0.4) or names
            raise UsageError(f"no limit {name!r}; did you mean {' or '.join(near)}?")
        try:
            values[name] = float(text)
        except ValueError:
            values[name] = math.nan
        if not values[name] >= 0:
            raise UsageError(
                f"--limit {setting}: expected a number of at least 0, as in {name}={getattr(Limits, name)}"
            )
    return Limits(**values, **flags)  # type: ignore[arg-type]  # flags are bools by name


@command.command()
@click.argument("reference", type=FILE)
@click.argument("decoded", type=FILE)
@click.option("--normals", type=FILE, help="File with the normals of the reference, when it has none.")
@click.option("--estimate-normals", is_flag=True, help="Estimate the normals of the reference, as a run does.")
@click.option("--peak", type=float, help="Peak of the PSNR [largest nearest-neighbour distance, as pc_error].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of pc_error's lines.")
@_columns
def metrics(
    reference: Path,
    decoded: Path,
    normals: Path | None,
    estimate_normals: bool,
    peak: float | None,
    as_json: bool,
    columns: int | None,
) -> None:
    """Compare two clouds as MPEG's pc_error does (-a REFERENCE -b DECODED)."""
    from ..codecs.errors import CloudError
    from ..codecs.formats import read_cloud
    from ..metrics.distortion import distortion
    from ..metrics.transcript import transcribe

    if normals is not None and estimate_normals:
        raise UsageError("--normals and --estimate-normals exclude each other")
    cloud, other = read_cloud(reference, columns=columns), read_cloud(decoded, columns=columns)
    vectors: Any = cloud.normals
    origin = {"source": "file"}
    if normals is not None:
        source = read_cloud(normals, columns=columns)
        if source.normals is None:
            raise CloudError(f"{normals}: has no normals (nx, ny, nz)")
        if len(source) != len(cloud):
            raise CloudError(f"{normals}: has {len(source)} normals, but {reference} has {len(cloud)} points")
        vectors = source.normals
    elif estimate_normals:
        from ..metrics import normals as estimation

        vectors, origin = estimation.estimate_normals(cloud.points)
    result = distortion(cloud.points, other.points, normals=vectors, peak=peak, normals_origin=origin)
    if result.passport["normals"] is None:
        _warn(f"no D2: {result.missing['d2_mse']}; give --normals FILE or --estimate-normals")
    if as_json:
        click.echo(json.dumps({**result.columns(), "missing": result.missing, "passport": result.passport}, indent=1))
    else:
        click.echo(transcribe(result), nl=False)


@command.command()
@click.argument("codec")
@click.argument("rate")
@click.argument("source", type=FILE)
@click.argument("target", type=FILE)
@_columns
@_finding_codecs
def encode(
    codec: str,
    rate: str,
    source: Path,
    target: Path,
    columns: int | None,
    codec_modules: tuple[Path, ...],
    tmc3: Path | None,
) -> None:
    """Encode a cloud: CODEC at RATE from SOURCE to the bitstream TARGET."""
    from difflib import get_close_matches

    from .datasets import CloudFile

    made = _codec(codec, codec_modules, tmc3)
    rates = {one.name: one for one in made.rates()}
    if rate not in rates:
        near = get_close_matches(rate, rates, n=3) or list(rates)
        raise UsageError(f"{codec} has no rate {rate!r}; did you mean {', '.join(near)}?")
    # As a run loads it, so that the rates are the same.
    cloud = CloudFile(source.name, "", source, columns=columns).load()
    data = bytes(made.encode(cloud, rates[rate]))
    _write_whole(target, data)
    merged = f" ({cloud.repeats_dropped} repeats merged)" if cloud.repeats_dropped else ""
    _say(f"{target}: {len(data)} bytes, {8 * len(data) / len(cloud):.4f} bpp of {len(cloud)} points{merged}")


@command.command()
@click.argument("source", type=FILE)
@click.argument("target", type=FILE)
@click.option("--codec", help="Codec of the stream [as the stream says].")
@_finding_codecs
def decode(source: Path, target: Path, codec: str | None, codec_modules: tuple[Path, ...], tmc3: Path | None) -> None:
    """Decode the bitstream SOURCE to the cloud TARGET."""
    from ..codecs import registry
    from ..codecs.formats import write_cloud

    data = source.read_bytes()
    name = codec or registry.identify(data)
    if name is None:
        raise UsageError(f"{source}: the stream does not name its codec; give --codec")
    made = _codec(name, codec_modules, tmc3)
    try:
        cloud = made.decode(data)
    except BitstreamError as error:
        raise BitstreamError(f"{source}: {error}") from None
    write_cloud(cloud, target)
    click.echo(f"{target}: {len(cloud)} points")


def _write_whole(path: Path, data: bytes) -> None:
    """Write a whole file or nothing."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_bytes(data)
        scratch.replace(path)
    except OSError as error:
        raise OSError(error.errno, f"cannot be written: {error.strerror}", str(path)) from None
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)


def _codec(name: str, modules: tuple[Path, ...], tmc3: Path | None) -> Codec:
    return _spec(name, modules, tmc3).create()


def _spec(name: str, modules: tuple[Path, ...], tmc3: Path | None) -> CodecSpec:
    from ..codecs import registry

    specs = registry.find((name,), modules=modules, tmc3=tmc3)
    if len(specs) != 1:
        raise UsageError(f"{name!r} names {len(specs)} codecs, expected one of {', '.join(s.name for s in specs)}")
    return specs[0]


@command.command()
@click.argument("name", required=False)
@_finding_codecs
def codecs(name: str | None, codec_modules: tuple[Path, ...], tmc3: Path | None) -> None:
    """List the codecs, or describe one: its card and its rates."""
    from ..codecs import registry

    if name is None:
        specs = registry.find(("*",), modules=codec_modules, tmc3=tmc3)
        _table(
            ["codec", "available", "what"],
            [
                [spec.name, "no" if (why := registry.unavailable_reason(spec)) else "yes", why or _title(spec)]
                for spec in specs
            ],
        )
        return
    codec = _codec(name, codec_modules, tmc3)
    card = codec.card()
    _table(["card", name], [[key, str(value)] for key, value in vars(card).items() if value not in (None, "", ())])
    click.echo()
    _table(
        ["rate", "parameters"],
        [
            [rate.name, ", ".join(f"{key}={value}" for key, value in rate.parameters.items())]
            for rate in codec.rates()
        ],
    )


@command.command()
@click.argument("codec")
@click.option("--quick", is_flag=True, help="Leave out the large cloud.")
@_finding_codecs
def check(codec: str, quick: bool, codec_modules: tuple[Path, ...], tmc3: Path | None) -> int:
    """Check that CODEC does what every codec must; exit code 1 when it does not.

    Clouds that codecs stumble over, lossless that is lossless, state, damaged streams, a second process with other
    threads, little memory; see pccbench.codecs.conformance.
    """
    from ..codecs.conformance import check_spec

    counts: dict[str, int] = {}
    for result in check_spec(_spec(codec, codec_modules, tmc3), is_thorough=not quick):
        counts[result.status] = counts.get(result.status, 0) + 1
        _say(f"{result.status:8}{result.check:28}{result.detail}".rstrip())
    _say(f"{codec}: {', '.join(f'{n} {status}' for status, n in sorted(counts.items()))}")
    return EXIT_JOB_FAILED if counts.get("failed") else 0


def _title(spec: CodecSpec) -> str:
    from ..codecs import registry

    return registry.title(spec)


@command.command()
def quick() -> None:
    """Compare the entropy models of DeepCompress on small synthetic shapes, in under a minute."""
    from .quick import lines

    for line in lines():
        click.echo(line)


command.add_command(prepare)
command.add_command(train)


@command.command()
@click.option("--data-root", type=FILE, help="Folder of the data sets.")
def datasets(data_root: Path | None) -> None:
    """List the data sets: what is there, and where the others are published."""
    from .datasets import list_datasets

    _table(
        ["data set", "there", "what"],
        [[name, found, text] for name, found, text in list_datasets(data_root)],
    )


@command.command()
@click.option("--data-root", type=FILE, help="Folder of the data sets.")
@_finding_codecs
def doctor(data_root: Path | None, codec_modules: tuple[Path, ...], tmc3: Path | None) -> int:
    """Check this machine: packages, tools, data, memory, disk; exit code 1 when something essential is missing."""
    from .doctor import examine

    findings = examine(data_root, codec_modules, tmc3)
    _table(["", "what", "finding"], [[f.mark, f.what, f.text] for f in findings])
    return EXIT_JOB_FAILED if any(f.is_essential and not f.is_good for f in findings) else 0


def _table(head: list[str], body: list[list[str]]) -> None:
    """Print columns, the last one as long as it is."""
    rows = [head, *body]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        _say("  ".join([*cells, row[-1]]).rstrip())
