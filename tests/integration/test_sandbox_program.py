"""The sandbox as a program: the settings that point at it, its port file, and how it stops."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from ordernotify.sandbox._base import Reply, Vendor
from ordernotify.sandbox.app import environment, settings_for

PIGEON = Vendor(
    name="pigeon",
    routes={},
    settings={"token": "throw-away"},
    url_settings={"token_url": "/oauth/token"},
    refuse=lambda fault: Reply(500, fault.encode()),
)


def test_the_environment_points_every_setting_of_an_adapter_at_the_sandbox():
    assert settings_for(PIGEON, "http://127.0.0.1:8430/") == {
        "ORDERNOTIFY_PIGEON_BASE_URL": "http://127.0.0.1:8430/pigeon",
        "ORDERNOTIFY_PIGEON_TOKEN": "throw-away",
        "ORDERNOTIFY_PIGEON_TOKEN_URL": "http://127.0.0.1:8430/pigeon/oauth/token",
    }
    owl = replace(PIGEON, name="owl")
    both = environment("http://127.0.0.1:1", {"pigeon": PIGEON, "owl": owl})
    assert {variable.split("_")[1] for variable in both} == {"PIGEON", "OWL"}


PROGRAM = """
import sys
from ordernotify.sandbox._base import Reply, Vendor
from ordernotify.sandbox.app import main
pigeon = Vendor(name="pigeon", routes={}, settings={}, refuse=lambda fault: Reply(500))
sys.exit(main(sys.argv[1:], vendors={"pigeon": pigeon}))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_program_writes_its_port_and_stops_at_once_even_with_a_request_hanging(tmp_path: Path, number):
    port_file = tmp_path / "port"
    program = [sys.executable, "-c", PROGRAM, "--port", "0", "--port-file", str(port_file)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline().strip()
            port = int(port_file.read_text())
            assert said == f"Sandbox on http://127.0.0.1:{port}"
            with (
                httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
                socket.create_connection(("127.0.0.1", port), timeout=5) as hanging,
            ):
                client.post("/_control/pigeon/fault", json={"fault": "hang"})
                hanging.sendall(b"GET /pigeon/ HTTP/1.1\r\nhost: x\r\n\r\n")
                while client.get("/_control/counts").json()["pigeon"]["requests"] == 0:
                    time.sleep(0.01)
                began = time.monotonic()
                process.send_signal(number)
                assert process.wait(5) == 0
                assert time.monotonic() - began < 2
                with pytest.raises(ConnectionResetError):
                    hanging.recv(1)
            assert process.communicate() == ("", "")
            assert [file.name for file in tmp_path.iterdir()] == ["port"]
        finally:
            process.kill()


def test_a_port_that_is_taken_and_a_host_that_is_not_this_machine_are_said_plainly(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for arguments, words in (
            (["--port", port], "Address already in use"),
            (["--port", "0", "--host", "192.0.2.1"], "is not this machine"),
        ):
            program = [sys.executable, "-m", "ordernotify.sandbox", *arguments]
            done = subprocess.run(program, capture_output=True, text=True, timeout=20, check=False)
            assert (done.returncode, done.stdout) == (2, "")
            assert words in done.stderr
            assert "Traceback" not in done.stderr
