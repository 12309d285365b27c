"""The types of settings values: how each is parsed, and the error message if it cannot be."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, WrapValidator

from claude_proxy.settings.cleaning import LABEL, clean
from claude_proxy.settings.urls import DEFAULT_BASE_URL, check_base_url, check_url

DEFAULT_NTFY = "https://ntfy.sh"
MIB = 1024**2
_UNITS = {"": 1, "k": 1000, "kb": 1000, "m": 1000**2, "mb": 1000**2, "g": 1000**3, "gb": 1000**3}
_UNITS |= {"ki": 1024, "kib": 1024, "mi": 1024**2, "mib": 1024**2, "gi": 1024**3, "gib": 1024**3}
# Other names of the levels; a level that we lack maps to the nearest one.
_LEVELS = {"warn": "warning", "err": "error", "fatal": "error", "critical": "error", "crit": "error"}
_LEVELS |= {"trace": "debug", "verbose": "debug", "notice": "info", "information": "info"}
_HOST_NAME = re.compile(r"\*|(\*\.)?[^\s/*@?#]+")
_ORIGIN = re.compile(r"(?ai)\*|null|[a-z][a-z0-9+.-]*://([\w.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?/?")  # null: a page from a file
_PATTERN = re.compile(r"[A-Za-z0-9._:/@+*-]+")
_USUAL_PORT = re.compile(r"(?i)(?<=^http://)(.*):80$|(?<=^https://)(.*):443$")
_SIZE = "expected a number of bytes, 1 or more, such as 67108864 or 64MiB"
_KEY = "expected one line of printable ASCII without spaces around it, such as sk-4f1c9b27"
_DATABASE = "expected an address such as postgresql://user:password@host:5432/database"
_SCRIPT = "expected the absolute path of a script, such as /app/prestart.sh"
_ZONE = "expected the IANA name of a time zone, such as Asia/Seoul or UTC"
_TIME = "expected a time of day such as 09:00"
_QUIET = "expected a span of the day such as 23:00-07:00"
_BIND = "expected host:port or unix:path, such as 0.0.0.0:80 or unix:/run/claude-proxy.sock"


def expecting(words: str) -> WrapValidator:
    """Replace pydantic's message by our own about what is expected."""

    def check(value: object, handler: Callable[[object], object]) -> object:
        try:
            return handler(value)
        except ValidationError as error:
            if error.errors()[0]["type"] == "value_error":  # ours already
                raise
            raise ValueError(words) from None

    return WrapValidator(check)


def parse_size(value: object) -> object:
    """Parse bytes from `67108864`, `"64MiB"` or `"64MB"`; leave anything else for pydantic to refuse."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d+)?)\s*([a-zA-Z]*)\s*", value)
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError(_SIZE)
    return int(float(match[1]) * _UNITS[match[2].lower()])


def parse_list(value: object) -> object:
    """Parse a list from `a, b` or `"a", "b"`; return a TOML array unchanged."""
    if isinstance(value, str):
        return tuple(part for part in map(clean, value.split(",")) if part)
    return value


def join_list(value: object) -> object:
    """Join a TOML array of strings into one string; return a string unchanged."""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ",".join(value)
    return value


def parse_word(value: object) -> object:
    """Parse a word in any case."""
    return value.lower() if isinstance(value, str) else value


def parse_level(value: object) -> str:
    """Parse a log level in any case, by any of its usual names."""
    level = str(value).lower()
    return _LEVELS.get(level, level)


def parse_prefix(value: object) -> object:
    """Parse a path prefix such as "/claude", with or without slashes around it."""
    if not isinstance(value, str):
        return value
    path = value.rstrip("/")
    if not re.fullmatch(r"(/(?!\.{1,2}(/|$))[\w.~-]+)*", path, re.ASCII):
        raise ValueError("expected a plain path such as /claude")
    return path


def check_token(value: SecretStr) -> SecretStr:
    """Check that a secret fits into a header field."""
    text = value.get_secret_value()
    if not text.isascii() or any(not c.isprintable() for c in text) or text != text.strip() or LABEL.fullmatch(text):
        raise ValueError(_KEY)
    return value


def check_database_url(value: SecretStr) -> SecretStr:
    """An address in plain ASCII. Whether it can be used is for the ledger to say: it must not stop the proxy."""
    text = value.get_secret_value()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(_DATABASE)
    return value


def check_ca_file(value: Path) -> Path:
    """Check that TLS can load certificates from a file."""
    import ssl  # imported only if the setting is used

    if not value.is_file() or not os.access(value, os.R_OK):
        raise ValueError("expected a PEM file that can be read")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(value)
        usable = context.cert_store_stats()["x509"] > 0
    except OSError:  # ssl.SSLError too: a certificate is broken
        usable = False
    if not usable:
        raise ValueError("expected a PEM file with whole certificates, each from -----BEGIN CERTIFICATE----- to its END")
    return value


def check_script(value: Path) -> Path:
    """Require an absolute path: a relative one would mean another script, perhaps somebody else's, in each directory."""
    if not value.is_absolute():
        raise ValueError(_SCRIPT)
    return value


