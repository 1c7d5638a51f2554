"""Ctrl-C and SIGTERM during a run: the step in hand is finished and saved; a second signal stops at once."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """A context in which the first interrupt is remembered in `asked` instead of raised.

    Outside the main thread, where Python delivers no signals, it does nothing. With `at_once`, where nothing is left to
    save, the first is raised.

    Args:
        go_on: the command that resumes the run, for the message.
    """

    def __init__(self, go_on: str) -> None:
        self.go_on = go_on
        self.asked = False
        self.at_once = False
        self.previous: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            self.previous = {number: signal.signal(number, self.remember) for number in SIGNALS}
        return self

    def remember(self, number: int, frame: FrameType | None) -> None:
        """Remember the first signal, and stop at the second."""
        if self.asked or self.at_once:
            raise KeyboardInterrupt(f"stopped at once. Go on with: {self.go_on}")
        self.asked = True

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
