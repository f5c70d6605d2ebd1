"""`headstart worker`: a process that carries out jobs. Needs torch; the server does not."""

import click

from service.commands.terminal import read_settings, require_torch, told


@click.command("worker")
@click.option("--once", is_flag=True, help="End when no job waits.")
@click.option(
    "--poll",
    type=click.FloatRange(0.1, 3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to look for jobs.",
)
def command(once: bool, poll: float) -> None:
    """Carry out the jobs that servers on the same database have written down, one after the other.

    SIGTERM or Ctrl-C lets the epoch end and puts the job back into the queue; a second Ctrl-C ends at once.
    """
    require_torch("headstart worker")
    settings = read_settings()

    from service.engine import Engine
    from service.jobs import Presence, StopSignals, Worker
    from service.jobs.finetuning import FinetuneRunner
    from service.learning.finetuner import KIND
    from service.logs import configure_logging
    from service.preparation import prepare

    configure_logging(settings.log_level)
    with StopSignals() as signals, told(), Presence(settings.home) as presence:
        prepare(settings)
        engine = Engine.start(settings)
        try:
            Worker(
                engine.store,
                {KIND: FinetuneRunner(engine)},
                presence,
                signals,
                home=settings.home,
                lease_s=settings.job_lease_s,
                max_attempts=settings.job_attempts,
            ).run(once=once, poll_s=poll)
        finally:
            engine.close()
