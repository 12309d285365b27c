"""The settings: one frozen definition, from which come the environment names, the TOML file, `config show` and docs/settings.md.

A value comes from, first found wins: an argument of the command line, the environment (`BASE_URL`, or `BASE_URL_FILE` for a
secret), `claude-proxy.toml` (`base_url`), the default. An empty environment variable counts as not set, as compose files
write them. `CLAUDE_PROXY_CONFIG` names another TOML file.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, WrapValidator

from claude_proxy.errors import SettingsError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

DEFAULT_BASE_URL = "https://api.z.ai/api/anthropic"
DEFAULT_NTFY = "https://ntfy.sh"
CONFIG_FILE = "claude-proxy.toml"
_UNITS = {"": 1, "k": 1000, "kb": 1000, "m": 1000**2, "mb": 1000**2, "g": 1000**3, "gb": 1000**3}
_UNITS |= {"ki": 1024, "kib": 1024, "mi": 1024**2, "mib": 1024**2, "gi": 1024**3, "gib": 1024**3}
MIB = 1024**2
_LEVELS = {"critical": "error", "trace": "debug"}  # those of gunicorn and uvicorn, as their neighbours
# What only `serve` and gunicorn_conf.py read, from the environment (docs/serve.md).
_SERVERS_OWN = {
    *("bind", "web_concurrency", "workers_per_core", "max_workers", "keep_alive", "forwarded_allow_ips", "pre_start_path"),
    *("app_module", "module_name", "variable_name"),
}
_CREDENTIALS = re.compile(r"//.*@")  # of a URL that is refused for having them
_HOST_NAME = re.compile(r"\*|(\*\.)?[^\s/*@?#]+")
_ORIGIN = re.compile(r"(?ai)\*|null|[a-z][a-z0-9+.-]*://([\w.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?/?")  # null: a page from a file
_USUAL_PORT = re.compile(r"(?i)(?<=^http://)(.*):80$|(?<=^https://)(.*):443$")
_LISTED = "`claude-proxy config show --docs` lists them."
_SIZE = "expected a number of bytes, 1 or more, such as 67108864 or 64MiB"
_KEY = "expected one line of printable ASCII without spaces around it, such as sk-4f1c9b27"


def expecting(words: str) -> WrapValidator:
    """Say what a value has to be in our words, where pydantic would use its own."""

    def check(value: object, handler: Callable[[object], object]) -> object:
        try:
            return handler(value)
        except ValidationError as error:
            if error.errors()[0]["type"] == "value_error":  # ours already
                raise
            raise ValueError(words) from None

    return WrapValidator(check)


def parse_size(value: object) -> object:
    """Bytes from `67108864`, `"64MiB"` or `"64MB"`; anything else is left for pydantic to refuse."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d+)?)\s*([a-zA-Z]*)\s*", value)
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError(_SIZE)
    return int(float(match[1]) * _UNITS[match[2].lower()])


