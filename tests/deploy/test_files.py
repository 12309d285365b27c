"""The files of deploy/ and around it, read as files: what a look can tell without running them."""

from __future__ import annotations

import os
import re
import runpy
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from claude_proxy.settings import SECRETS, Settings
from claude_proxy.settings import load as settings_from

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
# Names that are not settings of the proxy: the platform's, Docker's and Python's.
OTHERS = {"XDG_CONFIG_HOME", "PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "HOME", "PATH"}
KNOWN = {name.upper() for name in Settings.model_fields} | {f"{name.upper()}_FILE" for name in SECRETS} | OTHERS


class Loader(yaml.SafeLoader):
    """YAML with Compose's own tags, which change nothing for us."""


Loader.add_constructor("!override", lambda loader, node: loader.construct_sequence(node))


def load(path: str) -> Any:
    """A YAML file of the repository."""
    return yaml.load((ROOT / path).read_text(), Loader)


def pins(path: Path) -> dict[str, str]:
    """Package -> version of a requirements file."""
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", path.read_text(), re.MULTILINE))


def test_the_images_second_lock_agrees_with_the_first() -> None:
    core, servers = pins(ROOT / "requirements.txt"), pins(DEPLOY / "docker/requirements-servers.txt")
    assert {name: servers.get(name) for name in core} == core, "renew it: docs/docker.md"
    assert {"gunicorn", "hypercorn"} <= servers.keys()
    locked = {one["name"]: one.get("version") for one in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}
    assert {name: locked[name] for name in servers} == servers
    text = (DEPLOY / "docker/requirements-servers.txt").read_text()
    assert text.count("\\\n    --hash=") >= len(servers)


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.uv"])
def test_a_dockerfile_keeps_its_promises(name: str) -> None:
    steps = [line for line in (ROOT / name).read_text().splitlines() if re.match(r"[A-Z]+ ", line)]
    assert steps[-2:] == ["COPY --chmod=644 proxy.py /app/proxy.py", 'CMD ["claude-proxy", "serve", "--app", "/app/proxy.py"]']
    assert {"USER 1001:0", "EXPOSE 3000", "VOLUME /data", "WORKDIR /app"} <= set(steps)
    assert any(step.startswith("HEALTHCHECK ") for step in steps)
    assert {step for step in steps if step.startswith("FROM ")} <= {"FROM python:3.13-slim", "FROM python:3.13-slim AS build"}


def test_nothing_but_what_the_dockerfiles_copy_reaches_the_builder() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    text = (ROOT / "Dockerfile").read_text() + (ROOT / "Dockerfile.uv").read_text()
    copied = {
        re.sub(r"/[\w*]+\.py$", "", word)  # files of a folder: the folder is allowed
        for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE)
        for word in line.split()[:-1]
        if not word.startswith(("--", "$"))
    }
    assert copied == allowed


def test_compose_opens_nothing_beyond_this_machine() -> None:
    services = load("docker-compose.yml")["services"]
    assert [name for name, service in services.items() if not service.get("profiles")] == ["claude-proxy"]
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert len(published) == 6
    assert all(re.fullmatch(r"\$\{PUBLISH\w*:-127\.0\.0\.1:\d+\}:\d+", port) for port in published)


def environments() -> Iterator[tuple[str, str]]:
    """(file, name) of each environment variable that a shipped file gives the proxy."""
    for path, service in (("docker-compose.yml", "claude-proxy"), ("deploy/swarm/stack.yml", "proxy")):
        yield from ((path, name) for name in load(path)["services"][service]["environment"])
    chart = DEPLOY / "kubernetes/claude-proxy"
    yield from (("values.yaml", name) for name in yaml.safe_load((chart / "values.yaml").read_text())["config"])
    text = "".join((chart / f"templates/{name}.yaml").read_text() for name in ("configmap", "deployment"))
    yield from (("chart", name) for name in re.findall(r"^  ([A-Z_]+):", text, re.MULTILINE))
    yield from (("chart", name) for name in re.findall(r'"([A-Z_]{4,})" "', text))
    unit = (DEPLOY / "systemd/claude-proxy.service").read_text()
    yield from (("unit", name) for line in re.findall(r"Environment=(.*)", unit) for name in re.findall(r"([A-Z_]+)=", line))
    job = (DEPLOY / "nomad/claude-proxy.nomad.hcl").read_text()
    yield from (("job", name) for name in re.findall(r"^ +([A-Z_]+) *=", job, re.MULTILINE))
    for name in ("Dockerfile", "Dockerfile.uv"):
        block = re.findall(r"^ENV ((?:.*\\\n)*.*)$", (ROOT / name).read_text(), re.MULTILINE)
        names = re.findall(r"([A-Z_]+)=", block[-1])
        yield from ((name, one) for one in names)


def test_every_setting_named_in_a_shipped_file_exists() -> None:
    seen = list(environments())
    assert len(seen) > 40
    assert [pair for pair in seen if pair[1] not in KNOWN] == []


def rendered(text: str, **environ: str) -> str:
    """What Traefik's file provider makes of a file: of Go's templates, as much as ours use."""
    values = {}
    for name, variable, default in re.findall(r"\{\{ \$(\w+) := env `(\w+)` \| default `([^`]+)` \}\}", text):
        values[name] = environ.get(variable, default)
    text = re.sub(r"\{\{ \$\w+ := [^}]*\}\}", "", text)
    text = re.sub(r"\{\{ \$(\w+) \}\}", lambda match: values[match[1]], text)
    assert "{{" not in text
    return text