def check_hosts(names: tuple[str, ...]) -> tuple[str, ...]:
    """Check host names as in a Host field."""
    for name in names:
        if not _HOST_NAME.fullmatch(name):
            raise ValueError(f"expected host names such as proxy.example or *.example.com, or *; {name!r} is not one")
    return names


def check_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    """Normalise web origins to what a browser sends: without path, and without the scheme's default port."""
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            example = "https://app.example or http://localhost:5173"
            raise ValueError(f"expected origins such as {example}, with scheme and without path, or *; {origin!r} is not one")
    return tuple(_USUAL_PORT.sub(r"\1\2", origin.rstrip("/")) for origin in origins)


def listen_hosts(text: str) -> tuple[str, ...]:
    """Split `127.0.0.1, [::1]` into the addresses to listen on, without brackets."""
    return tuple(clean(part).removeprefix("[").removesuffix("]") for part in text.split(","))


def check_patterns(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Check patterns of names: one that holds a character which no such name has would match nothing."""
    for pattern in patterns:
        if not _PATTERN.fullmatch(pattern):
            raise ValueError(f"expected names, with * for any text, such as glm-5.3 or claude-*; {pattern!r} can match nothing")
    return patterns


def check_listen_hosts(text: str) -> str:
    """Check addresses or host names to listen on: none may be empty or followed by anything else."""
    if not all(re.fullmatch(r"[^\s/@?#]+", host) for host in listen_hosts(text)):
        raise ValueError(_LISTEN)
    return text


def parse_bind(text: str) -> tuple[str, str] | str | None:
    """Parse BIND as gunicorn does: host and port of `host:port`, `[v6]:port` or `:port`; the path of `unix:path`.

    None if it is neither.
    """
    if text.startswith("unix:"):
        return text.removeprefix("unix:").removeprefix("//") or None
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")) or not re.fullmatch(r"[0-9]{1,5}", port):
        return None
    return host.strip("[]") or "0.0.0.0", port  # noqa: S104  gunicorn's ":80"


def check_bind(text: str) -> str:
    """Check that BIND can be parsed."""
    if parse_bind(text) is None:
        raise ValueError(_BIND)
    return text


def default_data_dir() -> Path:
    """Return the platform's folder for user data."""
    import platformdirs  # imported only if DATA_DIR is not set

    return Path(platformdirs.user_data_dir("claude-proxy", appauthor=False))


def check_timezone(name: str) -> str:
    """An IANA time zone that this machine knows."""
    import zoneinfo  # only where the setting is used

    if name.upper() == "UTC":
        return "UTC"
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(_ZONE) from None
    return name


def parse_time(text: str) -> int:
    """Parse `HH:MM` into minutes after midnight."""
    found = re.fullmatch(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", text.strip())
    if found is None:
        raise ValueError(_TIME)
    return int(found[1]) * 60 + int(found[2])


def check_time(text: str) -> str:
    """Normalise a time of day to `HH:MM`."""
    minutes = parse_time(text)
    return f"{minutes // 60:02}:{minutes % 60:02}"


def check_quiet_hours(text: str) -> str:
    """Normalise `23-7` or `23:00-07:00` to the latter. The span may go past midnight, but not around the clock."""
    start, dash, end = text.partition("-")
    try:
        times = [check_time(part if ":" in part else f"{part.strip()}:00") for part in (start, end)]
    except ValueError:
        times = []
    if not dash or len(set(times)) != 2:
        raise ValueError(_QUIET)
    return "-".join(times)


def default_timezone() -> str:
    """The zone that TZ names (POSIX.1-2017 section 8.3, as `:Asia/Seoul` or `Asia/Seoul`); UTC where it names none."""
    try:
        return check_timezone(os.environ.get("TZ", "").removeprefix(":") or "UTC")
    except ValueError:
        return "UTC"


_LIST = expecting('expected names separated by commas, or in TOML a list such as ["one", "two"]')
_LISTEN = "expected an address or host name, such as 127.0.0.1, or 0.0.0.0 for every interface; or several, separated by commas"
_SECONDS = "expected a number of seconds above 0, 86400 at most, such as 2.5 or 60"

Size = Annotated[int, BeforeValidator(parse_size), Field(ge=1), expecting(_SIZE)]
Hosts = Annotated[tuple[str, ...], BeforeValidator(parse_list), AfterValidator(check_hosts), _LIST]
Origins = Annotated[tuple[str, ...], BeforeValidator(parse_list), AfterValidator(check_origins), _LIST]
Names = Annotated[tuple[str, ...], BeforeValidator(parse_list), _LIST]
Patterns = Annotated[tuple[str, ...], BeforeValidator(parse_list), AfterValidator(check_patterns), _LIST]
Listed = Annotated[str, BeforeValidator(join_list), expecting("expected addresses or networks separated by commas, or *")]
BaseUrl = Annotated[str, AfterValidator(check_base_url), expecting(f"expected a URL such as {DEFAULT_BASE_URL}")]
NtfyUrl = Annotated[
    str, AfterValidator(partial(check_url, example=DEFAULT_NTFY)), expecting(f"expected a URL such as {DEFAULT_NTFY}")
]
_PAGE = "https://proxy.example.com"
PublicUrl = Annotated[str, AfterValidator(partial(check_url, example=_PAGE)), expecting(f"expected a URL such as {_PAGE}")]
Secret = Annotated[SecretStr, Field(min_length=1), AfterValidator(check_token), expecting(_KEY)]
DatabaseUrl = Annotated[SecretStr, Field(min_length=1), AfterValidator(check_database_url), expecting(_DATABASE)]
Days = Annotated[int, Field(ge=1, le=36_500), expecting("expected a whole number of days from 1 to 36500, such as 400")]
Seconds = Annotated[float, Field(gt=0, le=86_400), expecting(_SECONDS)]
OrOff = Annotated[float, Field(ge=0, le=86_400), expecting("expected a number of seconds from 0 to 86400, such as 2.5 or 60")]
Flag = Annotated[bool, BeforeValidator(parse_word), expecting("expected true or false")]
Host = Annotated[str, BeforeValidator(join_list), Field(min_length=1), AfterValidator(check_listen_hosts), expecting(_LISTEN)]
Port = Annotated[int, Field(ge=0, le=65_535), expecting("expected a whole number from 0 to 65535, such as 3000")]
Bind = Annotated[str, AfterValidator(check_bind), expecting(_BIND)]
Prefix = Annotated[str, BeforeValidator(parse_prefix), expecting("expected a plain path such as /claude")]
Count = Annotated[int, Field(ge=1), expecting("expected a whole number, 1 or more, such as 1000")]
Rank = Annotated[int, Field(ge=0, le=1000), expecting("expected a whole number from 0 to 1000")]
Workers = Annotated[int, Field(ge=1, le=1024), expecting("expected a whole number from 1 to 1024")]
MaxWorkers = Annotated[int, Field(ge=0, le=1024), expecting("expected a whole number from 0 to 1024; 0 is no limit")]
PerCore = Annotated[float, Field(gt=0, le=64), expecting("expected a number of workers per core above 0, 64 at most")]
WholeSeconds = Annotated[int, Field(ge=0, le=86_400), expecting("expected a whole number of seconds; 0 for no limit")]
Folder = Annotated[Path, expecting("expected the path of a folder, such as /var/lib/claude-proxy")]
Script = Annotated[Path, AfterValidator(check_script), expecting(_SCRIPT)]
CaFile = Annotated[
    Path, AfterValidator(check_ca_file), expecting("expected the path of a PEM file, such as /etc/ssl/company-ca.pem")
]
AppModule = Annotated[str, Field(pattern=r"^[^:\s]+:[^:\s]+$"), expecting("expected module:name, such as proxy:app")]
Identifier = Annotated[str, Field(pattern=r"^[^:\s]+$"), expecting("expected a name, such as proxy")]
Words = Annotated[str, Field(min_length=1), expecting("expected a text")]
TimeZone = Annotated[str, AfterValidator(check_timezone), expecting(_ZONE)]
Priority = Annotated[int, Field(ge=1, le=5), expecting("expected a whole number from 1 to 5")]
TimeOfDay = Annotated[str, AfterValidator(check_time), expecting(_TIME)]
QuietHours = Annotated[str, AfterValidator(check_quiet_hours), expecting(_QUIET)]
Topic = Annotated[
    str,
    Field(pattern=r"^[-_A-Za-z0-9]{1,64}$"),
    expecting("expected 1 to 64 letters, digits, hyphens or underscores, such as claude-7f3a9c"),
]
Label = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][-_.A-Za-z0-9]{0,63}$"),
    expecting("expected a name of 1 to 64 letters, digits, dots, hyphens or underscores, such as work"),
]