def parse_list(value: object) -> object:
    """A list from `"a, b"`; a TOML array stays as it is."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def parse_level(value: object) -> str:
    """A log level in any case; levels that only gunicorn and uvicorn know count as their neighbours."""
    level = str(value).lower()
    return _LEVELS.get(level, level)


def parse_prefix(value: object) -> object:
    """A path prefix such as "/claude", from that with or without slashes around it."""
    if not isinstance(value, str):
        return value
    path = value.rstrip("/")
    if not re.fullmatch(r"(/(?!\.{1,2}(/|$))[\w.~-]+)*", path, re.ASCII):
        raise ValueError("expected a plain path such as /claude")
    return path


def check_url(value: str, *, example: str = DEFAULT_BASE_URL) -> str:
    """An http(s) URL without query, fragment, credentials or trailing slash."""
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:  # its text could hold what is to be kept secret
        usable = None
    if not usable:
        raise ValueError(f"expected a URL such as {example}")
    if "?" in value or "#" in value or "@" in parts.netloc:
        raise ValueError(f"expected a URL without credentials, query or fragment, such as {example}")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError(f"expected a URL in plain ASCII without spaces, such as {example}")
    return value.rstrip("/")


def check_token(value: SecretStr) -> SecretStr:
    """A secret that fits into a header field."""
    text = value.get_secret_value()
    if not text.isascii() or any(not c.isprintable() for c in text) or text != text.strip():
        raise ValueError(_KEY)
    return value


def check_ca_file(value: Path) -> Path:
    """A file from which TLS can take certificates."""
    import ssl  # only where the setting is used

    if not value.is_file() or not os.access(value, os.R_OK):
        raise ValueError("expected a PEM file that can be read")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(value)
        usable = context.cert_store_stats()["x509"] > 0
    except OSError:  # also TLS's own: one of them is broken
        usable = False
    if not usable:
        raise ValueError("expected a PEM file with whole certificates, each from -----BEGIN CERTIFICATE----- to its END")
    return value


def check_base_url(value: str) -> str:
    """The same for the upstream. Clients add /v1, so it would be asked for /v1/v1/messages."""
    url = check_url(value)
    short = url.removesuffix("/messages").removesuffix("/v1")
    if short != url.removesuffix("/messages"):
        raise ValueError(f"expected the URL without /v1, since clients add that themselves: {short}")
    return url


def check_hosts(names: tuple[str, ...]) -> tuple[str, ...]:
    """Host names as a Host field may have them."""
    for name in names:
        if not _HOST_NAME.fullmatch(name):
            raise ValueError(f"expected host names such as proxy.example or *.example.com, or *; {name!r} is none")
    return names


def check_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    """Web origins as a browser sends them: without path, and without the scheme's usual port."""
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            example = "https://app.example or http://localhost:5173"
            raise ValueError(f"expected origins such as {example}, with scheme and without path, or *; {origin!r} is none")
    return tuple(_USUAL_PORT.sub(r"\1\2", origin.rstrip("/")) for origin in origins)


def default_data_dir() -> Path:
    """The platform's folder for user data."""
    import platformdirs  # only where no DATA_DIR is set

    return Path(platformdirs.user_data_dir("claude-proxy", appauthor=False))


Size = Annotated[int, BeforeValidator(parse_size), Field(ge=1), expecting(_SIZE)]
_LIST = expecting('expected names separated by commas, or in TOML a list such as ["one", "two"]')
Hosts = Annotated[tuple[str, ...], BeforeValidator(parse_list), AfterValidator(check_hosts), _LIST]
Origins = Annotated[tuple[str, ...], BeforeValidator(parse_list), AfterValidator(check_origins), _LIST]
BaseUrl = Annotated[str, AfterValidator(check_base_url), expecting(f"expected a URL such as {DEFAULT_BASE_URL}")]
NtfyUrl = Annotated[
    str, AfterValidator(partial(check_url, example=DEFAULT_NTFY)), expecting(f"expected a URL such as {DEFAULT_NTFY}")
]
Secret = Annotated[SecretStr, Field(min_length=1), AfterValidator(check_token), expecting(_KEY)]
Seconds = Annotated[
    float, Field(gt=0, le=86_400), expecting("expected a number of seconds above 0, 86400 at most, such as 2.5 or 60")
]
OrOff = Annotated[float, Field(ge=0, le=86_400), expecting("expected a number of seconds from 0 to 86400, such as 2.5 or 60")]
Flag = Annotated[bool, expecting("expected true or false")]
Host = Annotated[
    str, Field(min_length=1), expecting("expected an address or host name, such as 127.0.0.1, or 0.0.0.0 for every interface")
]
Port = Annotated[int, Field(ge=0, le=65_535), expecting("expected a whole number from 0 to 65535, such as 3000")]
Prefix = Annotated[str, BeforeValidator(parse_prefix), expecting("expected a plain path such as /claude")]
Count = Annotated[int, Field(ge=1), expecting("expected a whole number, 1 or more, such as 1000")]
Folder = Annotated[Path, expecting("expected the path of a folder, such as /var/lib/claude-proxy")]
CaFile = Annotated[
    Path, AfterValidator(check_ca_file), expecting("expected the path of a PEM file, such as /etc/ssl/company-ca.pem")
]
Topic = Annotated[
    str,
    Field(pattern=r"^[-_A-Za-z0-9]{1,64}$"),
    expecting("expected 1 to 64 letters, digits, hyphens or underscores, such as claude-7f3a9c"),
]


