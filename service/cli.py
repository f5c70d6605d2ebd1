"""The `headstart` command: the group that the commands of `service.commands` belong to."""

import click

from service.commands import COMMANDS
from training import __version__


@click.group(help="Teach a frozen, pretrained network new classes over REST.")
@click.version_option(__version__)
def main() -> None:
    """The group of all commands."""


for _command in COMMANDS:
    main.add_command(_command)


if __name__ == "__main__":
    main()
