"""All of the command dfmq-get: a URL, or a list of them, through this host's peer, to a file. All checking of what the
user typed is done before anything is started. What is plain enough is done by quick, and does not come here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dfmq import __version__
from dfmq.cli import ending
from dfmq.cli.lines import ALONE, INTERRUPTED
from dfmq.cli.quick import Known

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dfmq.cli.options import GetSettings
    from dfmq.cli.progress import Report
    from dfmq.cli.request import Maker
    from dfmq.model.task import Request
    from dfmq.nodes.errands import Errand
    from dfmq.nodes.get import HostPeer

#: Exit status when some of a list failed, each of its own.
SOME_FAILED = 1


@click.command()
@click.argument("url", required=False, default="")
@click.option("--output", "-o", metavar="PATH", help="Where to put it; - is standard output.  [the URL's last part]")
@click.option("--output-dir", "-d", metavar="DIR", help="Where outputs without a path of their own go.  [here]")
@click.option("--broker", "brokers", multiple=True, metavar="ENDPOINT", help="tcp://HOST:7400; may be repeated.")
@click.option("--home", metavar="DIR", help="The home of this host's peer.")
@click.option("--digest", default="", metavar="ALGORITHM:HEX", help="What the content must be, as sha256:…")
@click.option(
    "--header", "-H", "headers", multiple=True, metavar="'NAME: VALUE'", help="For the source; @FILE reads a file."
)
@click.option("--filter", "filters", multiple=True, metavar="KEY", help="A query key that does not change the content.")
@click.option("--tag", default="", metavar="TEXT", help="Keeps contents of the same URL apart.")
@click.option("--limit", metavar="RATE", help="At most so much, as 20MB/s or 200Mbit/s, for each file; 0: no limit.")
@click.option("--timeout", metavar="TIME", help="At most so long for each file, as 90s or 10m; 0: no end.")
@click.option("--no-source", is_flag=True, help="Only what other peers have; never read the source.")
@click.option("--cacert", metavar="FILE", help="PEM file of the authorities to trust for this source.")
@click.option("--insecure", is_flag=True, help="Trust any TLS certificate of the source.")
@click.option(
    "--input", "list_path", metavar="LIST", help="A file of lines URL [OUTPUT] [DIGEST]; - is standard input."
)
@click.option(
    "--jobs",
    "-j",
    metavar="N",
    help="Files of a list under way at once; from 16 on four times as many while they are small.  [16]",
)
@click.option("--config", metavar="FILE", help="TOML file of settings; flags and DFMQ_* go before it.")
@click.option("--json", is_flag=True, help="One JSON object a line: progress, then how it ended.")
@click.option("--quiet", "-q", is_flag=True, help="Say only what fails.")
@click.version_option(__version__, message="%(prog)s %(version)s")
def command(
    url: str,
    output: str | None,
    output_dir: str | None,
    brokers: tuple[str, ...],
    home: str | None,
    digest: str,
    headers: tuple[str, ...],
    filters: tuple[str, ...],
    tag: str,
    limit: str | None,
    timeout: str | None,
    no_source: bool,
    cacert: str | None,
    insecure: bool,
    list_path: str | None,
    jobs: str | None,
    config: str | None,
    json: bool,
    quiet: bool,
) -> int:
    """Bring the content of URL onto this host, from other hosts that have it where there are any.

    \b
    Exit status: 0 done, 1 failed, 2 usage or settings, 3 other digest, 4 no broker,
    5 source refused, 6 not authorised, 7 no space, 8 timed out, 70 bug, 130 interrupted.
    """
    _check_usage(url, output, digest, list_path)
    from dfmq.cli import progress
    from dfmq.cli.headers import read_headers
    from dfmq.cli.options import config_path, doubtful_variables, get_settings
    from dfmq.cli.request import Maker, read_authorities
    from dfmq.errors import DfmqError

    report = progress.choose(json=json, quiet=quiet, to_stdout=output == "-", many=list_path is not None)
    for line in doubtful_variables(os.environ):
        report.noted(line)
    ending.end_on_signals()
    try:
        path = config_path(config, os.environ)
        flags = {
            "home": home,
            "brokers": brokers,
            "get.limit": limit,
            "get.timeout": timeout,
            "get.jobs": jobs,
            "get.cacert": cacert,
        }
        settings = get_settings(flags, os.environ, path)
        maker = Maker(
            tag=tag,
            filters=filters,
            headers=read_headers(headers, settings.headers_file),
            cacert=read_authorities(settings.cacert),
            insecure=insecure,
        )
        directory = Path(output_dir or "")
        way = _Way(settings, path, report, click.get_current_context().obj or Known(), no_source=no_source)
        if list_path is not None:
            status = _get_list(list_path, directory, maker, way, settings.jobs, report)
        else:
            status = _get_one(maker(url, digest), output, directory, way, report)
    except DfmqError as error:
        report.refused(error, ending.sentence(error))
        status = error.exit_status
    except KeyboardInterrupt:
        from dfmq.errors import Interrupted

        interrupted = Interrupted(INTERRUPTED)
        report.refused(interrupted, str(interrupted))
        status = interrupted.exit_status
    finally:
        report.finish()
    return report.ended(status)


def _check_usage(url: str, output: str | None, digest: str, list_path: str | None) -> None:
    if list_path is None and not url:
        raise click.UsageError("name a URL, or a list of them with --input")
    if list_path is not None and url:
        raise click.UsageError("a URL and --input were given: put the URL into the list, or leave --input out")
    if list_path is not None and output is not None:
        raise click.UsageError("--output is for one URL: write outputs into the list, or say --output-dir")
    if list_path is not None and digest:
        raise click.UsageError("--digest is for one URL: write digests into the list")


class _Way:
    """How errands are run: through which home's peer, and how each is put in place."""

    def __init__(
        self, settings: GetSettings, config: Path | None, report: Report, known: Known, *, no_source: bool
    ) -> None:
        self._settings = settings
        self._config = config
        self._report = report
        self._no_source = no_source
        self._known = known
        #: those of the peer that was found; one that must be started in its place gets the same
        self._brokers = settings.brokers or known.brokers

    def run(self, errands: Iterable[Errand], at_once: int) -> None:
        """Raises DfmqError when nothing can be done at all."""
        from dfmq.nodes.errands import Errands

        settings = self._settings
        Errands(
            self._connect,
            _put,
            self._report,
            at_once=at_once,
            limit=settings.limit,
            no_source=self._no_source,
            timeout=settings.timeout,
        ).run(errands)

    def _connect(self) -> HostPeer:
        from dfmq.nodes.starting import host_peer

        settings = self._settings
        peer, answer = host_peer(Path(settings.home), self._brokers, config=self._config, idle_exit=settings.idle_exit)
        self._brokers = tuple(answer.brokers)
        if answer.alone and not self._known.is_told_alone:
            self._report.noted(ALONE)
        return peer