class Settings(BaseModel):
    """What a user can set. The environment name of a field is its name in capitals."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=False)

    base_url: BaseUrl = Field(DEFAULT_BASE_URL, description="Upstream: where requests go, without /v1.")
    upstream_api_key: Secret | None = Field(
        None,
        description="Credential the proxy sends upstream instead of the client's. Also UPSTREAM_API_KEY_FILE.",
    )
    upstream_auth: Literal["bearer", "x-api-key"] | None = Field(
        None,
        description="Header for that credential; by default x-api-key for api.anthropic.com, bearer elsewhere.",
    )
    proxy_api_key: Secret | None = Field(
        None, description="Key that clients must show, as bearer or x-api-key. Also PROXY_API_KEY_FILE."
    )
    admin_token: Secret | None = Field(
        None, description="Token for the page, the API and /metrics from other machines. Also ADMIN_TOKEN_FILE."
    )
    host: Host = Field("127.0.0.1", description="Address to listen on (serve).")
    port: Port = Field(3000, description="Port to listen on (serve); 0 takes a free one.")
    root_path: Prefix = Field(
        "", description="Path prefix under which a front serves the proxy, such as /claude, stripped or not."
    )
    allowed_hosts: Hosts = Field(
        (),
        description="More host names under which the proxy may be called; * allows all. Addresses and local names always may.",
    )
    allowed_origins: Origins = Field((), description="Web origins that may call it, such as https://app.example; * allows all.")
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(parse_level)] = Field(
        "info", description="debug, info, warning or error; trace counts as debug, critical as error."
    )
    log_format: Literal["auto", "console", "json"] = Field("auto", description="auto: console on a terminal, JSON elsewhere.")
    data_dir: Folder = Field(default_factory=default_data_dir, description="Where the proxy keeps its files.")
    connect_timeout: Seconds = Field(10, description="Seconds to reach the upstream, TLS included.")
    write_timeout: Seconds = Field(60, description="Seconds without progress while the request is sent upstream.")
    response_head_timeout: Seconds = Field(600, description="Seconds from the request sent to the response's head.")
    stream_idle_timeout: Seconds = Field(300, description="Seconds of silence in a response before it counts as broken.")
    client_write_timeout: Seconds = Field(120, description="Seconds a client may stop reading before it is dropped.")
    client_read_timeout: Seconds = Field(60, description="Seconds a request body may stop coming.")
    first_event_wait: OrOff = Field(5, description="Seconds a stream's head waits for its first event; 0 does not wait.")
    ping_interval: OrOff = Field(15, description="Seconds of silence after which a stream gets a ping; 0 sends none.")
    stream_cut: Literal["cut", "error-event"] = Field(
        "cut",
        description="How a broken stream is passed on: cut (Claude Code streams again), or an error event first.",
    )
    stream_unfinished: Literal["clean", "cut"] = Field(
        "clean",
        description="How a stream that ended before its answer did is passed on: clean, as it came, or as a cut.",
    )
    upstream_redirects: Literal["refuse", "pass"] = Field(
        "refuse", description="A redirect of the upstream: refuse answers with an error that says where it leads."
    )
    max_kept: Size = Field(
        128 * MIB, description="Bytes of request bodies, over all exchanges, that are kept to be sent again (128MiB)."
    )
    keepalive_expiry: OrOff = Field(30, description="Seconds an unused upstream connection is kept; 0 keeps none.")
    max_connections: Count = Field(1000, description="Upstream connections open at once.")
    upstream_ca_file: CaFile | None = Field(
        None,
        description="PEM file of certificate authorities to trust for the upstream, instead of the system's.",
    )
    max_body: Size = Field(64 * MIB, description="Largest request body in bytes (64MiB).")
    max_body_batches: Size = Field(256 * MIB, description="The same for /v1/messages/batches (256MiB).")
    max_body_files: Size = Field(512 * MIB, description="The same for /v1/files (512MiB).")
    retry_hints: Flag = Field(True, description="Add x-should-retry and retry-after where the upstream sent none and we know.")
    accel_buffering: Flag = Field(True, description="Send x-accel-buffering: no on streams, for Nginx in front.")
    count_tokens_memory: OrOff = Field(
        600, description="Seconds to remember that the upstream has no count_tokens; 0 always asks."
    )
    rewrite_results_url: Flag = Field(
        True, description="Point a batch's results_url back at this proxy while it holds the credential."
    )
    graceful_timeout: OrOff = Field(8, description="Seconds that running streams get to finish at a stop (serve).")
    ntfy_topic: Topic | None = Field(None, description="ntfy topic for notices; none are sent without it.")
    ntfy_server: NtfyUrl = Field(DEFAULT_NTFY, description="ntfy server.")
    ntfy_token: Secret | None = Field(None, description="ntfy access token. Also NTFY_TOKEN_FILE.")
    ntfy_via: Literal["http", "cli"] = Field("http", description="http, or cli to publish with the installed ntfy command.")


SECRETS = frozenset(name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation))


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings and, per field, where its value came from (`env BASE_URL`, `claude-proxy.toml`, `default` ...)."""

    settings: Settings
    sources: Mapping[str, str]


