"""What support staff see and do in the admin: permissions of their own, scopes, other sites."""

import re
import uuid
from contextlib import contextmanager
from datetime import timedelta
from types import ModuleType

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.test import override_settings
from django.urls import path
from django.utils import timezone

from partisan_async import schedules, steering
from partisan_async.admin import (
    DashboardAdmin,
    ScheduleAdmin,
    Scope,
    SupervisorAdmin,
    TaskAdmin,
)
from partisan_async.models import Dashboard, PausedQueue, Schedule, Supervisor, Task
from tests.conftest import state
from tests.site_rules import constraint, trigger
from tests.test_admin import LIST, SUPERVISORS, do, failed, listed, page_of
from tests.test_dashboard import client_of, supervise, tally, text_of
from tests.test_docs import blocks
from tests.testapp.partisan_tasks import Write, WriteElsewhere

pytestmark = pytest.mark.django_db

DASHBOARD = "/admin/partisan_async/dashboard/"
SCHEDULES = "/admin/partisan_async/schedule/"
SECRET = "Ada's order 4711"


def scheduled():
    return Write("later").delay(execute_after=timezone.now() + timedelta(hours=1))


class TestPermissions:
    @pytest.mark.parametrize(
        ("permission", "may"),
        [
            ("view_arguments", []),
            ("retry_task", ["retry", "run_now"]),
            ("cancel_task", ["cancel"]),
            ("change_task", ["retry", "run_now", "cancel"]),
        ],
    )
    def test_each_action_has_one_and_change_has_all(self, permission, may):
        """Who could change tasks before there were others can do what they could."""
        client = client_of("view_task", permission)
        for action, task in (
            ("retry", failed()),
            ("run_now", scheduled()),
            ("cancel", Write().delay()),
        ):
            before = task.status
            chosen = {"action": action, "confirmed": 1, "_selected_action": task.pk, "ids": task.pk}

            client.post(LIST, chosen)
            page = client.get(page_of(task)).content.decode()

            task.refresh_from_db()
            assert (task.status != before) == (action in may), action
            assert set(re.findall(r'name="action" value="(\w+)"', page)) <= {*may}

    def test_to_act_one_has_to_see(self):
        task = failed()

        client_of("retry_task").post(
            LIST, {"action": "retry", "confirmed": 1, "_selected_action": task.pk, "ids": task.pk}
        )

        task.refresh_from_db()
        assert task.status == "error"

    @pytest.mark.parametrize("permission", ["view_arguments", "change_task"])
    def test_who_may_see_arguments_sees_them(self, permission):
        task = failed(SECRET)

        client = client_of("view_task", permission)

        for page in (page_of(task), f"{LIST}?status=error", LIST):
            assert "order 4711" in text_of(client.get(page)), page
        assert listed(client, q="order 4711") == [task.pk]


