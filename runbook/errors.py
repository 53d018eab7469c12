"""The exception tree: one class per reaction.

RunbookError
  UsageError           used wrongly; nothing was started                       exit 2
    ParamsError          a parameter is unknown, ill-typed, out of range or missing
    AnatomyError         a notebook, params file or deployment file breaks its rules
  RunError             something was started, or could not be, and is not done   exit 1
    Busy                 somebody else holds what this needs
    HandoffMissing       a step needs what an earlier step has not left
    CheckFailed          an expected/found comparison does not hold
    PlatformError        a service refused, failed or did not answer in time
      NotFound             the thing asked for does not exist
    StepFailed           a step of the run did not pass
    KernelUnusable       the kernel of a step did not start, or imports another package than this one
"""

from __future__ import annotations


class RunbookError(Exception):
    """Base of everything the runbook raises on purpose; its text is shown to the user as it is."""

    exit_code = 1


class UsageError(RunbookError):
    """The command, a file or a value is wrong; nothing was started."""

    exit_code = 2


class ParamsError(UsageError):
    """A parameter is unknown, has the wrong type, lies out of range or is missing."""


class AnatomyError(UsageError):
    """A notebook, a params file or a deployment file breaks the rules of its kind."""


class RunError(RunbookError):
    """Something that was started is not done."""


class Busy(RunError):
    """Somebody else holds what this needs; the text says who."""


class HandoffMissing(RunError):
    """A step needs a file that an earlier step has not left."""

    def _render_traceback_(self) -> list[str]:
        # What Jupyter shows of this error. Where it was raised helps nobody; the command in its text does.
        return [f"{type(self).__name__}: {self}"]


class CheckFailed(RunError):
    """An expected/found comparison does not hold."""


class PlatformError(RunError):
    """A service refused, failed or did not answer in time; ``log`` is what the service itself said."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log

    def __str__(self) -> str:
        message = str(self.args[0])
        return f"{message}\n--- the service's own log, last lines ---\n{self.log}" if self.log else message


class NotFound(PlatformError):
    """The thing asked for does not exist on the target."""


class StepFailed(RunError):
    """A step of the run did not pass; the text names the report."""


class KernelUnusable(RunError):
    """The kernel of a step did not start, or imports another package than this one."""
