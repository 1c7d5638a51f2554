"""Task plug-ins: where prompts come from and how answers are judged. A new task is one file and one row here."""

from trainer.tasks.countdown import Countdown, HardCountdown

TASKS = {"countdown": Countdown, "countdown_hard": HardCountdown}

__all__ = ["TASKS", "Countdown", "HardCountdown"]
