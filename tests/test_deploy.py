"""The files that the how-tos hand out: they parse, their options exist, their numbers agree."""

import configparser
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import psutil
import psycopg
import pytest
import yaml
from django.db import connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from partisan_async import registry, store
from partisan_async.settings import QueueSettings
from partisan_async.supervisor import supervisor
from tests.conftest import ended, wait_until
from tests.process import Partisan, environment
from tests.test_docs import ROOT, check_manage, tables
from tests.test_health import get
from tests.testapp.partisan_tasks import Die, Tell

FILES = ROOT / "docs" / "howto" / "files"

STOP_SECONDS = QueueSettings().SHUTDOWN_GRACE_SECONDS + supervisor.CLOSING_SECONDS


def unit():
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(FILES / "partisan@.service")
    return parser


def can_rate():
    """Whether there is a systemd-analyze that rates a unit that is not installed."""
    if not shutil.which("systemd-analyze"):
        return False
    said = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True)
    return int(re.search(r"systemd (\d+)", said.stdout)[1]) >= 250


def dockerfile(instruction):
    """Return the arguments of an instruction's last occurrence."""
    lines = (FILES / "Dockerfile").read_text().splitlines()
    return [line.removeprefix(f"{instruction} ") for line in lines if line.startswith(instruction)][
        -1
    ]


def deployment():
    return list(yaml.safe_load_all((FILES / "deployment.yaml").read_text()))


def option(words, name):
    return words[words.index(name) + 1]


