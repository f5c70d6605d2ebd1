"""The commands of `headstart`, one file for each. Whatever is heavy is imported when a command is called."""

from service.commands import advise, compare, export, extractors, finetune, serve, worker

COMMANDS = (
    serve.command,
    worker.command,
    export.command,
    extractors.command,
    compare.command,
    advise.command,
    finetune.command,
)
