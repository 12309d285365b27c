"""Claude Code through TLS, a front and a stripped prefix."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_proxy.simulator import Simulator
from tests.claude_code import ALLOWED, each_version, environment, furnish, needed, prompted
from tests.deploy.fronts import FRONTS, Certificate, front
from tests.deploy.servers import PREFIX, server

pytestmark = [pytest.mark.system, needed]


@each_version
@pytest.mark.parametrize("name", FRONTS)
async def test_a_tool_loop_through_tls_and_a_stripped_prefix(
    name: str, simulator: Simulator, tmp_path: Path, program: str
) -> None:
    certificate = Certificate.make(tmp_path)
    (tmp_path / "front").mkdir()
    home, work = furnish(tmp_path)
    async with (
        server("serve", tmp_path, simulator.base_url) as started,
        front(name, tmp_path / "front", certificate, started.port, "localhost") as before,
    ):
        base_url = f"https://localhost:{before.https}{PREFIX}/api/anthropic"
        environ = environment(base_url, home, NODE_EXTRA_CA_CERTS=str(tmp_path / "ca.pem"))
        run = await prompted(program, "use Read on a.txt", *ALLOWED, environ=environ, work=work, limit=60)
    assert (run.returncode, "apple" in run.result["result"]) == (0, True), run
    assert [(one.path, one.status) for one in simulator.requests] == [("/api/anthropic/v1/messages", 200)] * 2
