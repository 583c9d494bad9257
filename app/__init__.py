"""Jaguar re-ID, the product: the service around the engine in `app.reid`."""
