"""Prometheus' configuration, the alert rules and the dashboard: they name what there is, promtool parses them, and a real
Prometheus that scrapes a real proxy fires an alert when the upstream goes away."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from claude_proxy.observe.catalogue import BY_NAME, Metric, Type
from tests.deploy.process import free_port, running

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus/alerts.yml"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana/dashboards/claude-proxy.json").read_text(encoding="utf-8"))
BIN = Path(sys.executable).parent
TOKEN = "the-admin-token"
# What Grafana puts in place of its variables; `promtool` knows none of them.
GRAFANA = {"$__rate_interval": "1m", "$__range": "6h", "$__interval": "15s"}
FROM_PROMETHEUS = {"job", "instance", "le"}
needs_prometheus = pytest.mark.skipif(shutil.which("promtool") is None, reason="no Prometheus")


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries() -> dict[str, str]:
    """Every expression of the dashboard, with values in place of Grafana's variables."""
    found = {}
    for panel in panels():
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in GRAFANA.items():
                expression = expression.replace(name, value)
            found[f"{panel['id']} {panel['title']} {target['refId']}"] = re.sub(
                r"\$(job|instance|upstream|model)\b", ".*", expression
            )
    return found


def rules() -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]
    return loaded


def expressions() -> dict[str, str]:
    return queries() | {rule["alert"]: rule["expr"] for rule in rules()}


def metric_of(series: str) -> Metric:
    """The metric that a series' name belongs to; histograms have three names."""
    name = re.sub(r"_(bucket|sum|count)$", "", series) if series not in BY_NAME else series
    assert name in BY_NAME, f"there is no {series}"
    assert (name == series) is not (BY_NAME[name].type is Type.HISTOGRAM), f"{series} of a histogram"
    return BY_NAME[name]


def selectors(expression: str) -> Iterator[tuple[Metric, set[str]]]:
    """Each metric that an expression reads, with the labels that it selects by."""
    for name, matchers in re.findall(r"\b((?:claude_proxy|process)_\w+)(?:\{([^}]*)\})?", expression):
        yield metric_of(name), set(re.findall(r"(\w+)\s*[=!]", matchers))


@pytest.mark.parametrize("place", expressions())
def test_an_expression_names_metrics_and_labels_that_exist(place: str) -> None:
    expression = expressions()[place]
    labels: set[str] = set()
    for metric, selected in selectors(expression):
        labels |= set(metric.labels)
        assert selected <= {*metric.labels, *FROM_PROMETHEUS}, metric.name
    grouped = {label.strip() for group in re.findall(r"\bby \(([^)]*)\)", expression) for label in group.split(",")}
    assert grouped <= labels | FROM_PROMETHEUS


@pytest.mark.parametrize("place", expressions())
def test_a_counter_is_read_as_what_it_has_grown_by(place: str) -> None:
    """Counters begin at 0 with the process."""
    expression = expressions()[place]
    for metric, _ in selectors(expression):
        bare = re.sub(r"(?:rate|increase) \(|(?:rate|increase)\([^\[]*\[\w+\]\)", "", expression)
        assert metric.type is Type.GAUGE or metric.name not in bare


def test_the_dashboard_shows_every_metric() -> None:
    shown = {metric.name for expression in queries().values() for metric, _ in selectors(expression)}
    assert BY_NAME.keys() - shown == set()


def test_the_dashboard_has_a_row_for_each_question() -> None:
    titles = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert titles == ["Traffic", "Errors", "Tokens and cost", "Latency", "Quota", "Ledger and notices", "Process"]


