"""Long work (`Prefer: respond-async`): jobs that outlive their request and a kill -9.

Layers, from the top: `desk` (hand in, ask, fetch, cancel) > `runner` (works) > `plan | shelf | watch` (what a table
needs; the folder off the event loop; following) > `files | locks | store` (a job's files; who works; the list) > `job`.
"""

from app.jobs.desk import Jobs
from app.jobs.job import Job, State

__all__ = ["Job", "Jobs", "State"]
