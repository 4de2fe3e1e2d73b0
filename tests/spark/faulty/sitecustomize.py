"""What goes wrong in one attempt of a task, for tests/spark/faults.rs: Python imports this module when it starts.

DEFENDER_TEST_FAULT says what, DEFENDER_TEST_MARKS names a folder in which a file says that it was done.
"""

import os
import signal
import threading
import time
from pathlib import Path

# Longer than any test waits.
FOREVER_SECS = 600


def first(name):
    """Whether nobody was here before, on any executor."""
    try:
        Path(os.environ["DEFENDER_TEST_MARKS"], name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def kill(pid):
    os.kill(pid, signal.SIGKILL)


def executor():
    """The JVM of this worker: the parent of the process that forked it."""
    status = Path(f"/proc/{os.getppid()}/status").read_text()
    return int(status.split("\nPPid:")[1].split()[0])


def soon(pid):
    """Kills a process while this one fetches a part: the emulator takes its time."""
    first("began")
    threading.Timer(1, kill, [pid]).start()


def fail(write, assignment):
    write(assignment)
    raise RuntimeError("a fault of the test, after the write")


def kill_worker(write, assignment):
    soon(os.getpid())
    return write(assignment)


def kill_worker_after(write, assignment):
    write(assignment)
    kill(os.getpid())


def kill_executor(write, assignment):
    soon(executor())
    return write(assignment)


def be_slow(write, assignment):
    """Until another attempt has won and the job has ended, or this one is killed."""
    report = write(assignment)
    first("began")
    time.sleep(FOREVER_SECS)
    return report


FAULTS = {function.__name__: function for function in (fail, kill_worker, kill_worker_after, kill_executor, be_slow)}

if "DEFENDER_TEST_FAULT" in os.environ:
    from defender_lake import _native

    _write, _faulty = _native.write_portion, FAULTS[os.environ["DEFENDER_TEST_FAULT"]]
    _native.write_portion = lambda assignment: _faulty(_write, assignment) if first("fault") else _write(assignment)
