"""The one error that a person is meant to read.

`CannotRun` carries one clear line (what, and the mend); every command prints it and exits with 2.
Anything else that escapes is a defect of ours.
"""


class CannotRun(Exception):
    """Regent could not run: the message names the offender and the mend, in one line."""
