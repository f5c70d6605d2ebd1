"""Settings: every one is documented, and a bad value names its variable."""

from dataclasses import fields
from pathlib import Path

import pytest

from service.config import OTHER_VARIABLES, PREFIX, Settings, SettingsError

GUIDE = Path(__file__).resolve().parent.parent / "docs" / "guide" / "settings.md"


def test_defaults_need_no_environment() -> None:
    assert Settings.from_env({}) == Settings()


def test_values_are_read() -> None:
    settings = Settings.from_env(
        {"HEADSTART_PORT": "4000", "HEADSTART_EXTRACTORS": "a, b", "HEADSTART_FETCH_URLS": "1", "PATH": "x"}
    )
    assert (settings.port, settings.extractors, settings.fetch_urls) == (4000, ("a", "b"), True)


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("HEADSTART_PORT", "0", "from 1 to 65535"),
        ("HEADSTART_PORT", "http", "from 1 to 65535"),
        ("HEADSTART_HOST", "example.org", "an IP address"),
        ("HEADSTART_DEVICE", "gpu", "cpu, cuda, tensorrt, auto"),
        ("HEADSTART_BATCH_SIZES", "8,4", "ascending whole numbers"),
        ("HEADSTART_BATCH_SIZES", "0,4", "ascending whole numbers"),
        ("HEADSTART_FETCH_URLS", "maybe", "true or false"),
        ("HEADSTART_FETCH_TIMEOUT_S", "nan", "from 0.1 to 600"),
        ("HEADSTART_HOME", " ", "a folder"),
        ("HEADSTART_SHUTDOWN_TIMEOUT_S", "0", "from 1 to 3600"),
        ("HEADSTART_EXTRACTORS", " , ", "separated by commas"),
        ("HEADSTART_PROT", "3000", "not a setting"),
    ],
)
def test_a_bad_value_names_its_variable(variable: str, value: str, expected: str) -> None:
    with pytest.raises(SettingsError, match=expected) as error:
        Settings.from_env({variable: value})
    assert variable in str(error.value)


def test_the_guide_lists_every_setting_with_its_default() -> None:
    rows = [line for line in GUIDE.read_text().splitlines() if line.startswith("| `HEADSTART_")]
    defaults = Settings()
    assert len(rows) == len(fields(Settings))
    for row, item in zip(rows, fields(Settings), strict=True):
        value = getattr(defaults, item.name)
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        text = text.lower() if isinstance(value, bool) else text
        shown = f" `{text}` " if text else " "
        assert row == f"| `{PREFIX}{item.name.upper()}` |{shown}| {item.metadata['about']} |"


def test_the_guide_names_the_variables_of_tests() -> None:
    text = GUIDE.read_text()
    assert all(name in text for name in OTHER_VARIABLES)
