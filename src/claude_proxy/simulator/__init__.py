"""A scripted Anthropic API: for tests, the demo, benchmarks and fault rehearsal.

async with Simulator(Scenario("text", text="Hello")) as sim:
    ...                                  # talk to sim.base_url
    assert sim.requests[0].method == "POST"
"""

from . import faults
from .presets import PRESETS, ScriptError, named
from .recorded import Recorded
from .refusals import REFUSALS, Refusal, refusal
from .run import serve
from .scenario import Fault, Scenario, ToolCall, Usage, error, raw
from .script import Script, load
from .server import Simulator
from .stage import Phase, Stage

__all__ = [
    "PRESETS",
    "REFUSALS",
    "Fault",
    "Phase",
    "Recorded",
    "Refusal",
    "Scenario",
    "Script",
    "ScriptError",
    "Simulator",
    "Stage",
    "ToolCall",
    "Usage",
    "error",
    "faults",
    "load",
    "named",
    "raw",
    "refusal",
    "serve",
]
