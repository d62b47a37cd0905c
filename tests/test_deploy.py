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

import psutil
import pytest
import yaml

from partisan_async import registry
from partisan_async.settings import QueueSettings
from partisan_async.supervisor import supervisor
from tests.conftest import ended, wait_until
from tests.process import Partisan
from tests.test_docs import ROOT, check_manage
from tests.test_health import get

FILES = ROOT / "docs" / "howto" / "files"

STOP_SECONDS = QueueSettings().SHUTDOWN_GRACE_SECONDS + supervisor.CLOSING_SECONDS


def unit():
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(FILES / "partisan@.service")
    return parser


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
        assert int(service["WatchdogSec"]) >= 2 * supervisor.TTL_SECONDS
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

        for name in ("migrate", "tasks"):
            command, *options = services[name]["command"]
            check_manage(command, options)
        tasks = services["tasks"]
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
