"""Figures of our own: where the theory holds, what noise does, and what each controller is worth."""
