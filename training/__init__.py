"""Jaguar re-ID, the tool: turns photos with names into a model bundle. Offline; imports `app.reid` only."""
