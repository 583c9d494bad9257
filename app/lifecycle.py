"""A service from its start to its end: another bundle while it runs, and a way out on which nothing is lost."""

import asyncio
import logging
import os
import signal
import time
from types import FrameType

import uvicorn

from app.admission import Door
from app.errors import BundleRefusedError, DrainingError
from app.jobs import Jobs
from app.reid.embedder import LoadedModel
from app.reid.errors import BundleError
from app.settings import Settings
from app.workers import Workers, load_served

STUCK_STATUS = 70  # EX_SOFTWARE of sysexits.h: for whatever starts the service again

logger = logging.getLogger(__name__)


class Lifecycle:
    """What happens to a running service from outside."""

    def __init__(self, settings: Settings, workers: Workers, door: Door, jobs: Jobs) -> None:
        """Over the parts of one service."""
        self._settings = settings
        self._workers, self._door, self._jobs = workers, door, jobs
        self._reloading = asyncio.Lock()
        self._drain_until: float | None = None

    async def reload(self) -> LoadedModel:
        """Loads the bundle again and serves it. What was asked before is answered with the former one.

        Raises:
            BundleRefusedError: it cannot be served; the former one stays.
        """
        async with self._reloading:
            try:
                model = await asyncio.to_thread(load_served, self._settings)
            except BundleError as error:
                sentence = str(error).replace(str(self._settings.bundle_folder), self._settings.bundle_folder.name)
                logger.error("the bundle was not replaced: %s", sentence)  # noqa: TRY400 - the sentence says it all
                raise BundleRefusedError(sentence) from error
            logger.info("model_version %s is served instead of %s", model.version, self._workers.model.version)
            self._workers.model = model
            return model

    async def watch(self) -> None:
        """Runs beside the service: photos that are overdue, and a network that never answers again."""
        await self._workers.watch(self._settings.stuck_exit_s, self._end_stuck)

    @property
    def draining(self) -> bool:
        """Whether the service is on its way out."""
        return self._drain_until is not None

    def check_open(self) -> None:
        """Raises DrainingError where the service is on its way out."""
        if self.draining:
            raise DrainingError("The service is going down.")

    def drain(self) -> None:
        """Takes no new work from now on; may be called from a signal handler. A second call ends the grace."""
        grace_s = 0.0 if self.draining else self._settings.grace_s
        self._door.draining = True
        self._drain_until = time.monotonic() + grace_s

    def drained(self) -> bool:
        """Whether the service can be ended: nothing is under way any more. Past the grace, what is gets its 503."""
        if self._drain_until is None:
            return False
        self._jobs.close_watchers()
        if time.monotonic() > self._drain_until:
            self._door.end_all()
        return self._door.inside == 0

    def _end_stuck(self) -> None:
        logger.critical("a photo has kept its thread for more than %g s", self._settings.stuck_exit_s)
        logging.shutdown()
        os._exit(STUCK_STATUS)


class Server(uvicorn.Server):
    """uvicorn that asks the service before it goes, and reloads the bundle on SIGHUP."""

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle) -> None:
        """Serves what `config` names; `lifecycle` belongs to that."""
        super().__init__(config)
        self._lifecycle = lifecycle
        self._reload_asked = False
        self._reloads: set[asyncio.Task[None]] = set()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - all signals mean the same
        """The first signal closes the door; the second one waits for nobody. Being asked to stop is no failure."""
        if self._lifecycle.draining:
            self.should_exit = True
        self._lifecycle.drain()

    def run_until_ended(self) -> None:
        """Serves until it is asked to stop."""
        signal.signal(signal.SIGHUP, self._handle_hangup)
        self.run()

    async def on_tick(self, counter: int) -> bool:
        """uvicorn's ten looks a second."""
        drained = self._lifecycle.drained()
        if self._reload_asked:
            self._reload_asked = False
            task = asyncio.create_task(self._reload())
            self._reloads.add(task)
            task.add_done_callback(self._reloads.discard)
        return await super().on_tick(counter) or drained

    def _handle_hangup(self, *_: object) -> None:
        self._reload_asked = True

    async def _reload(self) -> None:
        try:
            await self._lifecycle.reload()
        except BundleRefusedError:
            return  # it was logged, and there is nobody to tell
