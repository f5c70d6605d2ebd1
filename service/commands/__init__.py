"""The commands of `headstart`, one file for each. Whatever is heavy is imported when a command is called."""

from service.commands import advise, compare, embed, export, extractors, finetune, predict, serve, worker

COMMANDS = (
    serve.command,
    worker.command,
    export.command,
    extractors.command,
    compare.command,
    advise.command,
    embed.command,
    predict.command,
    finetune.command,
)