class TestHidden:
    """Arguments, results and texts of errors are in the answer to nobody who may not see them."""

    @pytest.fixture
    def client(self):
        return client_of("view_task", "retry_task", "cancel_task", "view_supervisor")

    @pytest.fixture
    def task(self):
        task = failed(SECRET)
        Task.objects.filter(pk=task.pk).update(result={"told": "order 4711"})
        return task

    @pytest.mark.parametrize(
        "page",
        [
            LIST,
            f"{LIST}?status=error",
            f"{LIST}?q=Fail",
            DASHBOARD,
            f"{DASHBOARD}live/",
            SUPERVISORS,
        ],
    )
    def test_no_list_has_them(self, client, task, page):
        supervise()

        answer = client.get(page)

        assert answer.status_code == 200
        assert b"4711 " not in answer.content.replace(b"#4711", b"")
        assert b"order 4711" not in answer.content

    def test_the_list_of_failed_ones_has_their_errors_classes(self, client, task):
        assert "ValueError" in text_of(client.get(f"{LIST}?status=error"))

    def test_a_search_does_not_look_into_them(self, client, task):
        """It would tell letter by letter."""
        assert listed(client, q="order 4711") == []
        assert listed(client, q="Fai") == [task.pk]
        assert "small arguments" not in text_of(client.get(LIST))

    @pytest.mark.parametrize("status", ["error", "new", "scheduled", "in_process", "finished"])
    def test_a_tasks_page_has_their_classes_alone(self, client, task, status):
        Task.objects.update(**state(status))

        page = client.get(page_of(task))

        told = text_of(page)
        assert b"order 4711" not in page.content
        assert b"Traceback (most" not in page.content
        assert "builtins.ValueError" in told
        assert "They are hidden from you." in told

    def test_what_is_hidden_is_not_even_read(self, client, task, django_assert_max_num_queries):
        """What a page does not have it cannot show by mistake."""
        with django_assert_max_num_queries(20) as queries:
            client.get(page_of(task))

        assert not any("jsonb_pretty" in query["sql"] for query in queries)

    def test_an_error_of_an_odd_form_is_hidden_too(self, client, task):
        for odd in ([SECRET], SECRET, [{"message": SECRET, "reason": SECRET}]):
            Task.objects.update(errors=odd)
            page = client.get(page_of(task))
            assert (page.status_code, b"order 4711" in page.content) == (200, False)

    def test_the_question_and_the_history_do_not_tell_either(self, client, task):
        asked = client.post(LIST, {"action": "retry", "_selected_action": task.pk})
        done = do(client, "retry", task)
        history = client.get(f"{LIST}{task.pk}/history/")

        for answer in (asked, done, history):
            assert (answer.status_code, b"order 4711" in answer.content) == (200, False)

    @pytest.mark.parametrize("sees", [False, True])
    def test_what_the_database_refuses_is_told_without_the_row(self, client, task, sees, caplog):
        """Its detail has the row that it refuses, and with that the arguments."""
        if sees:
            client = client_of("view_task", "retry_task", "view_arguments", name="other")
        with constraint("status <> 'new'"):
            page = do(client, "retry", task)

        assert ("The database refuses it: what it says is in the log." in text_of(page)) != sees
        assert ("violates check constraint" in text_of(page)) == sees
        assert "Failing row" not in text_of(page)
        assert "tasks run again" not in text_of(page)
        (line,) = [each for each in caplog.records if each.event == "refused"]
        assert "Failing row contains" in line.getMessage()

    def test_nor_by_the_words_of_a_trigger(self, client, task):
        with trigger("RAISE EXCEPTION 'not so: %', OLD.arguments", "true"):
            page = do(client, "retry", task)

        assert "The database refuses it" in text_of(page)
        assert "order 4711" not in text_of(page)


class TestWords:
    """Who cannot run commands is told what they can do."""

    PAGES = (LIST, f"{LIST}?status=error", DASHBOARD, f"{DASHBOARD}live/", SUPERVISORS)

    def situations(self):
        """Tasks, each with a reason of its own."""
        yield failed()
        steering.pause("elsewhere")
        yield WriteElsewhere().delay()
        task = Write().delay()
        yield task
        for columns in ({}, {"interrupted": 20}, {"interrupted": 2}):
            held = Write().delay()
            columns = {"status": "in_process", "claimed_by": uuid.uuid4()} | columns
            Task.objects.filter(pk=held.pk).update(**columns)
            yield held

    def test_no_page_of_theirs_names_a_command(self):
        client = client_of("view_task", "view_supervisor", "retry_task")
        pages = [*self.PAGES, *map(page_of, self.situations())]

        for page in pages:
            answer = client.get(page)
            assert (answer.status_code, b"manage.py" in answer.content) == (200, False), page

    def test_nor_where_a_worker_is_free_and_nothing_starts(self):
        """The last resort sends an operator to ``doctor``."""
        workers = [{"pid": 71, "running": 0, "tasks": []}]
        supervise(workers=workers)
        task = Write().delay()
        long_ago = timezone.now() - timedelta(hours=1)
        Task.objects.update(created_at=long_ago, execute_after=long_ago)

        told = text_of(client_of("view_task").get(page_of(task)))

        assert "is odd: ask who runs your servers" in told
        assert "manage.py" not in told

    def test_all_draining_is_told_without_one(self):
        supervise(draining=True)

        told = text_of(client_of("view_task").get(page_of(Write().delay())))

        assert "Ask who runs your servers to start a supervisor" in told

    @pytest.mark.parametrize(
        ("permission", "told"),
        [
            ("retry_task", "To run it again, press Retry above."),
            ("cancel_task", "Somebody who may retry tasks can run it again."),
        ],
    )
    def test_a_failed_ones_page_says_what_its_reader_can_do(self, permission, told):
        page = client_of("view_task", permission).get(page_of(failed()))

        assert told in text_of(page)

    def test_an_operator_is_told_the_command(self, admin_client):
        told = text_of(admin_client.get(page_of(WriteElsewhere().delay())))

        assert "Start one: manage.py start_partisan --async --queue_name elsewhere" in told


