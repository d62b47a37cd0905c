"""The contract of a backend that stores tasks and runs them later."""

import dataclasses
import datetime
import pickle
import sys
from contextlib import contextmanager

from django.db import connection, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.conformance import tasks
from tests.conformance.api import (
    LOGGER,
    InvalidTask,
    InvalidTaskBackend,
    TaskResultDoesNotExist,
    TaskResultMismatch,
    TaskResultStatus,
    task,
    task_backends,
    task_enqueued,
    task_finished,
    task_started,
)

READY, RUNNING, FAILED, SUCCESSFUL = (
    TaskResultStatus[name] for name in ("READY", "RUNNING", "FAILED", "SUCCESSFUL")
)


class TaskBackendConformance:
    """Mix it into a ``TransactionTestCase``.

    ``backend``: the backend's dotted name, and ``options`` its OPTIONS. ``enqueue_queries``: how
    many queries it takes to enqueue in a transaction; ``None``: as many as it likes.
    """

    backend: str
    options: dict = {}
    enqueue_queries: int | None = 1

    def run_enqueued(self):
        """Run, in this process, all that is enqueued and due, and return when it has ended."""
        raise NotImplementedError

    def setUp(self):
        super().setUp()
        tasks.ran.clear()
        settings = {"BACKEND": self.backend, "OPTIONS": self.options}
        overridden = override_settings(
            TASKS={
                "default": {**settings, "QUEUES": ["default", "other"]},
                "any": {**settings, "QUEUES": []},
                "missing": {"BACKEND": "does.not.exist"},
            }
        )
        overridden.enable()
        self.addCleanup(overridden.disable)

    def run_one(self, task, /, *args, **kwargs):
        """Return the result of a task once it has run."""
        result = task.enqueue(*args, **kwargs)
        self.run_enqueued()
        result.refresh()
        return result

    # Enqueueing

    def assert_fresh(self, result, task, args, kwargs):
        self.assertEqual(result.task, task)
        self.assertEqual(result.status, READY)
        self.assertIsInstance(result.id, str)
        self.assertEqual((result.args, result.kwargs), (args, kwargs))
        self.assertEqual(result.backend, "default")
        self.assertLess(abs(timezone.now() - result.enqueued_at), datetime.timedelta(minutes=1))
        self.assertIsNone(result.started_at)
        self.assertIsNone(result.last_attempted_at)
        self.assertIsNone(result.finished_at)
        self.assertEqual((result.errors, result.worker_ids, result.attempts), ([], [], 0))
        self.assertIs(result.is_finished, False)
        with self.assertRaisesMessage(ValueError, "Task has not finished yet"):
            _ = result.return_value

    def test_enqueue_returns_a_fresh_result(self):
        for each in (tasks.note, tasks.anote):
            with self.subTest(each):
                self.assert_fresh(each.enqueue(1, two=3), each, [1], {"two": 3})

    async def test_aenqueue_returns_a_fresh_result(self):
        for each in (tasks.note, tasks.anote):
            with self.subTest(each):
                self.assert_fresh(await each.aenqueue(1, two=3), each, [1], {"two": 3})

    def test_enqueue_runs_nothing(self):
        tasks.note.enqueue()

        self.assertEqual(tasks.ran, [])

    def test_enqueue_takes_one_query_in_a_transaction(self):
        if self.enqueue_queries is None:
            self.skipTest("the backend promises nothing")
        with transaction.atomic(), CaptureQueriesContext(connection) as queries:
            tasks.note.enqueue()

        self.assertLessEqual(len(queries), self.enqueue_queries)

    def test_the_transaction_that_enqueues_must_commit(self):
        with transaction.atomic():
            result = tasks.note.enqueue("rolled back")
            transaction.set_rollback(True)
        self.run_enqueued()

        self.assertEqual(tasks.ran, [])
        with self.assertRaises(TaskResultDoesNotExist):
            result.refresh()

    def test_two_calls_are_two_tasks(self):
        first, second = tasks.note.enqueue(1), tasks.note.enqueue(1)
        self.run_enqueued()

        self.assertNotEqual(first.id, second.id)
        self.assertEqual(tasks.ran, [((1,), {})] * 2)

    def test_arguments_come_as_json_makes_them(self):
        deep = {"ä": [1, 2.5, None, True, {"nested": ("a", "b")}]}

        result = tasks.note.enqueue((1, 2), deep=deep)
        self.run_enqueued()

        expected = {"ä": [1, 2.5, None, True, {"nested": ["a", "b"]}]}
        self.assertEqual((result.args, result.kwargs), ([[1, 2]], {"deep": expected}))
        self.assertEqual(tasks.ran, [(([1, 2],), {"deep": expected})])

    def test_any_name_can_be_a_keyword(self):
        result = self.run_one(tasks.echo, task="b", args="c", kwargs="d", backend="e")

        self.assertEqual(
            result.return_value["kwargs"],
            {"task": "b", "args": "c", "kwargs": "d", "backend": "e"},
        )

    def test_arguments_that_are_no_json_are_refused(self):
        for value in (object(), datetime.datetime.now(), {1, 2}):
            with self.subTest(value), self.assertRaisesMessage(TypeError, "Unsupported type"):
                tasks.note.enqueue(value)

    async def test_arguments_that_are_no_json_are_refused_by_aenqueue(self):
        with self.assertRaisesMessage(TypeError, "Unsupported type"):
            await tasks.note.aenqueue(object())

    # Validation

    def test_a_queue_that_is_not_listed_is_refused(self):
        with self.assertRaisesMessage(InvalidTask, "Queue 'unknown' is not valid for backend"):
            tasks.note.using(queue_name="unknown")

    def test_without_a_list_any_queue_is_taken(self):
        result = tasks.note.using(queue_name="unknown", backend="any").enqueue()

        self.assertEqual((result.task.queue_name, result.backend), ("unknown", "any"))

    def test_enqueue_validates_anew(self):
        other = tasks.note.using(queue_name="other")
        settings = {"default": {"BACKEND": self.backend, "OPTIONS": self.options}}

        with (
            override_settings(TASKS=settings),
            self.assertRaisesMessage(InvalidTask, "Queue 'other' is not valid for backend"),
        ):
            other.enqueue()

    async def test_aenqueue_validates_anew(self):
        other = tasks.note.using(queue_name="other")
        settings = {"default": {"BACKEND": self.backend, "OPTIONS": self.options}}

        with (
            override_settings(TASKS=settings),
            self.assertRaisesMessage(InvalidTask, "Queue 'other' is not valid for backend"),
        ):
            await other.aenqueue()

    def test_priorities_out_of_range_are_refused(self):
        for priority in (-101, 101, 3.1):
            with (
                self.subTest(priority),
                self.assertRaisesMessage(InvalidTask, "priority must be a whole number between"),
            ):
                tasks.note.using(priority=priority)

    def test_a_naive_time_is_refused(self):
        with self.assertRaisesMessage(InvalidTask, "run_after must be an aware datetime"):
            tasks.note.using(run_after=datetime.datetime.now())

    def test_what_is_no_function_of_a_module_is_refused(self):
        for function in (any, self.run_one, lambda: None):
            with self.subTest(function), self.assertRaisesMessage(InvalidTask, "module level"):
                task(function)

    def test_a_context_must_have_somewhere_to_go(self):
        with self.assertRaisesMessage(InvalidTask, "does not have a first argument of 'context'"):
            task(takes_context=True)(tasks.answer.func)

    def test_a_backend_that_is_not_there_is_refused(self):
        with self.assertRaises(InvalidTaskBackend):
            tasks.note.using(backend="missing")
        with self.assertRaises(InvalidTaskBackend):
            tasks.note.using(backend="unknown")

    def test_all_is_supported(self):
        flags = ("defer", "async_task", "get_result", "priority")

        for flag in flags:
            self.assertIs(getattr(task_backends["default"], f"supports_{flag}"), True, flag)

    def test_a_sound_configuration_passes_its_checks(self):
        self.assertEqual(list(task_backends["default"].check()), [])

    # Running

    def assert_ran(self, result, status):
        self.assertEqual(result.status, status)
        self.assertIs(result.is_finished, True)
        self.assertLessEqual(result.enqueued_at, result.started_at)
        self.assertLessEqual(result.started_at, result.last_attempted_at)
        self.assertLessEqual(result.last_attempted_at, result.finished_at)
        self.assertEqual((result.attempts, len(result.worker_ids)), (1, 1))

    def test_what_is_enqueued_runs_once(self):
        for each in (tasks.note, tasks.anote):
            with self.subTest(each):
                tasks.ran.clear()
                result = self.run_one(each, 1, two=3)
                self.run_enqueued()

                self.assertEqual(tasks.ran, [((1,), {"two": 3})])
                self.assert_ran(result, SUCCESSFUL)
                self.assertIsNone(result.return_value)
                self.assertEqual(result.errors, [])

    def test_what_it_returns_is_kept(self):
        for each in (tasks.echo, tasks.aecho):
            with self.subTest(each):
                result = self.run_one(each, 1, "ü", x=None)

                self.assertEqual(result.return_value, {"args": [1, "ü"], "kwargs": {"x": None}})

    def test_what_it_returns_must_be_json(self):
        result = self.run_one(tasks.return_object)

        self.assert_ran(result, FAILED)
        self.assertIs(result.errors[0].exception_class, TypeError)
        self.assertIn("Unsupported type", result.errors[0].traceback)

    def test_a_failure_is_told(self):
        for each in (tasks.fail, tasks.afail):
            with self.subTest(each):
                result = self.run_one(each)

                self.assert_ran(result, FAILED)
                (error,) = result.errors
                self.assertIs(error.exception_class, ValueError)
                self.assertEqual(error.exception_class_path, "builtins.ValueError")
                self.assertTrue(error.traceback.endswith("ValueError: This task failed\n"))
                self.assertIn("raise ValueError", error.traceback)
                with self.assertRaisesMessage(ValueError, "Task failed"):
                    _ = result.return_value

    def test_an_odd_exception_is_told(self):
        (error,) = self.run_one(tasks.fail_complexly).errors

        self.assertIs(error.exception_class, ValueError)
        self.assertIn('ValueError(ValueError("This task failed"))', error.traceback)

    def test_exit_ends_the_task_and_nothing_else(self):
        exiting, other = tasks.exit_process.enqueue(), tasks.answer.enqueue()
        self.run_enqueued()
        exiting.refresh()
        other.refresh()

        self.assertIs(exiting.errors[0].exception_class, SystemExit)
        self.assertEqual(other.return_value, 42)

    def test_the_context_is_of_this_run(self):
        result = self.run_one(tasks.look, "more")
        self.assertEqual(result.return_value, [result.id, "RUNNING", 1, ["more"]])

        result = self.run_one(tasks.alook)
        self.assertEqual(result.return_value, [result.id, "RUNNING", 1])

    def test_a_task_may_enqueue_another(self):
        tasks.enqueue_another.enqueue("sync")
        tasks.aenqueue_another.enqueue("async")
        self.run_enqueued()
        self.run_enqueued()

        self.assertCountEqual(tasks.ran, [(("sync",), {}), (("async",), {})])

    def test_an_async_task_may_use_the_database(self):
        self.assertEqual(self.run_one(tasks.use_orm).status, SUCCESSFUL)

    def test_larger_priorities_run_first(self):
        order = [0, -100, 100, 1, -1, 99, 50]
        for priority in order:
            tasks.note.using(priority=priority).enqueue(priority)
        self.run_enqueued()

        self.assertEqual([args[0] for args, _ in tasks.ran], sorted(order, reverse=True))

    def test_equal_priorities_run_in_their_order(self):
        for number in range(5):
            tasks.note.enqueue(number)
        self.run_enqueued()

        self.assertEqual([args[0] for args, _ in tasks.ran], [0, 1, 2, 3, 4])

    def test_nothing_runs_before_its_time(self):
        later = timezone.now() + datetime.timedelta(hours=1)
        earlier = timezone.now() - datetime.timedelta(hours=1)
        deferred = tasks.note.using(run_after=later).enqueue("later")
        tasks.note.using(run_after=earlier).enqueue("earlier")
        self.run_enqueued()
        deferred.refresh()

        self.assertEqual(tasks.ran, [(("earlier",), {})])
        self.assertEqual(deferred.status, READY)

    # Results

    def test_a_result_can_be_got_again(self):
        enqueued = tasks.note.using(
            priority=7, queue_name="other", run_after=timezone.now()
        ).enqueue(1)

        for got in (
            task_backends["default"].get_result(enqueued.id),
            tasks.note.get_result(enqueued.id),
        ):
            self.assertEqual(dataclasses.asdict(got), dataclasses.asdict(enqueued))

    async def test_a_result_can_be_got_again_in_async_code(self):
        enqueued = await tasks.note.aenqueue(1)

        for got in (
            await task_backends["default"].aget_result(enqueued.id),
            await tasks.note.aget_result(enqueued.id),
        ):
            self.assertEqual(dataclasses.asdict(got), dataclasses.asdict(enqueued))

    async def test_a_result_refreshes_in_async_code(self):
        enqueued = await tasks.note.aenqueue(1)
        before = dataclasses.asdict(enqueued)

        await enqueued.arefresh()

        self.assertEqual(dataclasses.asdict(enqueued), before)

    def test_a_result_of_another_task_is_refused(self):
        enqueued = tasks.anote.enqueue()

        with self.assertRaises(TaskResultMismatch):
            tasks.note.get_result(enqueued.id)

    def test_a_result_that_is_not_there_says_so(self):
        ids = (
            "0",
            "123456789",
            "9" * 40,
            "-1",
            "no id",
            "",
            "²",
            "b5d6a1d8-0000-0000-0000-000000000000",
        )
        for result_id in ids:
            with self.subTest(result_id), self.assertRaises(TaskResultDoesNotExist):
                task_backends["default"].get_result(result_id)

    async def test_a_result_that_is_not_there_says_so_in_async_code(self):
        with self.assertRaises(TaskResultDoesNotExist):
            await task_backends["default"].aget_result("123456789")

    def test_a_result_can_be_pickled(self):
        if not hasattr(tasks.note, "_reconstruct"):
            self.skipTest("tasks cannot be pickled before Django 6.1")
        enqueued = tasks.note.enqueue(1)

        self.assertEqual(pickle.loads(pickle.dumps(enqueued)), enqueued)

    # Signals

    @contextmanager
    def heard(self):
        news = []

        def listener(name):
            def hear(sender, task_result, **kwargs):
                news.append((name, sender, task_result.id, task_result.status, sys.exc_info()[0]))

            return hear

        signals = {"enqueued": task_enqueued, "started": task_started, "finished": task_finished}
        listeners = {name: listener(name) for name in signals}
        for name, signal in signals.items():
            signal.connect(listeners[name])
        try:
            yield news
        finally:
            for name, signal in signals.items():
                signal.disconnect(listeners[name])

    def test_each_turn_is_told_by_the_backends_class(self):
        backend = type(task_backends["default"])
        for each in (tasks.note, tasks.anote):
            with self.subTest(each), self.heard() as news:
                result = self.run_one(each)

                self.assertEqual(
                    news,
                    [
                        ("enqueued", backend, result.id, READY, None),
                        ("started", backend, result.id, RUNNING, None),
                        ("finished", backend, result.id, SUCCESSFUL, None),
                    ],
                )

    def test_a_failure_is_told_within_its_exception(self):
        for each in (tasks.fail, tasks.afail):
            with self.subTest(each), self.heard() as news:
                result = self.run_one(each)

                name, _, result_id, status, error = news[-1]
                self.assertEqual((name, result_id, status), ("finished", result.id, FAILED))
                self.assertIs(error, ValueError)

    def test_the_result_at_the_end_is_whole(self):
        seen = []

        def hear(sender, task_result, **kwargs):
            seen.append((task_result.return_value, task_result.attempts, task_result.finished_at))

        task_finished.connect(hear)
        self.addCleanup(task_finished.disconnect, hear)
        self.run_one(tasks.answer)

        ((value, attempts, finished_at),) = seen
        self.assertEqual((value, attempts), (42, 1))
        self.assertIsNotNone(finished_at)

    def test_each_turn_is_logged(self):
        with self.assertLogs(LOGGER, "DEBUG") as logs:
            result = self.run_one(tasks.note)

        enqueued, started, finished = logs.output
        self.assertIn("enqueued", enqueued)
        self.assertIn("RUNNING", started)
        self.assertIn("SUCCESSFUL", finished)
        for line in logs.output:
            self.assertIn(result.id, line)
            self.assertNotIn("NoneType", line)

    def test_a_failure_is_logged_with_its_traceback(self):
        with self.assertLogs(LOGGER, "ERROR") as logs:
            self.run_one(tasks.fail)

        (line,) = logs.output
        self.assertIn("ValueError: This task failed", line)
