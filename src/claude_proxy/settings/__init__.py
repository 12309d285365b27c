"""The settings: one frozen definition for the environment names, the TOML file, `config show` and docs/settings.md.

A value comes from the first of these that sets it: a command-line option, the environment (`BASE_URL`, or `..._FILE` for a
secret), the settings file (`base_url`), the default. `places` says which file is read.
"""

from claude_proxy.cleaning import visible
from claude_proxy.settings.cleaning import clean
from claude_proxy.settings.definition import (
    ENVIRONMENT_ONLY,
    RELOADED,
    SECRETS,
    AuthScheme,
    GunicornSettings,
    ProxySettings,
    Settings,
)
from claude_proxy.settings.kinds import DEFAULT_NTFY, MIB, default_data_dir
from claude_proxy.settings.loading import Loaded, load
from claude_proxy.settings.places import CONFIG_FILE, CONFIG_VARIABLE, Place, unread_sentence, user_file
from claude_proxy.settings.showing import shown
from claude_proxy.settings.tables import AccountTable, RouteMatch, RouteTable, Tables, UpstreamTable
from claude_proxy.settings.upstreams import AccountSettings, UpstreamSettings, default_upstream
from claude_proxy.settings.urls import DEFAULT_BASE_URL

__all__ = [
    "CONFIG_FILE",
    "CONFIG_VARIABLE",
    "DEFAULT_BASE_URL",
    "DEFAULT_NTFY",
    "ENVIRONMENT_ONLY",
    "MIB",
    "RELOADED",
    "SECRETS",
    "AccountSettings",
    "AccountTable",
    "AuthScheme",
    "GunicornSettings",
    "Loaded",
    "Place",
    "ProxySettings",
    "RouteMatch",
    "RouteTable",
    "Settings",
    "Tables",
    "UpstreamSettings",
    "UpstreamTable",
    "clean",
    "default_data_dir",
    "default_upstream",
    "load",
    "shown",
    "unread_sentence",
    "user_file",
    "visible",
]