@contextmanager
def registered(model, model_admin, site=admin.site):
    """Register an admin in the place of the package's, as a site does."""
    before = dict(site._registry)
    site.unregister(model)
    site.register(model, model_admin)
    # Its addresses lead to the admins that were registered when they were made.
    urls = ModuleType("urls")
    urls.urlpatterns = [path("admin/", site.urls)]
    try:
        with override_settings(ROOT_URLCONF=urls):
            yield
    finally:
        site._registry.clear()
        site._registry.update(before)


class TestScope:
    """Nothing outside of it is on any page, nor can it be steered."""

    ALL = ("view_task", "change_task", "delete_task", "view_supervisor", "change_supervisor",
           "view_schedule", "change_schedule")  # fmt: skip

    @pytest.fixture(params=["queues", "processors"])
    def scope(self, request):
        return Scope(**{request.param: {"elsewhere", "WriteElsewhere"}})

    @pytest.fixture
    def client(self, scope):
        class OwnTaskAdmin(TaskAdmin):
            def get_scope(self, request):
                if request.user.is_superuser:
                    return super().get_scope(request)
                return scope

        with registered(Task, OwnTaskAdmin):
            yield client_of(*self.ALL)

    @pytest.fixture
    def tasks(self):
        """One inside and one outside, of each status; with what is told of them."""
        tasks = {}
        for status in ("new", "scheduled", "in_process", "finished", "error"):
            for processor in (WriteElsewhere, Write):
                task = processor(status).delay()
                held = uuid.uuid4() if status == "in_process" else None
                ended = timezone.now() if status in ("finished", "error") else None
                Task.objects.filter(pk=task.pk).update(
                    status=status, claimed_by=held, finished_at=ended
                )
                tasks[status, processor.__name__] = task
        for name, queue in (("WriteElsewhere", "elsewhere"), ("Write", "default")):
            tally(queue_name=queue, processor_class=name, finished=3, failed=2, run_seconds=1.0)
            run = {"id": tasks["in_process", name].pk, "processor": name, "seconds": 1.0}
            supervise(
                queue_name=queue, hostname=f"{queue}-host",
                workers=[{"pid": 71, "running": 1, "tasks": [run]}],
            )  # fmt: skip
            Schedule.objects.create(
                processor_class=name, queue_name=queue, schedule="every 9 s", set_by=uuid.uuid4()
            )
        return tasks

    def inside(self, tasks, *statuses):
        return {
            task.pk
            for (status, name), task in tasks.items()
            if name == "WriteElsewhere" and (not statuses or status in statuses)
        }

    def test_lists_have_those_inside(self, client, tasks):
        assert set(listed(client)) == self.inside(tasks)
        for status in ("new", "scheduled", "in_process", "finished", "error"):
            assert set(listed(client, status=status)) == self.inside(tasks, status)
        assert set(listed(client, ended="1h")) == self.inside(tasks, "finished", "error")
        assert set(listed(client, queue="default")) == set()
        assert set(listed(client, processor="Write")) == set()
        assert set(listed(client, q="Write")) == self.inside(tasks)
        everyone = " ".join(str(task.pk) for task in tasks.values())
        assert set(listed(client, q=everyone)) == self.inside(tasks)

    def test_pages_of_those_outside_are_not_there(self, client, tasks):
        for (_, name), task in tasks.items():
            page = client.get(page_of(task))
            assert page.status_code == (200 if name == "WriteElsewhere" else 302), task
            history = client.get(f"{LIST}{task.pk}/history/")
            assert history.status_code == page.status_code

    @pytest.mark.parametrize("action", ["retry", "run_now", "cancel", "delete"])
    def test_none_outside_is_steered(self, client, tasks, action):
        before = set(Task.objects.values_list("pk", "status"))
        every = [task.pk for task in tasks.values()]

        client.post(LIST, {"action": action, "confirmed": 1, "_selected_action": every,
                           "ids": ",".join(map(str, every))})  # fmt: skip
        do(client, action, *tasks.values())
        do(client, action, tasks["new", "Write"], select_across=1, index=0)

        changed = before - set(Task.objects.values_list("pk", "status"))
        assert changed
        assert {pk for pk, _ in changed} <= self.inside(tasks)

    def test_filters_and_counts_above_the_list_tell_of_no_other(self, client, tasks, scope):
        page = client.get(LIST)

        choices = {s.title: set(dict(s.lookup_choices)) for s in page.context["cl"].filter_specs}
        counted = {queue.name for queue in page.context["cl"].queues}
        if scope.queues is not None:
            assert choices["queue"] == counted == {"elsewhere"}
        else:
            assert counted == set()
        assert "WriteElsewhere" in choices["processor"]
        assert "Write" not in choices["processor"]

    def test_who_sees_some_processors_drains_no_supervisor(self, client, tasks, scope):
        """It runs others' tasks, too."""
        inside = Supervisor.objects.get(queue_name="elsewhere")
        pages = [client.get(page) for page in (DASHBOARD, f"{SUPERVISORS}{inside.pk}/change/")]
        client.post(SUPERVISORS, {"action": "drain", "confirmed": 1,
                                  "_selected_action": inside.pk})  # fmt: skip
        inside.refresh_from_db()

        may = scope.queues is not None
        assert inside.draining == may
        assert [("Drain</button>" in page.content.decode()) for page in pages] == [may, may]

    def test_a_worker_that_runs_others_is_busy(self, client, tasks, scope):
        told = text_of(client.get(f"{DASHBOARD}live/"))

        assert "idle" not in told
        assert ("busy with 1" in told) == (scope.processors is not None)

    def test_pauses_of_others_are_not_there_and_no_button_is_refused(self, client, tasks, scope):
        for processor in ("Write", "WriteElsewhere"):
            steering.pause(processor=processor)
        steering.pause("default", processor="WriteElsewhere")

        page = client.get(f"{DASHBOARD}live/")

        where = {(each.processor, each.queue_name) for each in page.context["pauses"]}
        own = {("WriteElsewhere", "")}
        assert where == (own if scope.queues is not None else own | {("WriteElsewhere", "default")})
        names = re.findall(r'name="(\w+_processor)" value="(\w+)"', page.content.decode())
        assert bool(names) == (scope.queues is None)
        for name, value in names:
            assert client.post(DASHBOARD, {name: value}).status_code == 302
        assert ('<td data-label="Waiting"></td>' in page.content.decode()) == (
            scope.queues is not None
        )

    def test_the_dashboard_counts_no_other(self, client, tasks, scope):
        for page in (DASHBOARD, f"{DASHBOARD}live/"):
            told = client.get(page).context
            assert {queue.name for queue in told["queues"]} <= {"elsewhere"}
            assert bool(told["queues"]) == (scope.queues is not None)
            hour = told["hour"]
            assert sum(minute.counts.finished for minute in hour.minutes) == 3
            assert [each.name for each in hour.slowest] == ["WriteElsewhere"]
            assert [each.name for each in hour.failing] == ["WriteElsewhere"]
            runs = [r for s in told["supervisors"] for w in s.workers for r in w.tasks]
            assert {run.processor for run in runs} == {"WriteElsewhere"}

    def test_supervisors_name_no_other_task(self, client, tasks, scope):
        told = text_of(client.get(SUPERVISORS))
        outside = Supervisor.objects.get(queue_name="default")
        page = client.get(f"{SUPERVISORS}{outside.pk}/change/")

        assert "WriteElsewhere #" in told
        assert not re.search(r"Write #\d", told + text_of(page))
        assert page.status_code == (302 if scope.queues is not None else 200)

    def test_no_queue_outside_is_paused(self, client, tasks):
        assert client.post(DASHBOARD, {"pause": "default"}).status_code == 403
        assert not PausedQueue.objects.exists()

    def test_nor_a_supervisor_drained_or_a_schedule_switched(self, client, tasks, scope):
        outside = Supervisor.objects.get(queue_name="default")
        client.post(SUPERVISORS, {"action": "drain", "confirmed": 1,
                                  "_selected_action": outside.pk})  # fmt: skip
        outside.refresh_from_db()
        assert not outside.draining
        client.post(SCHEDULES, {"action": "switch_off",
                                "_selected_action": ["Write", "WriteElsewhere"]})  # fmt: skip

        assert list(Schedule.objects.filter(enabled=False).values_list("pk", flat=True)) == [
            "WriteElsewhere"
        ]

    def test_reasons_name_no_other_task(self, client, scope):
        """What keeps the workers busy may be another group's."""
        other, task = Write().delay(), Write("mine").delay()
        Task.objects.filter(pk=other.pk).update(
            status="in_process", claimed_by=supervise().pk, processor_class="Others"
        )
        run = {"id": other.pk, "processor": "Others", "seconds": 1.0}
        Supervisor.objects.update(
            queue_name="elsewhere", workers=[{"pid": 71, "running": 1, "tasks": [run]}]
        )
        Task.objects.update(queue_name="elsewhere")
        Task.objects.filter(pk=task.pk).update(processor_class="WriteElsewhere")

        told = text_of(client.get(page_of(task)))

        assert "busy, the longest with:" in told
        assert ("Others" in told) == (scope.queues is not None)

    def test_whose_button_there_is_not_is_not_sent_there(self, client, scope):
        """The dashboard lets them resume all that they see, and nothing that is others', too."""
        steering.pause("elsewhere")
        task = WriteElsewhere().delay()
        of_queue = text_of(client.get(page_of(task)))
        steering.resume("elsewhere")
        steering.pause(processor="WriteElsewhere")
        of_processor = text_of(client.get(page_of(task)))

        sent = "It is resumed on the dashboard."
        assert (sent in of_queue) == (scope.queues is not None)
        assert (sent in of_processor) == (scope.processors is not None)

    def test_others_see_all(self, client, tasks, admin_client):
        assert len(listed(admin_client)) == len(tasks)
        assert len(admin_client.get(DASHBOARD).context["queues"]) == 2

    @pytest.mark.parametrize("field", ["queues", "processors"])
    def test_a_single_name_is_refused(self, field):
        """Each queue whose name is a part of it would be seen."""
        with pytest.raises(TypeError, match=rf"write Scope\({field}={{'mails'}}\)"):
            Scope(**{field: "mails"})

    def test_it_is_asked_for_once_a_request(self, tasks):
        """It may be a query for the user's groups."""
        asked = []

        class Counting(TaskAdmin):
            def get_scope(self, request):
                asked.append(request)
                return Scope(queues={"elsewhere"})

        with registered(Task, Counting):
            client_of(*self.ALL).get(LIST)

        assert len(asked) == 1

    def test_a_narrower_queryset_goes_with_it(self, tasks):
        """A site may hide rows by other columns, too."""
        hidden = tasks["new", "WriteElsewhere"]

        class Narrow(TaskAdmin):
            def get_scope(self, request):
                return Scope(queues={"elsewhere"})

            def get_queryset(self, request):
                return super().get_queryset(request).exclude(pk=hidden.pk)

        with registered(Task, Narrow):
            client = client_of(*self.ALL)
            assert set(listed(client)) == self.inside(tasks) - {hidden.pk}
            assert listed(client, q=str(hidden.pk)) == []


