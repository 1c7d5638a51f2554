"""A process that answers one line with one line, within a deadline: for checks that may hang, crash or never end.

The caller's threads and signals play no part in it, so a run may score from any thread.
"""

import os
import select
import subprocess
import sys
import threading
from pathlib import Path

START_S = 120.0


class Worker:
    """A script run in a process of its own, started at the first question and anew after each failure.

    The script is called as `python SCRIPT TIMEOUT_S`, writes one line when it is ready, and then one line for each line
    it reads. It ends when its input does.

    Args:
        script: a file that imports nothing of ours.
        timeout_s: seconds for one answer; starting is not counted.
    """

    def __init__(self, script: Path, timeout_s: float) -> None:
        self.script = script
        self.timeout_s = timeout_s
        self.failures = 0
        self.forget()

    def forget(self) -> None:
        """Begin without a process, in the process that this one is now."""
        self.owner = os.getpid()
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None

    def __reduce__(self) -> tuple[type["Worker"], tuple[Path, float]]:
        """Return how a copy in another process is made: one that starts a process of its own."""
        return Worker, (self.script, self.timeout_s)

    def ask(self, question: str) -> str | None:
        """Return the answer, or None, counted in `failures`, where the process ended or took too long.

        Args:
            question: one line, without its end.

        Raises:
            ChildProcessError: the script does not start.
        """
        # A forked process has its parent's memory, and its parent's worker is not its own.
        if self.owner != os.getpid():
            self.forget()
        with self.lock:
            if self.process is None:
                self.process = self.start()
            answer = exchange(self.process, question, self.timeout_s)
            if answer is None:
                self.failures += 1
                self.end()
            return answer

    def start(self) -> subprocess.Popen[bytes]:
        """Return a process that is ready."""
        # It finds the packages that this process finds. In a session of its own, Ctrl-C does not reach it: the run
        # that finishes its step after Ctrl-C still needs it. -P keeps the script's folder off its path.
        process = subprocess.Popen(
            [sys.executable, "-P", str(self.script), str(self.timeout_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,
        )
        if read_line(process, START_S) is None:
            stop(process)
            raise ChildProcessError(
                f"Worker(script={self.script.name!r}) must say that it is ready within {START_S:.0f} s; got exit code "
                f"{process.returncode} instead. Its own message, if any, stands above."
            )
        return process

    def end(self) -> None:
        """Kill the process and wait for its end."""
        if self.process is not None:
            stop(self.process)
            self.process = None

    def close(self) -> None:
        """End the process, if it runs and is this process's own."""
        if self.owner == os.getpid():
            with self.lock:
                self.end()


def exchange(process: "subprocess.Popen[bytes]", question: str, timeout_s: float) -> str | None:
    """Return the process's answer to a question; None where it ended or took too long."""
    assert process.stdin is not None
    try:
        process.stdin.write(f"{question}\n".encode())
    except BrokenPipeError:
        return None
    return read_line(process, timeout_s)


def read_line(process: "subprocess.Popen[bytes]", timeout_s: float) -> str | None:
    """Return the next line that the process writes, without its end; None at its end or after the time."""
    assert process.stdout is not None
    # A line is written at once, so that one that has begun is whole.
    ready = select.select([process.stdout], [], [], timeout_s)[0]
    line = process.stdout.readline() if ready else b""
    return line.decode().rstrip("\n") if line else None


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and release what it held."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
