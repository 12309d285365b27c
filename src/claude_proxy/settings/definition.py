"""The definition of each setting: name, type, default and meaning.

Environment names, the TOML file, `config show`, docs/settings.md, `serve` and gunicorn_conf.py all read them from here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from claude_proxy.settings.kinds import (
    DEFAULT_NTFY,
    MIB,
    AppModule,
    BaseUrl,
    Bind,
    CaFile,
    Count,
    DatabaseUrl,
    Days,
    Flag,
    Folder,
    Host,
    Hosts,
    Identifier,
    Listed,
    MaxWorkers,
    NtfyUrl,
    Origins,
    OrOff,
    PerCore,
    Port,
    Prefix,
    Priority,
    PublicUrl,
    QuietHours,
    Script,
    Seconds,
    Secret,
    Size,
    TimeOfDay,
    TimeZone,
    Topic,
    WholeSeconds,
    Words,
    Workers,
    default_data_dir,
    default_timezone,
    listen_hosts,
    parse_bind,
    parse_level,
    parse_word,
)
from claude_proxy.settings.urls import DEFAULT_BASE_URL

_Word = BeforeValidator(parse_word)
AuthScheme = Literal["bearer", "x-api-key"]


class ProxySettings(BaseModel):
    """The settings of the proxy itself, under any server."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=False)

    base_url: BaseUrl = Field(DEFAULT_BASE_URL, description="Upstream: where requests go, without /v1.")
    upstream_api_key: Secret | None = Field(
        None,
        description="Credential the proxy sends upstream instead of the client's. Also UPSTREAM_API_KEY_FILE.",
    )
    upstream_auth: Annotated[AuthScheme | None, _Word] = Field(
        None,
        description="Header for that credential; by default x-api-key for api.anthropic.com, bearer elsewhere.",
    )
    upstream_redirects: Annotated[Literal["refuse", "pass"], _Word] = Field(
        "refuse",
        description="What to do with a redirect from the upstream: refuse answers 502 and names BASE_URL; pass sends it to the "
        "client, which would follow it and bypass the proxy.",
    )
    proxy_api_key: Secret | None = Field(
        None, description="Key that clients must send, as bearer or x-api-key. Also PROXY_API_KEY_FILE."
    )
    allowed_hosts: Hosts = Field(
        (),
        description="Additional host names that the proxy serves; * allows all. Addresses and local names are always allowed.",
    )
    allowed_origins: Origins = Field((), description="Web origins that may call, such as https://app.example; * allows all.")
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(parse_level)] = Field(
        "info", description="debug, info, warning or error; trace counts as debug, critical and fatal as error."
    )
    log_format: Annotated[Literal["auto", "console", "json"], _Word] = Field(
        "auto", description="auto: console on a terminal, JSON elsewhere."
    )
    data_dir: Folder = Field(default_factory=default_data_dir, description="Where the proxy keeps its files.")
    ledger: Flag = Field(True, description="Record every exchange (docs/books.md); off keeps no books.")
    ledger_keep: Days = Field(400, description="Days to keep single exchanges; daily sums are not deleted.")
    ledger_max_bytes: Size = Field(
        512 * MIB,
        description="Largest size of ledger.db (512MiB); deletes the oldest exchanges first, then the oldest fine sums.",
    )
    database_url: DatabaseUrl | None = Field(
        None,
        description="PostgreSQL for the ledger instead of the file in DATA_DIR: postgresql://user:password@host:5432/database. "
        "Also DATABASE_URL_FILE.",
    )
    connect_timeout: Seconds = Field(10, description="Seconds to reach the upstream, TLS included.")
    write_timeout: Seconds = Field(60, description="Seconds without progress while the request is sent upstream.")
    response_head_timeout: Seconds = Field(600, description="Seconds from the end of the request to the response's head.")
    stream_idle_timeout: Seconds = Field(300, description="Seconds of silence in a response before it counts as broken.")
    client_write_timeout: Seconds = Field(120, description="Seconds a client may stop reading before it is dropped.")
    client_read_timeout: Seconds = Field(60, description="Seconds without progress in a client's request body.")
    first_event_wait: OrOff = Field(5, description="Seconds to hold a stream's head until its first event; 0 does not wait.")
    ping_interval: OrOff = Field(15, description="Seconds of silence after which a stream gets a ping; 0 sends none.")
    stream_cut: Annotated[Literal["cut", "error-event"], _Word] = Field(
        "cut",
        description="How a broken stream is passed on: cut (Claude Code streams again), error-event (an error event first).",
    )
    stream_unfinished: Annotated[Literal["clean", "cut"], _Word] = Field(
        "clean",
        description="How to pass on an answer that the upstream ended cleanly but incomplete: clean ends it the same way "
        "(Claude Code recovers in a second), cut breaks the connection.",
    )
    queue: Flag = Field(
        True,
        description="Let Messages calls wait for their turn where the upstream limits them (docs/resilience.md); off sends each "
        "at once and passes refusals on.",
    )
    queue_wait: Seconds | None = Field(
        None,
        description="Most seconds that a request waits for its turn; by default 0.8 of the time that its client allows, at most "
        "288.",
    )
    keepalive_expiry: OrOff = Field(30, description="Seconds an unused upstream connection is kept; 0 keeps none.")
    max_connections: Count = Field(1000, description="Most upstream connections open at once.")
    upstream_ca_file: CaFile | None = Field(
        None,
        description="PEM file of certificate authorities to trust for the upstream, instead of the system's.",
    )
    max_body: Size = Field(64 * MIB, description="Largest request body in bytes (64MiB).")
    max_body_batches: Size = Field(256 * MIB, description="The same for /v1/messages/batches (256MiB).")
    max_body_files: Size = Field(512 * MIB, description="The same for /v1/files (512MiB).")
    max_kept: Size = Field(
        128 * MIB,
        description="Most bytes of request bodies kept for a retry, over all exchanges together (128MiB); a request whose body "
        "is not kept is never retried.",
    )
    retry_hints: Flag = Field(True, description="Add x-should-retry and retry-after if known and not sent by the upstream.")
    accel_buffering: Flag = Field(True, description="Send x-accel-buffering: no on streams, for nginx in front.")
    count_tokens_memory: OrOff = Field(
        600, description="Seconds to remember that the upstream has no count_tokens; 0 always asks."
    )
    rewrite_results_url: Flag = Field(
        True, description="Point a batch's results_url back at this proxy while it holds the credential."
    )
    admin_token: Secret | None = Field(
        None,
        description="Token for the page, the API and /metrics (docs/access.md); with one, this machine's own programs must show "
        "it too. Also ADMIN_TOKEN_FILE.",
    )
    public_url: PublicUrl | None = Field(
        None,
        description="Where browsers reach the page, such as https://proxy.example.com; for links to it. Its host is allowed.",
    )
    quota_poll: Flag = Field(
        True,
        description="Ask the upstream's quota endpoint (Z.ai's plans), at most once a minute and only while requests go there.",
    )
    timezone: TimeZone = Field(
        default_factory=default_timezone, description="Time zone whose days `stats` and notices mean, such as Asia/Seoul."
    )
    capture: Annotated[Literal["off", "errors", "all"], _Word] = Field(
        "off",
        description="Store the bodies of Messages calls, redacted, in capture.db in DATA_DIR: off, errors (only of failed "
        "exchanges) or all.",
    )
    capture_max_bytes: Size = Field(
        1024 * MIB, description="Largest size of capture.db (1GiB); deletes the oldest exchanges first."
    )
    capture_keep: Count = Field(7, description="Days to keep captured bodies.")
    project_names: Flag = Field(
        True, description="Read the name of a session's folder (not its path) from what Claude Code sends; off reads none."
    )
    ntfy_topic: Topic | None = Field(None, description="ntfy topic for notices; none are sent without it.")
    ntfy_server: NtfyUrl = Field(DEFAULT_NTFY, description="ntfy server.")
    ntfy_token: Secret | None = Field(None, description="ntfy access token. Also NTFY_TOKEN_FILE.")
    ntfy_user: Words | None = Field(None, description="ntfy user name, with NTFY_PASSWORD, where there is no token.")
    ntfy_password: Secret | None = Field(None, description="Password of NTFY_USER. Also NTFY_PASSWORD_FILE.")
    ntfy_via: Annotated[Literal["http", "cli"], _Word] = Field(
        "http", description="http, or cli to publish with the installed ntfy command."
    )
    ntfy_updates: Flag = Field(
        True,
        description="Bring a notice up to date in place while an outage goes on; off for the ntfy app of iPhones, which shows "
        "each update as one more message.",
    )
    ntfy_min_priority: Priority = Field(1, description="Least priority of a notice that is pushed, from 1 to 5 (urgent).")
    ntfy_language: Annotated[Literal["en", "ko"], _Word] = Field("en", description="Language of notices: en or ko.")
    quiet_hours: QuietHours | None = Field(
        None, description="Hours of TIMEZONE without notices, such as 23:00-07:00; one summary follows at their end."
    )
    daily_summary: TimeOfDay | None = Field(
        None, description="Time of TIMEZONE at which a notice sums up the day before, such as 09:00."
    )


