"""What is read from /proc, and how servers are started and stopped."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import contenders, processes, profiling

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads /proc")

# Uses 0.2 s of CPU in a child it waits for and 0.2 s in one that lives on, then says so.
PARENT = """\
import subprocess, sys, time
burn = "import time\\nwhile time.process_time() < 0.2: pass\\nprint(1, flush=True)\\n"
subprocess.run([sys.executable, "-c", burn], stdout=subprocess.DEVNULL)
child = subprocess.Popen([sys.executable, "-c", burn + "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
input()
"""


def test_a_tree_s_cpu_time_has_living_and_ended_children() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert processes.tree(parent.pid) == [parent.pid, child]
        assert 0.4 <= processes.cpu_seconds(parent.pid) < 2
        assert processes.memory(parent.pid)[0] > processes.memory(child)[0] > 1_000_000
        parent.kill()


def test_own_cpu_time_is_read_as_the_process_sees_it() -> None:
    before = time.process_time()
    assert before <= processes.cpu_seconds(os.getpid()) - processes._reaped(os.getpid()) <= time.process_time()


def test_pinning_ends_with_its_block() -> None:
    before = os.sched_getaffinity(0)
    with processes.on_core(min(before)):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before


def test_a_server_that_ends_at_once_is_named_with_the_end_of_its_log() -> None:
    failing = contenders.claude_proxy(f"{sys.executable} -c 'raise SystemExit(\"no upstream today\")'")
    with pytest.raises(contenders.StartError, match=r"ended(.|\n)*no upstream today"), contenders.running(failing, 1, core=0):
        pass


def test_a_server_gets_the_settings_and_nothing_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://example.invalid")
    launch = contenders.claude_proxy("serve", KEEPALIVE_EXPIRY="1").prepare(tmp_path, 3000, 4000)
    assert launch.env["BASE_URL"] == "http://127.0.0.1:4000/api/anthropic"
    assert (launch.env["PORT"], launch.env["KEEPALIVE_EXPIRY"]) == ("3000", "1")
    assert "HTTPS_PROXY" not in contenders._environment(tmp_path, launch.env)


def test_the_mock_ends_with_its_block() -> None:
    with contenders.mock_upstream(processes.cores()[1]) as (port, pid):
        assert contenders.answers(port)
        assert Path(f"/proc/{pid}").exists()
    assert not Path(f"/proc/{pid}").exists()
    assert not contenders.answers(port)


def test_the_profiler_sees_only_what_runs_between_the_signals(tmp_path: Path) -> None:
    script, stats = tmp_path / "script.py", tmp_path / "stats"
    script.write_text(
        "import os, signal\n"
        "def before(): pass\n"
        "def between(): pass\n"
        "before()\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
        "for _ in range(10): between()\n"
        "os.kill(os.getpid(), signal.SIGUSR2)\n"
    )
    subprocess.run([sys.executable, str(profiling.DRIVER), str(stats), str(script)], check=True)
    calls = {function.name.rpartition(" ")[2]: function.calls for function in profiling.spent(stats, exchanges=5)}
    assert calls["between"] == 2
    assert "before" not in calls


STARTER = """\
import time
from benchmarks import contenders, processes
processes.end_in_order()
with contenders.mock_upstream(processes.cores()[1]) as (port, pid):
    print(pid, flush=True)
    time.sleep(60)
"""


def test_a_terminated_run_takes_its_servers_along() -> None:
    with subprocess.Popen([sys.executable, "-c", STARTER], cwd=contenders.ROOT, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        mock = int(run.stdout.readline())
        run.terminate()
        assert run.wait(20) == 128 + 15
    assert not Path(f"/proc/{mock}").exists()
