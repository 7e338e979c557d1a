"""A server on loopback that speaks as real providers do and fails as they do: `script` says what it plays, `bodies` how
providers lay out what a model said, `http` puts bytes on the wire and cuts them, `batches` plays batch endpoints, and
`server` runs it all in a thread or as a process of its own (`python -m tests.faults`)."""

from tests.faults.batches import BatchPlan
from tests.faults.script import Limit, Outage, Rule, Script, Step
from tests.faults.server import FaultServer, Recorded, ServerProcess, fault_server, refused_url, spawn_fault_server

__all__ = [
    "BatchPlan",
    "FaultServer",
    "Limit",
    "Outage",
    "Recorded",
    "Rule",
    "Script",
    "ServerProcess",
    "Step",
    "fault_server",
    "refused_url",
    "spawn_fault_server",
]
