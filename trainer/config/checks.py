"""What every configuration checks with."""


def require(holds: bool, message: str) -> None:
    """Raise a ValueError with this message unless the condition holds."""
    if not holds:
        raise ValueError(message)
