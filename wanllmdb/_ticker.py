"""One background thread per run that does small jobs now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

Job = Callable[[], None]


class Ticker:
    """Calls each job at its interval; a job that fails is reported and goes on.

    Args:
        name: The thread's name.
        on_error: Told of what a job raised.
    """

    def __init__(self, name: str, on_error: Callable[[str, BaseException], None]):
        self._name = name
        self._on_error = on_error
        self._jobs: list[tuple[float, Job]] = []
        self._once: list[Job] = []
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def every(self, seconds: float, job: Job) -> None:
        """Add a job; its first call is one interval after the start."""
        self._jobs.append((seconds, job))

    def once(self, job: Job) -> None:
        """Add a job that runs once, right after the start."""
        self._once.append(job)

    def start(self) -> None:
        """Start the thread; it never keeps the process alive.

        Where none can be started (a program that ends, a limit) there is none.
        """
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._on_error(f"starting {self._name}", error)
        else:
            self._thread = thread

    def stop(self, timeout: float) -> None:
        """Ask the thread to end, and wait up to `timeout` seconds for it."""
        self._wake.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _run(self) -> None:
        for job in self._once:  # also of a run that is over already: it is wanted
            self._call(job)
        due = {index: time.monotonic() + s for index, (s, _) in enumerate(self._jobs)}
        while due:
            index = min(due, key=lambda i: due[i])
            if self._wake.wait(max(0.0, due[index] - time.monotonic())):
                return
            seconds, job = self._jobs[index]
            self._call(job)
            due[index] = time.monotonic() + seconds

    def _call(self, job: Job) -> None:
        try:
            job()
        except Exception as error:  # noqa: BLE001 - nothing here may end the thread
            self._on_error(getattr(job, "__name__", "job"), error)
