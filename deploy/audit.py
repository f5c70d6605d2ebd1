"""Known vulnerabilities of the pinned dependencies: `make audit`.

Asks a vulnerability service through pip-audit. Where that gives no complete answer, it says so and compares
the pins with the committed list `deploy/advisories.toml`, which knows nothing newer than its date.

Ends with 0 if what ran found nothing, 1 if something was found, and 2 if nothing ran, or not pip-audit though
AUDIT_ONLINE=1 asks for it.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
ADVISORIES = ROOT / "deploy" / "advisories.toml"
PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE)
ONLINE_TIMEOUT_S = 180
STALE_DAYS = 90
Pins = frozenset[tuple[str, str]]


class NotRunError(Exception):
    """A check could not be carried out, or not for every dependency. Says why."""


@dataclass(frozen=True)
class Advisory:
    """One vulnerability: its identifier, the package, and the versions that have it."""

    id: str
    package: str
    affected: SpecifierSet


@dataclass(frozen=True)
class Advisories:
    """The committed list; `as_of` is the day after which it knows nothing."""

    as_of: date
    entries: tuple[Advisory, ...]

    @classmethod
    def load(cls, path: Path = ADVISORIES) -> "Advisories":
        document = tomllib.loads(path.read_text())
        entries = tuple(
            Advisory(id, package, SpecifierSet(affected))
            for package, advisories in document["packages"].items()
            for id, affected in advisories.items()
        )
        return cls(document["as_of"], entries)

    def found_in(self, pins: Pins) -> list[str]:
        """A line for each pin that an advisory is about."""
        return sorted(
            f"{name} {version}: {advisory.id} (affected: {advisory.affected})"
            for name, version in pins
            for advisory in self.entries
            if advisory.package == name and advisory.affected.contains(version, prereleases=True)
        )


def read_pins(files: Sequence[Path]) -> Pins:
    """Every `name==version` of the requirements files, names in their canonical form."""
    texts = [path.read_text() for path in files]
    return frozenset(
        (canonicalize_name(name), version) for text in texts for name, version in PIN.findall(text)
    )


def requirements_files() -> list[Path]:
    return [*sorted((ROOT / "requirements").glob("*.txt")), ROOT / "deploy" / "image" / "uv.txt"]


def found_online(pins: Pins) -> list[str]:
    """What pip-audit finds.

    Raises
    ------
    NotRunError
        It is not installed, had no answer, or not for every pin.
    """
    lines: list[str] = []
    for group in _without_repeats(pins):
        lines += findings(_report(group), group)
    return sorted(lines)


def findings(report: Mapping[str, Any], pins: Pins) -> list[str]:
    """The vulnerabilities in a report of pip-audit.

    Raises
    ------
    NotRunError
        A pin has no answer in it.
    """
    answered = {
        (canonicalize_name(found["name"]), found["version"]): found["vulns"]
        for found in report.get("dependencies", [])
        if "skip_reason" not in found and "vulns" in found
    }
    missing = pins - answered.keys()
    if missing:
        name, version = min(missing)
        raise NotRunError(f"no answer about {len(missing)} of {len(pins)} pins, such as {name} {version}")
    return [
        f"{name} {version}: {found['id']} (fixed: {', '.join(found['fix_versions']) or 'not yet'})"
        for (name, version), vulnerabilities in answered.items()
        for found in vulnerabilities
    ]


def _without_repeats(pins: Pins) -> list[Pins]:
    """The pins in groups that name a package once each: the image without a GPU has another onnxruntime."""
    groups: list[dict[str, str]] = []
    for name, version in sorted(pins):
        group = next((group for group in groups if name not in group), None)
        if group is None:
            groups.append(group := {})
        group[name] = version
    return [frozenset(group.items()) for group in groups]


def _report(pins: Pins) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("".join(f"{name}=={version}\n" for name, version in sorted(pins)))
        file.flush()
        options = ["--no-deps", "--disable-pip", "--strict", "--vulnerability-service", "osv"]
        command = [sys.executable, "-m", "pip_audit", *options, "--progress-spinner", "off", "-f", "json"]
        try:
            ran = subprocess.run(
                [*command, "-r", file.name],
                capture_output=True,
                text=True,
                timeout=ONLINE_TIMEOUT_S,
                check=False,
            )
            report: dict[str, Any] = json.loads(ran.stdout)
        except subprocess.TimeoutExpired:
            raise NotRunError(f"no answer within {ONLINE_TIMEOUT_S} s") from None
        except ValueError:
            said = ran.stderr.strip().splitlines() or [f"it ended with {ran.returncode}"]
            raise NotRunError(said[-1][:200]) from None
    return report


def main() -> int:
    files = requirements_files()
    pins = read_pins(files)
    print(f"{len(pins)} pins of {len(files)} requirements files")
    try:
        found = found_online(pins)
    except NotRunError as error:
        print(f"pip-audit: DID NOT RUN ({error})")
        if os.environ.get("AUDIT_ONLINE") == "1":
            return 2
        found = _found_offline(pins)
    else:
        print("pip-audit: ran, with an answer for every pin")
    print("\n".join(found) if found else "nothing found by what ran")
    return int(bool(found))


def _found_offline(pins: Pins) -> list[str]:
    advisories = Advisories.load()
    age_days = (datetime.now(UTC).date() - advisories.as_of).days
    packages = {advisory.package for advisory in advisories.entries}
    known = sum(name in packages for name, _ in pins)
    print(
        f"offline list: ran, {len(advisories.entries)} advisories of {advisories.as_of}, {age_days} days old."
        f" It has any about {known} of the {len(pins)} pins and says nothing about the others"
    )
    if age_days > STALE_DAYS:
        print("offline list: OLD. Run `make audit` where api.osv.dev can be reached, and bring it up to date")
    return advisories.found_in(pins)


if __name__ == "__main__":
    sys.exit(main())