@pytest.mark.parametrize("name", ["view_task", "change_task", "delete_task"])
def test_the_upgrades_script_gives_arguments_to_all_who_saw_tasks(name):
    """Its page says so of groups and of people."""
    group, user = Group.objects.create(name="g"), User.objects.create_user("u")
    permission = Permission.objects.get(codename=name)
    group.permissions.add(permission)
    user.user_permissions.add(permission)

    exec(blocks("docs/howto/support.md", "python")[0].text, {})

    given = [each.codename for each in group.permissions.all()]
    assert ("view_arguments" in given) == (name == "view_task")
    assert {p.codename for p in user.user_permissions.all()} == set(given)


ours = {
    Dashboard: DashboardAdmin,
    Schedule: ScheduleAdmin,
    Supervisor: SupervisorAdmin,
    Task: TaskAdmin,
}
ops = admin.AdminSite(name="ops")
for model, model_admin in ours.items():
    ops.register(model, model_admin)
lone = {model: admin.AdminSite(name=f"lone_{model.__name__}") for model in ours}
for model, model_admin in ours.items():
    lone[model].register(model, model_admin)

urlpatterns = [
    path("admin/", admin.site.urls),
    path("ops/", ops.urls),
    *(path(f"lone/{model.__name__}/", site.urls) for model, site in lone.items()),
]


