"""The graph that ships: ONNX export, parity with torch, latency."""

from parapet.deployment.export import export
from parapet.deployment.latency import measure_latency
from parapet.deployment.parity import ParityError, check_parity
from parapet.deployment.runtime import predict, session

__all__ = ["ParityError", "check_parity", "export", "measure_latency", "predict", "session"]