def _get_one(request: Request, output: str | None, directory: Path, way: _Way, report: Report) -> int:
    from dfmq.edges.targets import check_target
    from dfmq.errors import SettingsError
    from dfmq.model.task import file_name
    from dfmq.nodes.errands import Errand

    if output == "":
        raise SettingsError("--output is empty: name a file, or - for standard output")
    target = None
    if output != "-":
        target = directory / (output if output is not None else file_name(request.url))
        if output is not None and output.endswith("/"):
            raise SettingsError(f"output {output}: it is a directory; name a file in it")
        check_target(target)
    way.run([Errand(request=request, target=target)], 1)
    return report.failures[0].exit_status if report.failures else 0


def _get_list(path: str, directory: Path, maker: Maker, way: _Way, jobs: int, report: Report) -> int:
    from dfmq.cli.batch import Plan, read_list
    from dfmq.edges.targets import check_target

    plan = Plan(directory, check_target)
    plan.add_all(read_list(path), maker)
    report.total = len(plan) + len(plan.faulty)
    for note in plan.notes:
        report.noted(note)
    for faulty in plan.faulty:
        report.refused(faulty.error, str(faulty.error), faulty.number)
    if len(plan):
        way.run(plan.errands(maker), jobs)
    return SOME_FAILED if report.failures else 0


def _put(errand: Errand, stored: Path) -> str:
    """Bring a stored file to its target; how it was done. Raises StoreError."""
    from dfmq.edges.output import place

    assert errand.target is not None
    return place(stored, errand.target)
