"""What is answered instead of a result."""

from __future__ import annotations

LONGEST_SHOWN = 60


class Refusal(Exception):  # noqa: N818 - an answer, not a mistake
    """A request that goes no further.

    Args:
        status: the HTTP status.
        sentence: what is wrong, what was got, what to do.
        headers: headers of the answer.
    """

    def __init__(self, status: int, sentence: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = headers


def shown(value: object) -> str:
    r"""Return a value as a sentence may quote it: on one line, and short.

    Args:
        value: whatever was sent.

    Example:
        >>> shown("a\nb"), shown("x" * 5000)
        ("'a\\nb'", "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...'")
    """
    text = value if isinstance(value, str) else str(value)
    return repr(text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}...")
