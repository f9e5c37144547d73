"""The deployed graph: ONNX export, parity with torch, quantisation, latency, HTTP server."""

from parapet.deployment.export import check_identity, export, read_metadata
from parapet.deployment.footprint import footprint
from parapet.deployment.graph_model import GraphModel
from parapet.deployment.latency import measure_latency
from parapet.deployment.parity import ParityError, check_parity
from parapet.deployment.quantization import quantize
from parapet.deployment.runtime import predict, session

__all__ = ["GraphModel", "ParityError", "check_identity", "check_parity", "export", "footprint", "measure_latency",
           "predict", "quantize", "read_metadata", "session"]
