"""Every exception that the package raises to its users, or that their processors raise for it."""

TEN_YEARS_SECONDS = 10 * 366 * 24 * 3600
"""Maximum seconds by which one postpone or one retry puts a task off."""


class PartisanException(Exception):  # noqa: N818  the ancestor's spelling
    """Base of all of the package's exceptions."""


class ProcessorClassException(PartisanException):
    """Something is wrong with the name of a processor class."""

    def __init__(self, processor_name: str, message: str) -> None:
        super().__init__(message)
        self.processor_name = processor_name


class ProcessorClassNotFound(ProcessorClassException):
    """No processor is registered under this name."""

    def __init__(self, processor_name: str) -> None:
        self.is_a_class = "." not in processor_name
        super().__init__(
            processor_name,
            f"Processor class {processor_name!r} is not registered. Decorate it with"
            " @registry.register in a partisan_tasks.py of an installed app, or import it there."
            if self.is_a_class
            else f"Processor class {processor_name!r} is not registered. If it is one of Django's"
            " own tasks, import its module in a tasks.py of an installed app, and have TASKS name"
            " PartisanBackend. If it was a processor's NAME, name it in ALSO_KNOWN_AS.",
        )


class ProcessorClassAlreadyRegistered(ProcessorClassException):
    """Two processor classes have the same name; rows name their processor by it."""

    def __init__(self, processor_name: str, registered: str, rejected: str) -> None:
        super().__init__(
            processor_name,
            f"Processor class {processor_name!r} is registered already, as {registered}; {rejected}"
            " cannot take the same name. Rows name their processor by it, so rename one of them,"
            " give one a NAME of its own, or import the module under one path only.",
        )


class Postpone(Exception):  # noqa: N818  the ancestor's spelling
    """Base of the exceptions about postponing."""


class PostponeTask(Postpone):
    """Raise it in ``run()`` to have the task run again later; it is not an error.

    :param postpone_for_seconds: counted from the end of this run; 0 is at once. ``None`` takes
        ``DEFAULT_POSTPONE_DELAY_SECONDS`` of the task's queue.
    :param reason: for people: the row keeps it, the log and the admin show it. If this exception
        is raised ``from`` another one, or while another one is handled, that is kept, too.
    :param whole_key: no task of the same key of its ``LIMIT`` starts in that time, and it does not
        count as a postpone: for who is told to come back later. Without a limit it says nothing.
    :raises ValueError: the number is negative, not finite, or longer than ten years.
    :raises TypeError: the reason is not a ``str``.
    """

    def __init__(
        self,
        postpone_for_seconds: float | None = None,
        *,
        reason: str | None = None,
        whole_key: bool = False,
    ) -> None:
        if reason is not None and not isinstance(reason, str):
            raise TypeError(f"PostponeTask(reason={reason!r}): a reason is a text, or None.")
        if postpone_for_seconds is not None and not 0 <= postpone_for_seconds <= TEN_YEARS_SECONDS:
            raise ValueError(
                f"PostponeTask({postpone_for_seconds!r}): a task is postponed by 0 seconds up to"
                f" ten years ({TEN_YEARS_SECONDS} seconds), counted from now; pass such a number,"
                " or None for the queue's own delay."
            )
        seconds = None if postpone_for_seconds is None else float(postpone_for_seconds)
        self.postpone_for_seconds = seconds
        self.reason = reason
        self.whole_key = whole_key
        super().__init__(seconds)


class CancelTask(Exception):  # noqa: N818  as ``PostponeTask``
    """Raise it in ``run()`` to end the task now; it is not an error.

    The task is in ``error``, with ``TaskCancelled``, and counts as cancelled and not as failed.
    Nothing tries it again. What an ``ATOMIC`` run has written is rolled back.

    :param reason: for people: the row keeps it, the log and the admin show it.
    :raises TypeError: the reason is not a ``str``.
    """

    reason: str | None = None

    def __init__(self, reason: str | None = None) -> None:
        if reason is not None and not isinstance(reason, str):
            raise TypeError(f"CancelTask(reason={reason!r}): a reason is a text, or None.")
        self.reason = reason
        super().__init__(*(() if reason is None else (reason,)))


class MaxPostponesReached(Postpone):
    """The task postponed itself more often than its limit allows, and ended in ``error``."""

    def __init__(self, max_postpones: int) -> None:
        super().__init__(
            f"Maximum postpones ({max_postpones}) reached. Raise max_postpones of the processor's"
            " POSTPONE_CONFIG or DEFAULT_POSTPONES_COUNT of its queue, if it should wait longer."
        )


class TaskTimeout(PartisanException):
    """``run()`` took longer than its time limit.

    It is raised in ``run()``, at the line that is being executed; an ``async def run()`` is
    cancelled instead. ``retry_on_errors`` may name this class.
    """

    def __init__(self, limit: float, *, killed: bool = False) -> None:
        message = f"run() took longer than its time limit of {limit:g} s"
        super().__init__(
            f"{message} and did not heed it, so its worker process was killed."
            if killed
            else f"{message}."
        )


class TaskCancelled(PartisanException):
    """Somebody ended the task by hand, or the task itself: by ``CancelTask``.

    The row tells this error; nothing raises it.

    :param by: who did it, if that is known; ``ITSELF``: the task.
    :param reason: why, if they said so.
    """

    ITSELF = "itself"

    def __init__(self, by: str = "", reason: str = "") -> None:
        who = f"Cancelled by {by or 'hand'}"
        super().__init__(f"{who}: {reason}" if reason else f"{who}.")
        self.by = by
        self.reason = reason


class ArgumentsTooLarge(PartisanException, ValueError):  # noqa: N818  as its sisters
    """The arguments of a call are larger than its queue's ``MAX_ARGUMENTS_BYTES``."""


class ArgumentsDoNotFit(PartisanException):
    """A row's call does not fit the parameters of ``run()`` in this process.

    Like a task of an unknown processor, it is put off for other supervisors first.
    """

    def __init__(self, processor_name: str, message: str) -> None:
        self.why = f"{processor_name}: {message}"
        super().__init__(f"{self.why} The row may come from another version of the code.")
        self.processor_name = processor_name
        self.task_id: int | None = None
        """Whose row it is, where that was to be run: nothing ran then."""


class RowMissing(PartisanException):
    """A model instance that was passed to a task is not in its database any more.

    :param model: its label, such as ``shop.Order``.
    :param key: its primary key.
    :param database: the alias of the database that was asked.
    """

    def __init__(self, processor_name: str, model: str, key: object, database: str) -> None:
        super().__init__(
            f"{processor_name}: {model} {key!r} was passed to the task, and is not in database"
            f" {database!r} any more."
        )
        self.processor_name = processor_name
        self.model = model
        self.key = key
        self.database = database


class ResultTooLarge(PartisanException):
    """``run()`` returned more than its queue's ``MAX_RESULT_BYTES``."""

    def __init__(self, processor_name: str, size: int, most: int) -> None:
        super().__init__(
            f"run() of {processor_name} returned {size:,} bytes of JSON, and MAX_RESULT_BYTES of"
            f" its queue is {most:,}. Write it to a file or to a table of yours and return its key,"
            " or raise the setting."
        )


class ClaimLost(PartisanException):
    """Another supervisor took the task over before its run, or during an ``ATOMIC`` run."""

    def __init__(self, task_id: int) -> None:
        super().__init__(
            f"Another supervisor has taken over task {task_id}; what this run wrote is rolled back."
        )


class WorkerLost(PartisanException):
    """The worker process died while it ran only this task, and not for the first time."""