def load(
    environ: Mapping[str, str] | None = None,
    *,
    config: Path | None = None,
    defaults: Mapping[str, Any] | None = None,
    **given: Any,
) -> Loaded:
    """Read the settings.

    Args:
        environ: os.environ if None.
        config: a TOML file; by default $CLAUDE_PROXY_CONFIG, else claude-proxy.toml in the working directory if there.
        defaults: defaults that stand instead of ours (proxy.py's BASE_URL).
        given: values from the command line; None means not given.

    Raises:
        SettingsError: names the setting, where it was set, its value (never a secret's) and what was expected.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = dict(defaults or {})
    sources = dict.fromkeys(values, "proxy.py")
    for found, source in (
        (_from_toml(environ, config), None),
        (_from_environ(environ), None),
        (_given(given), "command line"),
    ):
        for name, (value, origin) in found.items():
            values[name], sources[name] = value, source or origin
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise SettingsError(_sentence(error, values, sources)) from None
    return Loaded(settings, {name: sources.get(name, "default") for name in Settings.model_fields})


def _given(given: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    return {name: (value, "") for name, value in given.items() if value is not None}


def _from_environ(environ: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    found: dict[str, tuple[Any, str]] = {}
    for name in Settings.model_fields:
        variable = name.upper()
        if environ.get(variable):
            found[name] = (environ[variable], f"env {variable}")
        elif name in SECRETS and environ.get(f"{variable}_FILE"):
            found[name] = (
                _read_secret(f"{variable}_FILE", environ[f"{variable}_FILE"]),
                f"env {variable}_FILE",
            )
    return found


def _read_secret(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{variable}={path}: the file cannot be read ({_reason(error)}).") from None


def _from_toml(environ: Mapping[str, str], config: Path | None) -> dict[str, tuple[Any, str]]:
    named = config or (Path(environ["CLAUDE_PROXY_CONFIG"]) if environ.get("CLAUDE_PROXY_CONFIG") else None)
    path = named or Path(CONFIG_FILE)
    if named is None and not path.is_file():
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: the file cannot be read ({_reason(error)}).") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not valid TOML: {error}.") from None
    unknown = sorted(set(table) - set(Settings.model_fields))
    if unknown and unknown[0].lower() in _SERVERS_OWN:
        name = unknown[0].upper()
        raise SettingsError(f"{path}: {unknown[0]!r} is read from the environment only: set {name} there (docs/serve.md).")
    if unknown:
        raise SettingsError(f"{path}: unknown setting {unknown[0]!r}{_meant(unknown[0])} {_LISTED}")
    return {name: (value, str(path)) for name, value in table.items()}


def _meant(name: str) -> str:
    import difflib  # only on the way out

    close = difflib.get_close_matches(name.lower(), Settings.model_fields, n=1)
    return f"; did you mean {close[0]!r}?" if close else "."


def _reason(error: Exception) -> str:
    return (error.strerror or "unreadable").lower() if isinstance(error, OSError) else "not UTF-8 text"


def _sentence(error: ValidationError, values: Mapping[str, Any], sources: Mapping[str, str]) -> str:
    lines = []
    for fault in error.errors(include_url=False, include_input=False):
        name = str(fault["loc"][0])
        shown = "" if name in SECRETS else f"={_CREDENTIALS.sub('//***@', str(values.get(name)))}"
        lines.append(f"{name.upper()}{shown} ({sources.get(name, 'default')}): {_expectation(fault)}.")
    return "\n".join(lines)


def _expectation(fault: ErrorDetails) -> str:
    if fault["type"] == "literal_error":
        words: str = fault["ctx"]["expected"]
        return f"expected {words.replace(chr(39), '')}"
    if fault["type"] == "extra_forbidden":
        return f"there is no such setting. {_LISTED.removesuffix('.')}"
    return fault["msg"].removeprefix("Value error, ")
