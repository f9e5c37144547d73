"""The ways in which a step ends badly; the command line turns each into an exit code."""


class ParapetError(Exception):
    """Base of every error that Parapet raises on purpose; its text is one sentence for the user."""

    exit_code = 1


class InputError(ParapetError):
    """The input was wrong: says what, where, what is allowed and what to do. Exit code 2."""

    exit_code = 2


class WorkError(ParapetError):
    """The input was right and the work failed, for example on a full disk. Exit code 1."""


class PromotionRefused(ParapetError):
    """The gate refused a promotion; the text lists every reason. Exit code 3."""

    exit_code = 3


class Interrupted(ParapetError):
    """Ctrl-C, SIGTERM or the end of the parent process; the state is saved. Exit code 130."""

    exit_code = 130
