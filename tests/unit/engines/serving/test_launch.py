from __future__ import annotations

import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.serving import QUICK, ending, launcher, logged, runs, tell
from vocabtrim.engines.serving.base import EngineError, EngineFailure, OutOfMemory, Program, Serve
from vocabtrim.engines.serving.interrupts import Interrupts
from vocabtrim.engines.serving.launch import (
    Launcher,
    Limits,
    end_servers,
    free_port,
    is_free,
)

SERVE = Serve(Path("target.gguf"))


def test_a_server_comes_up_under_a_name_of_its_own_and_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, log=str(tmp_path / "log"), children=True)
    with ending() as started:
        server = launcher(tmp_path).start(SERVE, started)
        assert started == [server]
        assert server.start_s is not None
        assert server.start_s > 0
        assert server.model.startswith("vocabtrim-")
        assert server.root.send("/health", timeout_s=10).status == 200
        assert not is_free(server.endpoint.port)
        pids = logged(tmp_path / "log")
        assert len(pids) == 3
        assert all(map(runs, pids))
        assert server.explain() is None
    assert not any(map(runs, pids))
    assert is_free(server.endpoint.port)
    # what it wrote on the side went where it was told to
    assert len(list((tmp_path / "scratch").iterdir())) == 1


FAULTS = {
    "refuse": (EngineError, r"ended before it was up, with 1; it said:\n  .*wrong shape"),
    "crash": (EngineError, r"by signal SIGABRT; it said:\n  terminate called"),
    "port": (EngineError, "could not listen: its port is taken"),
    "memory": (OutOfMemory, r"found too little memory and ended.*said:\n  .*insufficient"),
    "gpu": (OutOfMemory, r"two servers at once \(--one-at-a-time\); it said:\n  .*Free memory on"),
    "killed": (OutOfMemory, r"was killed before it was up, most likely because"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_why_a_server_does_not_come_up_is_one_sentence_with_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    kind, message = FAULTS[fault]
    tell(monkeypatch, fail=fault, log=str(tmp_path / "log"))
    with ending() as started, pytest.raises(kind, match=rf"(?s)llama\.cpp .*{message}"):
        launcher(tmp_path).start(SERVE, started)
    assert not any(map(runs, logged(tmp_path / "log")))


def test_a_refusal_shows_the_lines_that_tell_why_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, fail="refuse")
    with ending() as started, pytest.raises(EngineError) as found:
        launcher(tmp_path).start(SERVE, started)
    assert str(found.value).splitlines()[1:] == [
        "  0.2 E llama_model_load: wrong shape of output.weight"
    ]
    assert found.value.exit_code == 2


def test_a_port_that_another_program_took_is_tried_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, fail="port", log=str(tmp_path / "log"))
    with ending() as started, pytest.raises(EngineError, match="its port is taken"):
        launcher(tmp_path).start(SERVE, started)
    assert len(logged(tmp_path / "log")) == 3


def test_a_server_that_hangs_is_given_up_with_its_last_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, fail="hang", log=str(tmp_path / "log"), stubborn=True)
    limits = Limits(start_s=2.0, end_s=0.2)
    message = r"not up within 2 s; its last lines:\n  0.1 I srv: loading, and loading"
    with ending(limits) as started, pytest.raises(EngineFailure, match=message):
        launcher(tmp_path, limits).start(SERVE, started)
    assert logged(tmp_path / "log")
    assert not any(map(runs, logged(tmp_path / "log")))


def test_a_port_that_is_taken_is_said_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, log=str(tmp_path / "log"))
    with socket.socket() as taken, ending() as started:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EngineError, match=f"the port {port} is taken by another program"):
            launcher(tmp_path, Limits(port=port)).start(SERVE, started)
    assert not logged(tmp_path / "log")


def test_ports_count_on_from_the_first(tmp_path: Path) -> None:
    port = free_port()
    with ending() as started:
        start = launcher(tmp_path, Limits(port=port)).start
        servers = [start(SERVE, started, number=number) for number in (0, 1)]
        assert [server.endpoint.port for server in servers] == [port, port + 1]


def test_another_server_on_the_port_is_not_taken_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ending() as started:
        other = launcher(tmp_path).start(SERVE, started)
        # as if it had been faster: the port looks free, and the new server never listens
        tell(monkeypatch, fail="hang")
        mine = launcher(tmp_path, Limits(start_s=1.5, end_s=1.0))
        monkeypatch.setattr(
            "vocabtrim.engines.serving.launch.free_port", lambda: other.endpoint.port
        )
        with pytest.raises(EngineFailure, match=r"not up within 1\.5 s"):
            mine.start(SERVE, started)


def test_a_program_that_cannot_be_run_is_said(tmp_path: Path) -> None:
    broken = Launcher(
        launcher(tmp_path).engine, Program(("/nowhere/x",), "1"), tmp_path, QUICK, Interrupts()
    )
    with pytest.raises(EngineError, match=r"/nowhere/x cannot be run .No such file"):
        broken.start(SERVE, [])


def test_a_server_that_ends_later_explains_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, log=str(tmp_path / "log"))
    with ending() as started:
        server = launcher(tmp_path).start(SERVE, started)
        os.kill(logged(tmp_path / "log")[0], signal.SIGKILL)
        assert server.group is not None
        server.group.process.wait(10)
        reason = server.explain()
    assert isinstance(reason, EngineFailure)
    assert "was killed in the middle of its work" in str(reason)


def test_a_signal_while_it_waits_ends_the_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, fail="hang", log=str(tmp_path / "log"))
    starting = launcher(tmp_path)
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM)).start()
    began = time.monotonic()
    with ending() as started, pytest.raises(KeyboardInterrupt), starting.interrupts.held():
        starting.start(SERVE, started)
    assert time.monotonic() - began < 20.0
    assert not any(map(runs, logged(tmp_path / "log")))


def test_servers_of_others_are_not_ended(tmp_path: Path) -> None:
    with ending() as started:
        server = launcher(tmp_path).start(SERVE, started)
        foreign = type(server)(server.engine, server.endpoint, server.model)
        end_servers([foreign], QUICK, Interrupts())
        assert server.root.send("/health", timeout_s=10).status == 200
        assert foreign.explain() is None


@pytest.mark.parametrize("given", [{"start_s": 0.0}, {"answer_s": -1.0}, {"end_s": -0.1}])
def test_limits_are_checked(given: dict[str, float]) -> None:
    with pytest.raises(EngineError, match="more than 0 s"):
        Limits(**given)


@pytest.mark.parametrize("port", [0, 80, 65_535])
def test_ports_are_checked(port: int) -> None:
    with pytest.raises(EngineError, match=f"found {port}"):
        Limits(port=port)
