"""What a part of a run took, in numbers that can be added up."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Spent:
    """What something took.

    Attributes:
        passes: Operations, in plain forward passes over the discovery prompts.
        seconds: Wall-clock time.
        cpu_seconds: Time of all processors together.
    """

    passes: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        """Both together."""
        return Spent(self.passes + other.passes, self.seconds + other.seconds, self.cpu_seconds + other.cpu_seconds)

    def __sub__(self, other: "Spent") -> "Spent":
        """What came after."""
        return Spent(self.passes - other.passes, self.seconds - other.seconds, self.cpu_seconds - other.cpu_seconds)