class Settings(ProxySettings):
    """The settings of the proxy and its server. A field's environment variable is its name in upper case.

    The server's names are those of tiangolo/uvicorn-gunicorn-docker, so that a deployment written for it keeps working.
    """

    host: Host = Field("127.0.0.1", description="Address or host name to listen on; several with commas.")
    port: Port = Field(3000, description="Port to listen on; 0 picks a free one, which is logged.")
    bind: Bind | None = Field(
        None, description="host:port, [v6]:port or unix:path to listen on; overrides HOST and PORT from the same source."
    )
    root_path: Prefix = Field(
        "", description="Path prefix under which a front proxy serves us, such as /claude, whether it strips it or not."
    )
    forwarded_allow_ips: Listed = Field(
        "", description="Addresses or networks of front proxies whose X-Forwarded-For and -Proto are believed; * believes anyone."
    )
    web_concurrency: Workers | None = Field(None, description="Number of worker processes.")
    workers_per_core: PerCore | None = Field(
        None,
        description="Workers per CPU that this process may use, at least one in all, if WEB_CONCURRENCY is not set. CPUs are "
        "counted by the container's limit and the affinity, not the machine's cores.",
    )
    max_workers: MaxWorkers = Field(0, description="Upper limit for WORKERS_PER_CORE; 0 for no limit.")
    keep_alive: OrOff = Field(100, description="Seconds that a client's idle connection stays open.")
    graceful_timeout: OrOff = Field(8, description="Seconds that running streams get to finish at shutdown.")
    pre_start_path: Script | None = Field(None, description="Script to run once before the first worker.")
    app_module: AppModule | None = Field(
        None, description="Another app to serve, as module:name; overrides the file that --app names."
    )
    module_name: Identifier | None = Field(None, description="Only the module of APP_MODULE; its app is VARIABLE_NAME.")
    variable_name: Identifier | None = Field(None, description="The app's name in MODULE_NAME.")

    @property
    def hosts(self) -> tuple[str, ...]:
        """The addresses to listen on, without brackets."""
        return listen_hosts(self.host)

    @property
    def unix_socket(self) -> str | None:
        """The path of the Unix socket to listen on instead of HOST and PORT."""
        bound = None if self.bind is None else parse_bind(self.bind)
        return bound if isinstance(bound, str) else None

    @property
    def other_app(self) -> str | None:
        """The app that APP_MODULE, or MODULE_NAME and VARIABLE_NAME, name instead of ours, as `module:name`."""
        if self.app_module is not None or (self.module_name is None and self.variable_name is None):
            return self.app_module
        return f"{self.module_name or 'proxy'}:{self.variable_name or 'app'}"