@pytest.mark.urls("tests.test_support")
class TestAnotherSite:
    """Pages stay on the admin site that they are on, and name no page that it has not."""

    @pytest.fixture
    def rows(self):
        task = failed()
        supervise()
        Schedule.objects.create(
            processor_class="Tick", queue_name="ticks", schedule="every 9 s", set_by=uuid.uuid4()
        )
        schedules.create("acme", Write(), "0 7 * * *")
        return task

    def links(self, page):
        content = page.content.decode()
        found = re.findall(r'(?:href|action|data-url)="(/[^"?]*)', content)
        # Django's own are the static files, and the way to the site itself.
        return {link for link in found if not link.startswith("/static/") and link != "/"}

    def test_every_link_stays(self, admin_client, rows):
        supervisor = Supervisor.objects.get()
        for page in (
            "", "task/", "task/?status=error", f"task/{rows.pk}/change/", "supervisor/",
            f"supervisor/{supervisor.pk}/change/", "schedule/", "schedule/Tick/change/",
            "schedule/add/", "schedule/_3Aacme/change/", "schedule/_3Aacme/edit/",
            "dashboard/", "dashboard/live/",
        ):  # fmt: skip
            answer = admin_client.get(f"/ops/partisan_async/{page}")
            assert answer.status_code == 200, page
            links = self.links(answer)
            assert links or "live" in page
            assert {link for link in links if not link.startswith("/ops/")} == set(), page

    def test_what_is_done_there_ends_there(self, admin_client, rows):
        supervisor, at = Supervisor.objects.get(), "/ops/partisan_async"
        chosen = {"_selected_action": rows.pk, "ids": rows.pk, "from_page": 1}

        asked = admin_client.post(f"{at}/task/", {"action": "retry", **chosen})
        done = admin_client.post(f"{at}/task/", {"action": "retry", "confirmed": 1, **chosen})
        paused = admin_client.post(f"{at}/dashboard/", {"pause": "default"})
        chosen = {"_selected_action": supervisor.pk, "action": "drain", "back": "dashboard"}
        drain = admin_client.post(f"{at}/supervisor/", chosen)
        drained = admin_client.post(f"{at}/supervisor/", {"confirmed": 1, **chosen})

        assert {link for link in self.links(asked) if not link.startswith("/ops/")} == set()
        assert {link for link in self.links(drain) if not link.startswith("/ops/")} == set()
        assert done.url == f"{at}/task/{rows.pk}/change/"
        assert paused.url == drained.url == f"{at}/dashboard/"

    @pytest.mark.parametrize("model", ours, ids=lambda model: model.__name__)
    def test_a_site_with_one_of_them_alone_has_its_pages(self, admin_client, rows, model):
        """``NoReverseMatch`` was what such a site got."""
        at = f"/lone/{model.__name__}/partisan_async/{model._meta.model_name}/"
        pages = {
            Task: ["", "?status=error", f"{rows.pk}/change/"],
            Supervisor: ["", f"{Supervisor.objects.get().pk}/change/"],
            Schedule: ["", "Tick/change/", "add/", "_3Aacme/change/", "_3Aacme/edit/"],
            Dashboard: [],
        }[model]

        for page in pages:
            answer = admin_client.get(at + page)
            assert answer.status_code == 200, page
            assert {link for link in self.links(answer) if not link.startswith("/lone/")} == set()
        if model is Dashboard:
            assert admin_client.get(at).status_code == 403
        if model is Supervisor:
            chosen = {"_selected_action": Supervisor.objects.get().pk, "action": "drain"}
            answer = admin_client.post(at, {"confirmed": 1, "back": "dashboard", **chosen})
            assert answer.url == at
