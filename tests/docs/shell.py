"""A shell in which the commands of the pages run as they stand there, against a server of a test.

`localhost:3000` is the server, `.headstart` its home, `headstart` and `python` are those of this checkout.
Knows no page.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.server import Server
from tests.docs.pages import ROOT

ADDRESS = "localhost:3000"
TIMEOUT_S = 280
PRELUDE = r"""
set -Eeuo pipefail
trap 'echo "failed: $BASH_COMMAND" >&2' ERR
curl() { command curl -sS --fail-with-body --noproxy '*' "${@//localhost:3000/$ADDRESS}"; }
python() { "$PYTHON" "$@"; }
headstart() {
    case $1 in
        serve) python -m tests.docs.serving "$PYTHON" -m service.cli "$@" ;;
        worker) "$PYTHON" -m service.cli "$@" & WORKER=$!; trap 'kill $WORKER; wait $WORKER || :' EXIT ;;
        *) python -m service.cli "${@//localhost:3000/$ADDRESS}" ;;
    esac
}
newest_job() {
    curl localhost:3000/v1/jobs | python -c 'import json, sys; print(json.load(sys.stdin)["jobs"][0]["id"])'
}
"""


def run_script(script: str, server: Server, folder: Path) -> str:
    """Run the lines of a block in a folder; what they print.

    Raises
    ------
    AssertionError
        A command failed: which, and all that was printed.
    """
    home = folder / ".headstart"
    if not home.exists():
        home.symlink_to(server.home)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADSTART_")}
    own = {
        "ADDRESS": server.url.removeprefix("http://"),
        "PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT),
        "NO_PROXY": "*",
    }
    done = subprocess.run(
        [shutil.which("bash") or "bash", "-c", PRELUDE + script],
        cwd=folder,
        env=kept | own,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout
