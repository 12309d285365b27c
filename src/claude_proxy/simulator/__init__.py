"""A scripted Anthropic API: for tests, the demo, benchmarks and fault rehearsal.

async with Simulator(Scenario("text", text="Hello")) as sim:
    ...                                  # talk to sim.base_url
    assert sim.requests[0].method == "POST"
"""

from . import faults
from .presets import PRESETS, ScriptError, named
from .recorded import Recorded
from .run import serve
from .scenario import Fault, Scenario, ToolCall, Usage, error, raw
from .script import Script, load
from .server import Simulator

__all__ = [
    "PRESETS",
    "Fault",
    "Recorded",
    "Scenario",
    "Script",
    "ScriptError",
    "Simulator",
    "ToolCall",
    "Usage",
    "error",
    "faults",
    "load",
    "named",
    "raw",
    "serve",
]
