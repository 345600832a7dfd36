"""The workers that an engine has at its pool's places."""

from __future__ import annotations

import logging
import threading

from .pool import AnyWorker, Pool
from .store import Store, cannot_store

log = logging.getLogger(__name__)


class Crew:
    """Workers by their places: started when they are needed, and replaced when they have ended."""

    def __init__(self, pool: Pool, store: Store):
        self.pool, self._store = pool, store
        self._workers: dict[str, AnyWorker] = {}
        self._devices: dict[str, str] = {}
        self._device_memory: dict[str, int] = {}

    def __getitem__(self, place: str) -> AnyWorker:
        return self._workers[place]

    @property
    def device(self) -> str | None:
        """What workers compute on, once they have loaded a model; of several, how many they are; or why there is none."""
        if self.pool.trouble:
            return self.pool.trouble
        names, count = ", ".join(sorted(set(self._devices.values()))), len(self.pool.places)
        return f"{names or 'auto'} ({count} workers)" if count > 1 else names or None

    def ready(self, place: str) -> AnyWorker:
        """The worker at that place, started if there is none; `ProtocolError` where it cannot be."""
        if place not in self._workers:
            try:
                self._workers[place] = self.pool.start(place)
            except OSError as error:
                raise cannot_store(error) from error
            log.info("worker started", extra={"worker": self._workers[place].pid, "place": place})
        return self._workers[place]

    def warm(self) -> None:
        """Have a worker load its modules before there is work."""
        for place in self.pool.places[:1]:
            self.ready(place)

    def place_of(self, worker: AnyWorker) -> str | None:
        """Where that worker is; None where it was replaced."""
        return next((place for place, one in self._workers.items() if one is worker), None)

    def computes_on(self, place: str, device: str) -> None:
        """A worker has said on what."""
        self._devices[place] = device

    def holds(self, place: str, device_memory: int) -> None:
        """A worker has said how much of its device's own memory it keeps, in bytes."""
        self._device_memory[place] = device_memory

    def held(self) -> tuple[int, int]:
        """Bytes that all workers hold of this computer's memory and, when last they told, of their devices' own."""
        return sum(worker.memory() for worker in self._workers.values()), sum(self._device_memory.values())

    def replace(self, place: str) -> int | None:
        """End the worker at that place, if it has not ended; its exit code, None where its machine is lost."""
        worker = self._workers.pop(place)
        code = worker.end()
        self._devices.pop(place, None)
        self._device_memory.pop(place, None)
        self._store.sweep(f"result-{worker.name}-*")
        log.warning("worker ended", extra={"worker": worker.pid, "code": code})
        return code

    def rest(self) -> None:
        """End all workers, which frees all that they hold; others are started when they are needed."""
        ends = [threading.Thread(target=worker.end) for worker in self._workers.values()]
        for each in ends:
            each.start()
        for each in ends:
            each.join()
        self._workers, self._devices, self._device_memory = {}, {}, {}

    def close(self) -> None:
        """End all workers, and the pool."""
        self.rest()
        self.pool.close()
