"""The one exception that a user is meant to read."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can put right: what is wrong, why, and the way out.

    The CLI prints it without a traceback and exits with 2; a page shows it as a card; a run stores it.

    Args:
        what: The thing that is wrong, by name ("forget.csv, line 7").
        why: The cause, in one sentence.
        fix: What to do next, in one sentence.
    """

    def __init__(self, what: str, why: str, fix: str) -> None:
        self.what = what
        self.why = why
        self.fix = fix
        super().__init__(f"{self.cause} {fix}")

    @property
    def cause(self) -> str:
        """What and why in one sentence, or in two where `why` begins one."""
        return f"{self.what}{': ' if self.why[:1].isupper() else ' '}{self.why}"
