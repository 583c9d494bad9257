"""`python -m training`: the same as `jaguar-train`."""

from training.cli import app

app(prog_name="jaguar-train")
