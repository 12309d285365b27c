"""Where the settings file is looked for: in named places and in the user's own folder, never in the working directory.

Somebody else's checkout must not be able to decide where a key is sent, so the working directory is not searched. Exactly
one file is read, the first of these that applies:

1. the one that `--config` names,
2. the one that CLAUDE_PROXY_CONFIG names, with an absolute path,
3. claude-proxy.toml in the user's configuration folder, if it exists,
4. if the app is loaded through a named `proxy.py`: claude-proxy.toml next to that file, if it exists.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from claude_proxy.cleaning import visible
from claude_proxy.errors import SettingsError
from claude_proxy.settings.cleaning import clean

CONFIG_FILE = "claude-proxy.toml"
CONFIG_VARIABLE = "CLAUDE_PROXY_CONFIG"

State = Literal["read", "not there", "not read"]


@dataclass(frozen=True, slots=True)
class Place:
    """A settings file that was looked for.

    Attributes:
        why: why it was looked for, for a person: `--config`, `user's folder` ...
        state: read; missing; or existing but not read, because another one was.
    """

    path: Path
    why: str
    state: State


def look(environ: Mapping[str, str], config: Path | None, beside: Path | None) -> tuple[Place, ...]:
    """Return all places in order; at most one is `read`. A named file is `read` whether it exists or not.

    Args:
        config: the file that `--config` names.
        beside: the named `proxy.py`.

    Raises:
        SettingsError: CLAUDE_PROXY_CONFIG holds a relative path.
    """
    places: list[Place] = []
    read = False
    for path, why, named in _candidates(environ, config, beside):
        if any(place.path == path for place in places):
            continue
        there = (named and not read) or path.is_file()
        state: State = "not there" if not there else "not read" if read else "read"
        read = read or there
        places.append(Place(path, why, state))
    return tuple(places)


def _candidates(environ: Mapping[str, str], config: Path | None, beside: Path | None) -> Iterator[tuple[Path, str, bool]]:
    if config is not None:
        yield config.absolute(), "--config", True
    if named := clean(environ.get(CONFIG_VARIABLE, "")):
        if config is None and not Path(named).is_absolute():
            raise SettingsError(
                f"{CONFIG_VARIABLE}={visible(named)}: expected an absolute path, such as {visible(Path(named).absolute())}; a "
                "relative one would mean another file in each directory."
            )
        yield Path(named).absolute(), CONFIG_VARIABLE, True
    if (own := user_file(environ)) is not None:
        yield own, "user's folder", False
    if beside is not None:
        yield beside.absolute().with_name(CONFIG_FILE), f"beside {beside.name}", False


def user_file(environ: Mapping[str, str]) -> Path | None:
    """Return the path of the settings file in the user's configuration folder, even if missing; None without such a folder.

    The folder is platformdirs' `user_config_dir`, with XDG_CONFIG_HOME from `environ`: a service's differs from this shell's.
    """
    stated = clean(environ.get("XDG_CONFIG_HOME", ""))
    if stated and Path(stated).is_absolute():  # relative paths must be ignored (XDG Base Directory Specification)
        return Path(stated) / "claude-proxy" / CONFIG_FILE
    import platformdirs

    folder = Path(platformdirs.user_config_dir("claude-proxy", appauthor=False))
    return folder / CONFIG_FILE if folder.is_absolute() else None


def unread(places: tuple[Place, ...]) -> Path | None:
    """Return a claude-proxy.toml in the working directory that is none of the places, as a user may expect it to be read."""
    try:
        here = Path(CONFIG_FILE).absolute()
        read = next((place.path for place in places if place.state == "read"), None)
        there = here.is_file() and not (read is not None and read.exists() and read.samefile(here))
    except OSError:  # the working directory was deleted or is not readable
        return None
    return here if there else None


def unread_sentence(path: Path) -> str:
    """Return a one-line warning about an unread file."""
    return (
        f"{visible(path)} is not read: the working directory is not searched. To use it, name it (--config {CONFIG_FILE}) "
        "or put it where `claude-proxy config path` says."
    )
