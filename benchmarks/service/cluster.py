"""A Ray cluster on this machine, with nodes that come and go, for tests and measurements of an engine's pool."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import tempfile
from typing import Self

import psutil

os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # for processes that this one starts, no others
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray.cluster_utils import Cluster

STORE_BYTES = 80 * 1024 * 1024
"""Of a node's object store, about Ray's least: messages pass through it, never a frame."""
WORKER_MODULE = "engine.service.worker"


class Farm:
    """A head that works on nothing, and nodes with room for one worker each."""

    def __init__(self, nodes: int):
        self._folder = os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="fz-ray-")  # short: sockets' paths are
        self._port = _free_port()
        self._start(nodes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        ray.shutdown()
        self._cluster.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def address(self) -> str:
        """Of the head, as `--address` takes it."""
        return self._cluster.address

    def join(self) -> None:
        """One node more."""
        self._nodes.append(self._cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES))

    def lose(self, number: int = 0) -> None:
        """One node less: everything on it is killed at once, as on a machine that loses its power."""
        node = self._nodes.pop(number)
        _kill(_processes(node, "raylet"))
        self._cluster.remove_node(node, allow_graceful=False)

    def lose_head(self) -> None:
        """The head's machine is gone; the nodes have nobody to ask."""
        _kill(_processes(self._cluster.head_node, "gcs_server") + _processes(self._cluster.head_node, "raylet"))

    def bring_head_back(self) -> None:
        """A new head at the old address, which knows nothing; the nodes join it anew."""
        count = len(self._nodes)
        with contextlib.suppress(Exception):  # Ray's own tidying up asks the head
            self._cluster.shutdown()
        self._start(count)

    def workers(self) -> list[psutil.Process]:
        """The engine's worker processes on all nodes."""
        return [one for node in self._nodes for one in _processes(node, "raylet") if _runs(one, WORKER_MODULE)]

    def actors(self) -> list[psutil.Process]:
        """The processes that stand between Ray and the workers."""
        return [one for node in self._nodes for one in _processes(node, "raylet") if _runs(one, "ray::Host")]

    def stored_bytes(self) -> int:
        """What the nodes' object stores hold."""
        if not ray.is_initialized():
            ray.init(address=self.address, log_to_driver=False)
        found = ray.available_resources(), ray.cluster_resources()
        return round(found[1].get("object_store_memory", 0) - found[0].get("object_store_memory", 0))

    def _start(self, nodes: int) -> None:
        head = dict(num_cpus=0, object_store_memory=STORE_BYTES, include_dashboard=False, gcs_server_port=self._port)
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self._nodes = []
        for _ in range(nodes):
            self.join()


def _processes(node, name: str) -> list[psutil.Process]:
    """A process of a node, and all that it has started."""
    found = []
    for info in node.all_processes.get(name, []):
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(info.process.pid)
            found += [process, *process.children(recursive=True)]
    return found


def _runs(process: psutil.Process, what: str) -> bool:
    try:
        return what in " ".join(process.cmdline())
    except psutil.Error:
        return False


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
