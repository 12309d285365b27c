"""The link in the log: where it leads, and when there is one."""

from __future__ import annotations

from typing import Any

import pytest

from claude_proxy.access.login_link import login_link, needs_link
from claude_proxy.settings import load


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        ({}, "http://localhost:3000"),
        ({"host": "0.0.0.0", "port": 8080}, "http://localhost:8080"),
        ({"host": "::"}, "http://localhost:3000"),
        ({"host": "192.168.1.5"}, "http://192.168.1.5:3000"),
        ({"host": "fd00::5"}, "http://[fd00::5]:3000"),
        ({"host": "192.168.1.5,127.0.0.1"}, "http://localhost:3000"),
        ({"host": "0.0.0.0", "root_path": "/claude"}, "http://localhost:3000/claude"),
        ({"host": "0.0.0.0", "port": 0}, ""),
        ({"public_url": "https://proxy.example/claude/", "port": 0}, "https://proxy.example/claude"),
        ({"public_url": "https://proxy.example", "root_path": "/claude"}, "https://proxy.example"),
    ],
    ids=repr,
)
def test_it_leads_to_where_a_browser_of_this_machine_reaches_the_page(settings: dict[str, Any], address: str) -> None:
    assert login_link(load({}, **settings).settings, "abc") == f"{address}/login#code=abc"


def test_another_address_can_be_given() -> None:
    assert login_link(load({}).settings, "abc", "http://nas:3001") == "http://nas:3001/login#code=abc"


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ({}, False),
        ({"host": "localhost"}, False),
        ({"host": "127.0.0.1,::1"}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": "127.0.0.1,192.168.1.5"}, True),
        ({"bind": "0.0.0.0:80"}, True),
        ({"bind": "127.0.0.1:80"}, False),
        ({"bind": "unix:/run/proxy.sock"}, False),
        ({"bind": "unix:/run/proxy.sock", "public_url": "https://proxy.example"}, True),
        ({"public_url": "https://proxy.example"}, True),
    ],
    ids=repr,
)
def test_there_is_one_if_somebody_from_elsewhere_can_come(settings: dict[str, Any], needed: bool) -> None:
    environ = {name.upper(): str(value) for name, value in settings.items()}
    assert needs_link(load(environ).settings) is needed