@pytest.fixture
def shut_in(transactional_db):
    """Words that start a process as the containers of the files do: read-only, without rights.

    And the host that it finds the database at: a server's folder is not open to everybody.
    """
    host, lines = connection.settings_dict["HOST"], ["mount --make-rprivate /"]
    if host.startswith("/"):
        socket = f".s.PGSQL.{connection.settings_dict['PORT'] or 5432}"
        lines += ["mount -t tmpfs tmpfs /mnt", f"touch /mnt/{socket}"]
        lines += [f"mount --bind {host}/{socket} /mnt/{socket}"]
        host = "/mnt"
    lines += ["mount -o bind,remount,ro /", 'exec "$@"']
    words = ["unshare", "--mount", "sh", "-e", "-c", "\n".join(lines), "sh"]
    words += ["setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
    tried = shutil.which("setpriv") and subprocess.run([*words, "true"], capture_output=True)
    if not tried or tried.returncode:
        pytest.skip("this machine cannot make a read-only file system: it takes root")
    return words, host


@pytest.fixture
def in_pid_namespace():
    """Words that start a process as the first of a namespace, as in a container."""
    words = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if (
        not shutil.which("unshare")
        or subprocess.run([*words, "true"], capture_output=True).returncode
    ):
        pytest.skip("this machine cannot make a process namespace: it takes root, or CAP_SYS_ADMIN")
    return words


class TestUnit:
    @pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd here")
    def test_systemd_takes_it(self, tmp_path):
        """What it does not know it warns of, and ignores."""
        text = (FILES / "partisan@.service").read_text()
        text = text.replace("/srv/mysite/.venv/bin/python", sys.executable)
        (tmp_path / "partisan@.service").write_text(text.replace("/srv/mysite", str(tmp_path)))

        verify = ["systemd-analyze", "verify", "--man=no", tmp_path / "partisan@.service"]
        said = subprocess.run(verify, capture_output=True, text=True)

        assert (said.returncode, said.stderr) == (0, "")

    @pytest.mark.skipif(not can_rate(), reason="no systemd here that rates units")
    def test_systemd_finds_it_shut_in(self, tmp_path):
        """From 0, shut in, to 10; a unit that says nothing has 9.6."""
        path = tmp_path / "partisan@.service"
        path.write_text((FILES / "partisan@.service").read_text())
        # In tenths, from systemd's own: "exposure level exceeds" is an error then.
        rate = ["systemd-analyze", "security", "--offline=true", "--threshold=16", path]

        said = subprocess.run(rate, capture_output=True, text=True)

        assert said.returncode == 0, said.stdout

    def test_it_writes_to_its_own_folders_alone_and_gains_no_rights(self):
        """Of the many settings those that matter most: their weight in the rating is small."""
        service = unit()["Service"]

        shut = {"ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes"}
        shut |= {"NoNewPrivileges": "yes", "CapabilityBoundingSet": "", "UMask": "0077"}
        assert {name: service[name] for name in shut} == shut
        assert service["User"] != "root"

    def test_its_page_tells_how_to_open_what_it_shuts(self):
        """Each line names a setting that the unit has, or one that lets something in."""
        service = unit()["Service"]
        told = [row[1] for row in tables("docs/howto/systemd.md")["your tasks"]]
        opened = {name for cell in told for name in re.findall(r"(\w+)=", cell)}

        assert opened - {"ReadWritePaths", "DeviceAllow"} <= set(service)

    def test_its_command_exists(self):
        """A mistyped option would be found at the deploy."""
        program, script, name, *options = shlex.split(unit()["Service"]["ExecStart"])

        assert (program[-11:], script, name) == ("/bin/python", "manage.py", "start_partisan")
        check_manage(name, options)
        assert option(options, "--queue_name") == "%i"

    def test_it_leaves_the_time_that_a_stop_takes(self):
        """And hears of a heartbeat that is stuck no sooner than the health port says so."""
        service = unit()["Service"]

        assert int(service["TimeoutStopSec"]) > STOP_SECONDS
        assert int(service["WatchdogSec"]) >= 2 * store.TTL_SECONDS
        assert service["Type"] == "notify"


class TestContainers:
    def test_the_image_starts_the_supervisor_itself(self):
        """In the exec form, and with options that exist."""
        entry, command = json.loads(dockerfile("ENTRYPOINT")), json.loads(dockerfile("CMD"))

        assert entry == ["python", "manage.py"]
        check_manage(command[0], command[1:])
        assert option(command, "--health-port") == dockerfile("EXPOSE")
        assert option(command, "--health-host") == "0.0.0.0"
        assert dockerfile("STOPSIGNAL") == "SIGTERM"

    def test_compose_agrees_with_the_image(self):
        """Ports, commands, and the time of a stop."""
        services = yaml.safe_load((FILES / "compose.yaml").read_text())["services"]

        tasks = services["tasks"]
        assert (tasks["read_only"], tasks["cap_drop"]) == (True, ["ALL"])
        assert tasks["security_opt"] == ["no-new-privileges:true"]
        assert "postgresql://site_supervisor:" in tasks["environment"]["DATABASE_URL"]
        for name in ("migrate", "tasks"):
            command, *options = services[name]["command"]
            check_manage(command, options)
        port = option(tasks["command"], "--health-port")
        assert tasks["command"] == json.loads(dockerfile("CMD"))
        assert f"http://127.0.0.1:{port}/live" in tasks["healthcheck"]["test"][-1]
        assert int(tasks["stop_grace_period"].removesuffix("s")) > STOP_SECONDS
        assert set(tasks["depends_on"]) | set(services["migrate"]["depends_on"]) <= set(services)

    def test_the_deployment_agrees_with_the_image(self):
        """Ports, probes, labels, and the time of a stop."""
        workload, budget = deployment()
        pod = workload["spec"]["template"]
        (container,) = pod["spec"]["containers"]
        (port,) = container["ports"]
        command = json.loads(dockerfile("CMD"))

        assert container["args"] == command
        assert str(port["containerPort"]) == option(command, "--health-port")
        assert pod["metadata"]["annotations"]["prometheus.io/port"] == dockerfile("EXPOSE")
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert str(pod["spec"]["securityContext"]["runAsUser"]) == dockerfile("USER")
        assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        probes = {name: container[f"{name}Probe"] for name in ("startup", "liveness", "readiness")}
        assert {name: probe["httpGet"]["path"] for name, probe in probes.items()} == {
            "startup": "/live",
            "liveness": "/live",
            "readiness": "/ready",
        }
        assert {probe["httpGet"]["port"] for probe in probes.values()} == {port["name"]}
        assert pod["spec"]["terminationGracePeriodSeconds"] > STOP_SECONDS
        labels = pod["metadata"]["labels"]
        assert workload["spec"]["selector"]["matchLabels"] == labels
        assert budget["spec"]["selector"]["matchLabels"] == labels

    @pytest.mark.django_db(transaction=True)
    def test_as_the_first_process_it_heeds_the_signal_and_leaves_nothing(self, in_pid_namespace):
        """The kernel keeps from it each signal that it does not handle."""
        command = json.loads(dockerfile("CMD"))

        class First(Partisan):
            program = ("-c", "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])",
                       *in_pid_namespace, sys.executable, "-m", "django")  # fmt: skip

        options = [re.sub("^9100$", "0", word) for word in command[1:]]
        running = First(command[0], *options)
        try:
            running.wait_for("started: queue")
            port = int(re.search(r"http://0\.0\.0\.0:(\d+) ", running.output)[1])
            assert get(port, "/live") == (200, "ok\n")
            wait_until(lambda: ended(registry.get("Nothing")(1).delay()))
            (first,) = psutil.Process(running.pid).children()

            os.kill(first.pid, signal.SIGTERM)

            assert running.wait() == 0
            running.wait_until_nothing_is_left()
        finally:
            running.end()

    def test_shut_in_it_runs_tasks_to_their_end(self, shut_in):
        """It writes no file of its own: what is read-only is read-only for workers, too."""
        words, host = shut_in
        url = make_conninfo(environment()["DATABASE_URL"], host=host)
        running = Partisan("--async", launcher=tuple(words), DATABASE_URL=url)
        try:
            running.wait_for("started: queue")
            root = Path(f"/proc/{running.workers()[0].pid}")
            status = dict(re.findall(r"(\w+):\t(.*)", (root / "status").read_text()))
            assert (int(status["CapBnd"], 16), status["NoNewPrivs"]) == (0, "1")
            mounts = [line.split() for line in (root / "mounts").read_text().splitlines()]
            assert [each[3].split(",")[0] for each in mounts if each[1] == "/"][-1] == "ro"
            task = Tell("answer = 42").delay()
            died = Die("SIGKILL").delay()
            wait_until(lambda: ended(task, died))

            running.signal(signal.SIGTERM)

            assert running.wait() == 0
            task.refresh_from_db()
            assert task.result == 42
        finally:
            running.end()

    @pytest.mark.django_db(transaction=True)
    def test_the_role_of_the_compose_file_may_use_what_migrate_makes(self):
        """The script that makes it, by the real psql, before there are tables."""
        psql = shutil.which("psql")
        if psql is None:
            pytest.skip("there is no psql here")
        url = environment()["DATABASE_URL"]
        role, name = f"supervisor_{uuid.uuid4().hex[:8]}", f"compose_{uuid.uuid4().hex[:8]}"
        script = (FILES / "roles.sh").read_text().replace("site_supervisor", role)
        with psycopg.connect(url, autocommit=True) as server:
            owner = server.info.user
            server.execute(f"CREATE DATABASE {name}")
            fresh = make_conninfo(url, dbname=name)
            parts = conninfo_to_dict(fresh)
            names = {"host": "PGHOST", "port": "PGPORT", "dbname": "PGDATABASE"}
            env = os.environ | {names[key]: str(parts[key]) for key in names if key in parts}
            env |= {"POSTGRES_USER": owner, "SUPERVISOR_PASSWORD": "it's odd"}
            env |= {"PGPASSWORD": str(parts.get("password", ""))}
            try:
                subprocess.run(["sh", "-c", script], env=env, check=True, capture_output=True)
                migrate = [sys.executable, "-m", "django", "migrate", "-v0"]
                subprocess.run(migrate, env=environment(DATABASE_URL=fresh), check=True)
                as_it = make_conninfo(fresh, user=role, password="it's odd")
                check = (
                    "import django; django.setup(); from partisan_async.operate import rights;"
                    " print(rights.missing('default', rights.SUPERVISOR))"
                )
                said = subprocess.run(
                    [sys.executable, "-c", check], env=environment(DATABASE_URL=as_it),
                    check=True, capture_output=True, text=True,
                )  # fmt: skip
                assert said.stdout == "[]\n"
            finally:
                server.execute(f"DROP DATABASE {name} WITH (FORCE)")
                server.execute(f"DROP ROLE IF EXISTS {role}")
