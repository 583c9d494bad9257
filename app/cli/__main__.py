"""`python -m app.cli`: the same as the console script."""

from app.cli import app

app()