class GunicornSettings(Settings):
    """Adds the settings that only gunicorn_conf.py reads; other programs use names such as `TIMEOUT` too."""

    timeout: WholeSeconds = Field(120, description="Seconds after which gunicorn kills an unresponsive worker; 0 for never.")
    worker_class: Words = Field("asgi", description="gunicorn's worker class.")
    access_log: Words | None = Field(None, description="File for gunicorn's access log; - is standard output.")
    error_log: Words = Field("-", description="File for gunicorn's own log; - is standard error.")


SECRETS = frozenset(name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation))
PATHS = frozenset(name for name, field in Settings.model_fields.items() if "Path" in str(field.annotation))
# What a reload brings into force at once (docs/accounts.md); every other setting is read at the start only.
RELOADED = frozenset(
    {
        *("base_url", "upstream_api_key", "upstream_auth", "upstream_redirects", "upstream_ca_file"),
        *("connect_timeout", "write_timeout", "response_head_timeout", "stream_idle_timeout"),
        *("client_write_timeout", "client_read_timeout", "first_event_wait", "ping_interval"),
        *("stream_cut", "stream_unfinished", "keepalive_expiry", "max_connections"),
        *("max_body", "max_body_batches", "max_body_files"),
        *("queue_wait", "retry_hints", "accel_buffering", "count_tokens_memory", "rewrite_results_url"),
    }
)
# The settings file cannot name code to run, and gunicorn's own settings have no effect under any other server.
ENVIRONMENT_ONLY = frozenset(
    {"app_module", "module_name", "variable_name", *(GunicornSettings.model_fields.keys() - Settings.model_fields.keys())}
)
