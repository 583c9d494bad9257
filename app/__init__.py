"""Jaguar re-ID, the product: the service around the engine in `app.reid`."""

import os

# The official ONNX Runtime builds report their use to Microsoft unless this is set before they are first imported; a
# service that looks at other people's photos asks nobody outside for anything. Whoever sets it otherwise is obeyed.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