def test_panels_neither_overlap_nor_share_an_id() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for cell in (
            (x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])
        ):
            assert cell not in taken, f"{panel['title']} over {taken[cell]}"
            taken[cell] = panel["title"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_dashboard_works_with_any_data_source() -> None:
    sources = {json.dumps(panel["datasource"]) for panel in panels()}
    assert sources == {'{"type": "prometheus", "uid": "${datasource}"}'}
    assert DASHBOARD["templating"]["list"][0] | {"name": "datasource", "type": "datasource"} == DASHBOARD["templating"]["list"][0]


def test_each_variable_asks_for_a_label_that_there_is() -> None:
    for variable in DASHBOARD["templating"]["list"][1:]:
        name, label = re.fullmatch(r"label_values\((\w+)(?:\{.*\})?, (\w+)\)", variable["query"]["query"]).groups()  # type: ignore[union-attr]
        assert label == variable["name"]
        assert label in {*BY_NAME[name].labels, *FROM_PROMETHEUS}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_how_bad_it_is_and_has_a_unit_test(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]
    tested = yaml.safe_load((DEPLOY / "prometheus/alerts.test.yml").read_text(encoding="utf-8"))["tests"]
    expected = [case["exp_alerts"] for test in tested for case in test["alert_rule_test"] if case["alertname"] == rule["alert"]]
    assert any(expected)
    assert not all(expected)


def test_compose_mounts_files_that_are_there_and_gives_prometheus_the_token() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    prometheus, grafana = (compose["services"][name] for name in ("prometheus", "grafana"))
    for service in (prometheus, grafana):
        assert service["profiles"] == ["monitoring"]
        for mount in service["volumes"]:
            source = mount.split(":")[0]
            assert (ROOT / source).exists() if source.startswith("./") else source in compose["volumes"]
    (job,) = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    assert job["authorization"]["credentials_file"] == "/run/secrets/admin_token"
    assert prometheus["secrets"] == ["admin_token"]
    assert compose["secrets"]["admin_token"] == {"environment": "ADMIN_TOKEN"}
    assert "ADMIN_TOKEN" in compose["services"]["claude-proxy"]["environment"]
    assert job["static_configs"] == [{"targets": ["claude-proxy:3000"]}]


# -- with the real programs


def promtool(*arguments: str | Path, cwd: Path) -> None:
    done = subprocess.run(["promtool", *arguments], cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_prometheus
@pytest.mark.system
def test_promtool_takes_the_rules_and_their_unit_tests_pass() -> None:
    promtool("check", "rules", RULES, cwd=ROOT)
    promtool("test", "rules", "alerts.test.yml", cwd=RULES.parent)


@needs_prometheus
@pytest.mark.system
def test_promtool_takes_the_configuration(tmp_path: Path) -> None:
    """Its paths are those of the container."""
    (tmp_path / "token").write_text(TOKEN)
    text = (DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8")
    text = text.replace("/etc/prometheus/alerts.yml", str(RULES)).replace("/run/secrets/admin_token", str(tmp_path / "token"))
    (tmp_path / "prometheus.yml").write_text(text)
    promtool("check", "config", "prometheus.yml", cwd=tmp_path)


@needs_prometheus
@pytest.mark.system
def test_promtool_parses_every_query_of_the_dashboard(tmp_path: Path) -> None:
    """As recording rules: this promtool has no command for a single expression."""
    recorded = [{"record": f"query_{number}", "expr": query} for number, query in enumerate(queries().values())]
    assert len(recorded) > 40
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    promtool("check", "rules", "queries.yml", cwd=tmp_path)


@asynccontextmanager
async def front(port: int) -> AsyncIterator[int]:
    """A front proxy, so that a scrape over loopback does not count as this machine's own. Gives its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            upstream, onward = await asyncio.open_connection("127.0.0.1", port)
        except (OSError, EOFError):
            writer.close()
            return
        onward.write(head[:-2] + b"X-Forwarded-For: 192.0.2.7\r\nConnection: close\r\n\r\n")
        writer.write(await upstream.read())
        writer.close()
        onward.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def shortened(folder: Path, target: int) -> Path:
    """The shipped configuration and rules with this target, without the minutes that an alert has to last."""
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    for rule in rules["groups"][0]["rules"]:
        rule.pop("for", None)
    (folder / "alerts.yml").write_text(yaml.safe_dump(rules))
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"}
    config["rule_files"] = [str(folder / "alerts.yml")]
    config["scrape_configs"][0]["authorization"]["credentials_file"] = str(folder / "token")
    config["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{target}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (folder / "token").write_text(TOKEN)
    return folder / "prometheus.yml"


class Prometheus:
    """A running one."""

    def __init__(self, port: int) -> None:
        self._api = f"http://127.0.0.1:{port}/api/v1"

    async def answer(self, path: str, **parameters: str) -> Any:
        async with httpx.AsyncClient(timeout=10) as client:
            return (await client.get(f"{self._api}/{path}", params=parameters)).json()

    async def get(self, path: str, **parameters: str) -> Any:
        return (await self.answer(path, **parameters)).get("data", {})

    async def query(self, expression: str) -> list[float]:
        return [float(result["value"][1]) for result in (await self.get("query", query=expression)).get("result", [])]

    async def firing(self) -> set[str]:
        alerts = (await self.get("alerts")).get("alerts", [])
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


def environment(folder: Path, **more: str) -> dict[str, str]:
    own = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT / "src")}
    return own | {"DATA_DIR": str(folder / "data"), "LOG_FORMAT": "json"} | more


async def call(port: int, sort: Callable[[int], bool]) -> None:
    """One Messages call through the proxy."""
    body = {"model": "glm-5.3", "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    async with httpx.AsyncClient(timeout=20) as client:
        answer = await client.post(f"http://127.0.0.1:{port}/api/anthropic/v1/messages", json=body)
    assert sort(answer.status_code), answer.text


@needs_prometheus
@pytest.mark.system
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no Prometheus")
async def test_an_outage_of_the_upstream_fires_alerts_in_a_real_prometheus(tmp_path: Path) -> None:
    upstream, proxy, web = free_port(), free_port(), free_port()
    simulate = [BIN / "claude-proxy", "simulate", "--port", str(upstream)]
    serve = [BIN / "claude-proxy", "serve", "--port", str(proxy), "--workers", "2"]
    environ = environment(tmp_path, BASE_URL=f"http://127.0.0.1:{upstream}", ADMIN_TOKEN=TOKEN)
    async with front(proxy) as target, running(serve, tmp_path, "proxy", environ=environ) as served:
        command = ["prometheus", f"--config.file={shortened(tmp_path, target)}", f"--web.listen-address=127.0.0.1:{web}"]
        async with (
            running(simulate, tmp_path, "simulator", environ=environment(tmp_path)) as simulator,
            running([*command, f"--storage.tsdb.path={tmp_path / 'tsdb'}"], tmp_path, "prometheus") as scraper,
        ):
            for program, port in ((simulator, upstream), (served, proxy), (scraper, web)):
                await program.until_listening(port)
            prometheus = Prometheus(web)
            await scraper.until(lambda: _equals(prometheus.query('up{job="claude-proxy"}'), [1]))

            async def counted() -> bool:
                await call(proxy, lambda status: status == 200)
                return any(await prometheus.query('increase(claude_proxy_exchanges_total{status_class="2xx"}[1m]) > 0'))

            await scraper.until(counted)
            assert await prometheus.firing() == set()
            await scraper.until(lambda: _equals(prometheus.query("claude_proxy_workers"), [2]))  # a slow scrape leaves a gap
            assert await refused(prometheus) == {}

            simulator.process.terminate()
            await simulator.ended()

            async def alarmed() -> bool:
                await call(proxy, lambda status: status == 503)
                return "ClaudeProxyUpstreamFailing" in await prometheus.firing()

            await scraper.until(alarmed)
            served.process.terminate()
            await served.ended()
            await scraper.until(lambda: _includes(prometheus.firing(), "ClaudeProxyDown"))


async def refused(prometheus: Prometheus) -> dict[str, str]:
    """The dashboard's and the alerts' expressions that Prometheus does not evaluate, with its words."""
    found = {}
    for place, expression in expressions().items():
        answer = await prometheus.answer("query", query=expression)
        if answer.get("status") != "success":
            found[place] = str(answer.get("error"))
    return found


async def _equals(found: Any, expected: list[float]) -> bool:
    return bool(await found == expected)


async def _includes(found: Any, expected: str) -> bool:
    return expected in await found
