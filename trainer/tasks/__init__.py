"""Task plug-ins: where prompts come from and how answers are judged. A new task is one file and one row here."""

from functools import partial

from trainer.tasks.countdown import MAX_STEPS, Countdown

TASKS = {"countdown": Countdown, "countdown_hard": partial(Countdown, least_steps=MAX_STEPS)}

__all__ = ["TASKS", "Countdown"]