@pytest.mark.parametrize("path", sorted(DEPLOY.glob("traefik/*.toml")), ids=lambda path: path.name)
def test_traefiks_files_are_toml_before_and_after_its_templates(path: Path) -> None:
    before, after = tomllib.loads(path.read_text()), tomllib.loads(rendered(path.read_text()))
    assert before.keys() == after.keys() != set()


def test_traefiks_templates_put_the_name_and_the_address_in() -> None:
    text = (DEPLOY / "traefik/routes.toml").read_text()
    for environ, name, url in (
        ({}, "proxy.example.com", "http://127.0.0.1:3000"),
        ({"SERVER_NAME": "llm.example", "CLAUDE_PROXY_URL": "http://10.0.0.2:4000"}, "llm.example", "http://10.0.0.2:4000"),
    ):
        http = tomllib.loads(rendered(text, **environ))["http"]
        assert {router["rule"].split(" ")[0] for router in http["routers"].values()} == {f"Host(`{name}`)"}
        assert http["services"]["claude-proxy"]["loadBalancer"]["servers"] == [{"url": url}]


def test_the_stop_times_leave_room_for_the_grace_time() -> None:
    default = Settings.model_fields["graceful_timeout"].default
    assert default < 10  # Docker's
    compose = load("docker-compose.yml")["services"]["claude-proxy"]
    period = re.fullmatch(r"\$\{STOP_GRACE_PERIOD:-(\d+)s\}", compose["stop_grace_period"])
    assert period is not None, "GRACEFUL_TIMEOUT may be raised in .env, so this must be too"
    assert int(period[1]) > default
    stack = load("deploy/swarm/stack.yml")["services"]["proxy"]
    assert int(stack["stop_grace_period"].removesuffix("s")) > int(stack["environment"]["GRACEFUL_TIMEOUT"])
    unit = (DEPLOY / "systemd/claude-proxy.service").read_text()
    grace, stop = re.search(r"GRACEFUL_TIMEOUT=(\d+)", unit), re.search(r"TimeoutStopSec=(\d+)", unit)
    assert grace is not None
    assert stop is not None
    assert int(stop[1]) > int(grace[1])


def test_the_line_of_the_plain_manifests_that_the_docs_say_to_change_is_there_once() -> None:
    (line,) = re.findall(r"put your image into the line `([^`]+)`", (ROOT / "docs/kubernetes.md").read_text())
    assert (DEPLOY / "kubernetes/claude-proxy.yaml").read_text().count(line) == 1


def test_nomads_template_waits_for_no_variable_and_writes_only_the_keys_that_are_there() -> None:
    """consul-template: `nomadVar` blocks until its variable exists; a key that is missing is one with an empty Value."""
    job = (DEPLOY / "nomad/claude-proxy.nomad.hcl").read_text()
    guarded = '{{- if nomadVarExists "nomad/jobs/claude-proxy" }}\n          {{- with nomadVar "nomad/jobs/claude-proxy" }}'
    assert job.count('{{- with nomadVar "') == job.count(guarded) == 1
    written = re.findall(r"\{\{- with \.(\w+)\.Value \}\}\n +([A-Z_]+)=\{\{ \. \}\}\n +\{\{- end \}\}", job)
    assert [variable for _, variable in written] == re.findall(r"([A-Z_]+)=\{\{", job)
    assert [name.upper() for name, _ in written] == [variable for _, variable in written]
    assert {variable for _, variable in written} <= KNOWN


def test_nomads_job_says_which_limit_of_the_client_its_stop_needs() -> None:
    job = (DEPLOY / "nomad/claude-proxy.nomad.hcl").read_text()
    named = re.findall(r'(max_kill_timeout| kill_timeout|GRACEFUL_TIMEOUT) += "(\d+)s?"', job)
    seconds = {name.strip(): int(value) for name, value in named}
    assert seconds["max_kill_timeout"] >= seconds["kill_timeout"] > seconds["GRACEFUL_TIMEOUT"]


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A server on a free port that gives one connection this answer."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            peer, _ = listening.accept()
            with peer:
                peer.recv(1024)
                peer.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(10)


def healthcheck(**environ: str) -> tuple[int, str]:
    """Exit code and output of the image's health check."""
    command = [sys.executable, "-I", "-S", str(DEPLOY / "docker/healthcheck.py")]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=30)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n{}", 0),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", 1),
        (b"HTTP/1.1 404 2000\r\n\r\n", 1),
        (b"garbage", 1),
        (b"", 1),
    ],
)
def test_the_health_check_believes_only_a_200(answer: bytes, code: int) -> None:
    with answering(answer) as port:
        assert healthcheck(PORT=str(port)) == (code, answer.split(b"\r\n")[0].decode())


def test_the_health_check_follows_bind_before_port() -> None:
    with answering(b"HTTP/1.1 200 OK\r\n\r\n") as port:
        assert healthcheck(PORT="1", BIND=f"0.0.0.0:{port}")[0] == 0


def test_the_health_check_says_why_nothing_answers() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        code, said = healthcheck(PORT=str(taken.getsockname()[1]))
    assert code == 1
    assert "no answer on port" in said


@pytest.mark.parametrize(
    ("environ", "port"),
    [
        ({}, 3000),
        ({"PORT": "80"}, 80),
        ({"PORT": '"80"'}, 80),
        ({"PORT": "'80'\r"}, 80),
        ({"PORT": ""}, 3000),
        ({"BIND": "0.0.0.0:81", "PORT": "80"}, 81),
        ({"BIND": '"[::]:81"'}, 81),
        ({"BIND": "unix:/run/s"}, 3000),
    ],
)
def test_the_health_check_finds_the_port_as_the_proxy_does(
    environ: dict[str, str], port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", environ)
    assert runpy.run_path(str(DEPLOY / "docker/healthcheck.py"))["port"]() == port
    assert settings_from(environ).settings.port == port
