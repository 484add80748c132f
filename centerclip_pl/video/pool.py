"""Many questions to a few processes that may be killed, in any order."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from centerclip_pl.video.child import Child

_Task = TypeVar("_Task")
_Answer = TypeVar("_Answer")


def ask_all(
    tasks: Sequence[_Task],
    command: Sequence[str],
    ask: Callable[[Child, _Task], _Answer],
    processes: int,
    *,
    waiting: int = 0,
) -> Generator[_Answer, None, None]:
    """Share tasks out among processes, each served by a thread; give the answers as they come.

    Closing the generator, as an error in the loop around it does, ends all processes at once.

    Args:
        tasks: what is to be asked.
        command: of a process, see :class:`~centerclip_pl.video.child.Child`.
        ask: what is done with a task, in a thread; its exceptions are raised here.
        processes: how many; no more are started than there are tasks.
        waiting: answers that may wait to be taken, beside one for each process; 0: any number.

    Raises:
        RuntimeError: a process cannot be started at all.
    """
    pending: queue.SimpleQueue[_Task] = queue.SimpleQueue()
    for task in tasks:
        pending.put(task)
    done: queue.Queue[_Answer | Exception] = queue.Queue(waiting)
    stop = threading.Event()

    def serve(child: Child) -> None:
        try:
            while not stop.is_set():
                try:
                    task = pending.get_nowait()
                except queue.Empty:
                    return
                done.put(ask(child, task))
        except Exception as error:  # handed to the caller's thread, which raises it
            done.put(error)
        finally:
            child.kill()

    children = [Child(command) for _ in range(min(processes, len(tasks)))]
    threads = [threading.Thread(target=serve, args=(child,), daemon=True) for child in children]
    for thread in threads:
        thread.start()
    try:
        for _ in tasks:
            answer = done.get()
            if isinstance(answer, Exception):
                raise answer
            yield answer
    finally:
        stop.set()
        for child in children:
            child.interrupt()
        while any(thread.is_alive() for thread in threads):  # one may wait for room in the queue
            try:
                done.get(timeout=0.05)
            except queue.Empty:
                continue
