"""The commands of `headstart`, one file for each. Whatever is heavy is imported when a command is called."""

from service.commands import (
    advise,
    audit,
    backup,
    compare,
    embed,
    export,
    extractors,
    finetune,
    forget,
    keys,
    predict,
    quantise,
    restore,
    serve,
    tenants,
    worker,
)

COMMANDS = (
    serve.command,
    worker.command,
    export.command,
    extractors.command,
    keys.command,
    tenants.command,
    audit.command,
    backup.command,
    restore.command,
    forget.command,
    compare.command,
    advise.command,
    embed.command,
    predict.command,
    finetune.command,
    quantise.command,
)
