"""Talking to an engine, in a thread of its own that never touches bpy.

Blender's side calls methods that return at once, and drains `events`. What is asked for stays asked for while the
connection is lost: the thread connects again, starts a local engine again, and goes on.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

from . import events, mask_files
from .early import Early
from .followed import LOOK_UP, Followed
from .landing import Landing
from .link import ABSENT, Link, breaks
from .orders import Order
from .places import Local, Place
from .protocol.errors import ProtocolError
from .protocol.messages import JobStatus
from .standing import Standing
from .tasks import Cancelled, PutOff, Task, drop
from .tries import Tries
from .trouble import Trouble, as_is, told, waits
from .uploads import Ahead, Uploads

_FULL = {"queue-full", "store-full", "disk-full"}
"""The engine has no room for a job, which time may mend."""
LASTING = 20.0
"""Seconds after which a connection counts as one that holds."""


class Client:
    """The way to the engine at `place`. Every method returns at once."""

    def __init__(self, place: Place, early: Path):
        """`early` is a folder for frames of results that are not whole yet; made when it is needed, and removed."""
        self.link = Link(place)
        self.events: queue.SimpleQueue[events.Event] = queue.SimpleQueue()
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._put_off: deque[Callable[[], None]] = deque()
        self._closing, self._stopping = threading.Event(), threading.Event()
        self.standing = Standing()
        self._cancelled: set[str] = set()
        self._wanted = self._was_there = False
        self._tries = Tries()
        self._requests: deque[Task] = deque()
        self._transfers: deque[Task] = deque()
        self._no_room = PutOff()
        self._uploads, self._early = Uploads(), Early(early)
        self._unsent: set[str] = set()
        self._followed = Followed()
        self._thread = threading.Thread(target=self._run, name="FateZero client", daemon=True)
        self._thread.start()

    @property
    def place(self) -> Place:
        """Where the engine is."""
        return self.link.place

    def start(self) -> None:
        """Have the engine running and connected, now and until `stop`."""
        self._commands.put(self._want)

    def submit(self, order: Order) -> None:
        """Send a job, and follow it."""
        self._commands.put(partial(self._add_order, order))

    def send_ahead(self, ahead: Ahead) -> None:
        """Send what is added to it, whenever there is nothing else to do."""
        self._commands.put(partial(self._uploads.take, ahead))

    def follow(self, job_id: str) -> None:
        """Say how a job stands that the engine has."""
        self._commands.put(partial(self._follow, job_id))

    def change(self, job_id: str, how: str, *arguments: str) -> None:
        """`pause`, `resume` or `retry` a job, or `move` it before another one, whose id is given."""
        self._ask_for(job_id, partial(self._change, job_id, how, *arguments))

    def tell(self, job_id: str, what: str) -> None:
        """Let the engine know that the job's result is `taken`, or that it may `forget` the job; `Told` follows."""
        self._ask_for(job_id, partial(self._tell, job_id, what))

    def fetch(self, job_id: str, landing: Landing, masks: mask_files.About) -> None:
        """Bring a finished job's result here; of its masks, if it has any, comes a set."""
        self._commands.put(partial(self._transfers.append, Task(job_id, partial(self._fetch, job_id, landing, masks))))

    def cancel(self, job_id: str, landing: Landing | None) -> None:
        """End a job wherever it is, and remove what has arrived of it; `JobLost` follows, and at last `Told`.

        Where the engine does not do it, `Refused` follows, and it is followed as before.
        """
        self._cancelled.add(job_id)
        self._commands.put(partial(self._cancel, job_id, landing))

    def use(self, place: Local) -> None:
        """Take over what has changed about the same engine's place: how it is started, and when it shall end."""
        self.link.place = place
        self._ask_for("", self.link.say_when_alone)

    def rest(self) -> None:
        """Have the engine free the memory that it holds; `EngineHolds` follows, or `Refused`."""
        self._ask_for("", self.link.rest)

    def stop(self) -> None:
        """End the engine where it is a local one, else the connection; its jobs wait for the next `start`."""
        self._stopping.set()
        self._commands.put(self._stop)

    def close(self) -> None:
        """Let go of the engine, and wait for that, of one elsewhere not long: for when Blender ends or the add-on is disabled."""
        self.leave()
        self._thread.join(10.0 if isinstance(self.place, Local) else 2.0)

    def leave(self) -> None:
        """The same without waiting: for when another engine is used from now on."""
        self._closing.set()
        self.standing.go()
        self._commands.put(self._stand_if_asked)  # whatever wakes the thread

    def _ask_for(self, job_id: str, do: Callable[[], None]) -> None:
        self._commands.put(partial(self._requests.append, Task(job_id, do)))

    # From here on everything runs in the thread.

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._turn()
            except Cancelled:
                pass  # a command says more
            except ProtocolError as error:
                self._lost(error)
            except Exception as error:  # noqa: BLE001  Blender's side waits for word, whatever happens here
                self._give_up(told(error))
        self.link.close()
        self._early.close()

    def _turn(self) -> None:
        """Take in a command, or else do one thing for the jobs."""
        self._stand_if_asked()
        connected = self.link.connection is not None
        self._transfers += self._no_room.due()
        tasks, ahead, early = self._requests or self._transfers, self._uploads.waiting, self._early.waiting
        busy = connected and (tasks or ahead or early)
        try:
            self._next_command(0.0 if busy else self._followed.patience if connected else LOOK_UP)()
            return
        except queue.Empty:
            pass
        if connected:
            if tasks:
                self._do(tasks)
            elif ahead:
                ahead.send_some(self.link.aside(self._beside, ahead.stop_if_over), self._stop_if_unwanted)
            elif early:
                connection = self.link.aside(self._beside, partial(self._early.stop_if_dropped, early))
                self._early.fetch_some(early, connection, partial(self._stop_if_unwanted, early))
            elif not self._uploads.open:
                self.link.end_aside()
            self._watch()
        elif self._wanted and self._tries.due:
            self._connect()

    def _next_command(self, timeout: float) -> Callable[[], None]:
        return self._put_off.popleft() if self._put_off else self._commands.get(timeout=timeout)

    def _beside(self, job_id: str = "") -> None:
        """Between the chunks of a job's transfer: do all else that is asked for, unless that ends the transfer."""
        self._stop_if_unwanted(job_id)
        with contextlib.suppress(queue.Empty):
            while True:
                self._put_off.append(self._next_command(0.0))
                self._stop_if_unwanted(job_id)  # what says more must find the transfer over
                self._put_off.popleft()()
        while self._requests:
            self._do(self._requests)
        self._watch()

    # What commands leave behind.

    def _want(self) -> None:
        self._wanted = True

    def _add_order(self, order: Order) -> None:
        self._want()
        self._unsent.add(order.job_id)
        self._transfers.append(Task(order.job_id, partial(self._submit, order)))

    def _follow(self, job_id: str) -> None:
        self._want()
        self._followed.add(job_id)

    def _cancel(self, job_id: str, landing: Landing | None) -> None:
        self._cancelled.add(job_id)
        self._drop_tasks({job_id})
        self._unsent.discard(job_id)
        if landing:
            landing.discard()
        if not self.link.connection:
            self._lose(job_id, None)
        self._requests.append(Task(job_id, partial(self._forget, job_id)))

    def _stop(self) -> None:
        self.link.stop()
        self._stopping.clear()
        self._rest(None)

    # What needs the engine.

    def _connect(self) -> None:
        if not self._tries.count:
            self.events.put(events.EngineChanged("starting"))
        self.link.connect(self._stop_if_unwanted)
        self._was_there = True
        self._requests.appendleft(Task("", self.link.say_when_alone))
        self._followed.ask_all_anew()
        self.events.put(events.EngineChanged("ready", self.link.welcome))

    def _do(self, tasks: deque[Task]) -> None:
        """Do the first task; it stays the first if the connection is lost."""
        task = tasks.popleft()
        try:
            task.do()
        except Cancelled:
            if task.job_id not in self._cancelled:
                tasks.appendleft(task)
                raise
        except ProtocolError as error:
            if breaks(error):
                tasks.appendleft(task)
                raise
            trouble = told(error)
            if error.refused and error.code in _FULL and task.job_id in self._unsent:
                self._no_room.add(task)
                self.events.put(events.Refused(task.job_id, waits(trouble)))
            elif task.job_id in self._unsent or error.code == "no-such-job":
                self._lose(task.job_id, trouble)
            else:
                self.events.put(events.Refused(task.job_id, trouble))

    def _submit(self, order: Order) -> None:
        self._stop_if_unwanted(order.job_id)
        with self.link.for_transfer(partial(self._beside, order.job_id)) as connection:
            report, beside = partial(self._report, events.Sending, order.job_id), partial(self._beside, order.job_id)
            status = order.send(connection, report, beside)
        self._unsent.discard(order.job_id)
        self._follow(order.job_id)
        self.events.put(events.Sent(order.job_id))
        self.events.put(events.JobChanged(status))

    def _change(self, job_id: str, how: str, *arguments: str) -> None:
        status = getattr(self.link.connection, how)(job_id, *arguments)
        self._follow(job_id)
        self.events.put(events.JobChanged(status))

    def _fetch(self, job_id: str, landing: Landing, masks: mask_files.About) -> None:
        self._stop_if_unwanted(job_id)
        try:
            with self.link.for_transfer(partial(self._beside, job_id)) as connection:
                report, ahead = partial(self._report, events.Fetching, job_id), self._early.folder_of(job_id)
                fetched = connection.fetch(job_id, landing.open(), report, ahead=ahead)
            mask_set = mask_files.keep(fetched, landing.open(), masks)
            folder = landing.show()
        except Cancelled:
            raise
        except Exception as error:  # whatever it is, the job is not one that is being fetched any more
            if isinstance(error, ProtocolError) and (breaks(error) or error.code == "no-such-job"):
                raise
            self.events.put(events.NotFetched(job_id, told(error)))
            return
        self._followed.discard(job_id)
        self._early.drop(job_id)
        self.events.put(events.Arrived(job_id, folder, len(fetched.frames), self.link.welcome.engine, mask_set))

    def _forget(self, job_id: str) -> None:
        try:
            self.link.connection.forget(job_id)
        except ProtocolError as error:
            if not breaks(error):  # it goes on there, and is to be seen
                self._cancelled.discard(job_id)
                self._follow(job_id)
            raise
        self._lose(job_id, None)
        self.events.put(events.Told(job_id))

    def _tell(self, job_id: str, what: str) -> None:
        self._followed.discard(job_id)
        try:
            getattr(self.link.connection, what)(job_id)
        except ProtocolError as error:
            if error.code != "no-such-job":
                raise
        self.events.put(events.Told(job_id))

    def _watch(self) -> None:
        """Pass on what the engine says, and notice if it ends."""
        self.link.check()
        if self.link.age > LASTING:
            self._tries.forget()
        for status in self.link.connection.events():
            if not self._followed.open(status.job_id):
                pass  # one that came while `_ask` heard of its end is old
            elif status.final:
                self._followed.add(status.job_id)  # ask: an event has no blobs
            else:
                self._hear(status)
        for seen, pictures in self.link.connection.previews():
            if seen.job_id in self._followed:
                preview = events.Preview(list(pictures), seen.frames, seen.step, seen.steps)
                self.events.put(events.Previewed(seen.job_id, preview))
        if job_id := self._followed.due:
            self._ask(job_id)
        if held := self.link.held():
            self.events.put(events.EngineHolds(*held))

    def _ask(self, job_id: str) -> None:
        self._followed.asked(job_id)
        try:
            status = self.link.connection.status(job_id, preview=True)
        except ProtocolError as error:
            if breaks(error):
                raise
            self._lose(job_id, told(error))
            return
        if status.state == "failed":
            self._lose(job_id, as_is(status.error.sentence, status.error.remedy))
        elif status.state == "cancelled":
            self._lose(job_id, None)
        else:
            if status.state == "done":
                self._followed.done(job_id)
            self._hear(status)

    def _hear(self, status: JobStatus) -> None:
        """How a job stands that has not gone wrong."""
        if not isinstance(self.link.place, Local):  # on this machine it would save nothing but to write frames twice
            self._early.heard(status)
        self.events.put(events.JobChanged(status))

    def _report(self, kind: type, job_id: str, done: int, total: int) -> None:
        self._stop_if_unwanted(job_id)
        self.events.put(kind(job_id, done, total))

    def _stand_if_asked(self) -> None:
        if not self._closing.is_set():
            self.standing.stand_if_asked()

    def _stop_if_unwanted(self, job_id: str = "") -> None:
        self._stand_if_asked()
        if job_id in self._cancelled or self._stopping.is_set() or self._closing.is_set():
            raise Cancelled

    # What goes wrong.

    def _lose(self, job_id: str, trouble: Trouble | None) -> None:
        self._followed.discard(job_id)
        self._unsent.discard(job_id)
        self._early.drop(job_id)
        self.events.put(events.JobLost(job_id, trouble))

    def _lost(self, error: ProtocolError) -> None:
        """The engine is not there, or no more: try again where that may help."""
        trouble = self.link.lose(error)
        self._tries.failed()
        if isinstance(self.link.place, Local):
            again = error.code != "version-mismatch" and not self._tries.over
        else:
            again = error.code in ABSENT and (self._was_there or bool(self._followed))
        if not again:
            self._give_up(trouble)
            return
        self.events.put(events.EngineChanged("lost", trouble=trouble))

    def _give_up(self, trouble: Trouble) -> None:
        """There will be no engine until `start`."""
        self.link.abandon()
        self._rest(trouble)

    def _rest(self, trouble: Trouble | None) -> None:
        """Do nothing until `start`. Where that is for a trouble, what the engine has not got yet is lost for it."""
        self._wanted = self._was_there = False
        self._tries.forget()
        unsent = set(self._unsent) if trouble else set()
        self._drop_tasks(unsent)
        for job_id in unsent:
            self._lose(job_id, trouble)
        self.events.put(events.EngineChanged("off", trouble=trouble))

    def _drop_tasks(self, jobs: set[str]) -> None:
        drop(self._requests, jobs)
        drop(self._transfers, jobs)
        self._no_room.drop(jobs)
