# SPDX-License-Identifier: Apache-2.0
"""Programs in processes of their own, forked from one that has already imported what takes them seconds.

Such a program has its own process, arguments, environment, folder, streams, signals and exit status, as if started by
`python SCRIPT` or `python -m MODULE`. Not its own are the imports and what is read while they are made, such as
OMP_NUM_THREADS and PYTHONPATH: a test of these starts an interpreter.

In a test: `fork_server.ROS.start(...)` or `fork_server.TRAINER.run(...)`. This file is the server: it imports the
modules named on its command line, calls those that are MODULE:FUNCTION, and forks for each request on the socket
that is its first argument.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]
LONGEST = 200_000  # bytes of a request, most of them environment
# What may not be asked of a forked program, since it was read when the server was started.
READ_AT_START = ("LD_LIBRARY_PATH", "LD_PRELOAD", "OMP_NUM_THREADS", "PYTHONPATH")


class Program:
    """A program in a forked process; the methods are those of subprocess.Popen with text streams."""

    def __init__(self, pid: int, status: int, stdout: IO[str], stderr: IO[str] | None) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout, self.stderr = stdout, stderr
        self._status = status  # a pipe that brings the exit status

    def poll(self) -> int | None:
        return self._wait(0)

    def wait(self, timeout: float | None = None) -> int:
        if (code := self._wait(timeout)) is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str | None]:
        if self.stdout.closed:  # all has been told
            return "", None if self.stderr is None else ""
        until = None if timeout is None else time.monotonic() + timeout
        said: dict[IO[str], str] = {}
        streams = [stream for stream in (self.stdout, self.stderr) if stream is not None]
        readers = [threading.Thread(target=lambda s=s: said.update({s: s.read()}), daemon=True) for s in streams]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(None if until is None else max(0, until - time.monotonic()))
        self.wait(None if until is None else max(0, until - time.monotonic()))
        if len(said) < len(streams):
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        for stream in streams:
            stream.close()
        return said[self.stdout], None if self.stderr is None else said[self.stderr]

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _wait(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            said = os.read(self._status, 64)
            assert said, "the fork server has ended"
            self.returncode = int(said)
            os.close(self._status)
        return self.returncode


class ForkServer:
    """Forks programs from a process that has imported `modules`, which is started when the first is wanted."""

    def __init__(self, *modules: str) -> None:
        self._modules = modules
        self._socket: socket.socket | None = None

    def start(
        self,
        *command: str | Path,
        cwd: Path = ROOT,
        env: dict[str, str] | None = None,
        stderr: int = subprocess.STDOUT,
        new_session: bool = False,
    ) -> Program:
        """What `python *command` would start: a script with its arguments, or -m and a module with its arguments.

        Its standard output is a pipe; standard error goes there too, or to another one with subprocess.PIPE. In a new
        session it leads a process group of its own, as a terminal's programs do.
        """
        env = dict(os.environ) if env is None else env
        assert all(env.get(name) == os.environ.get(name) for name in READ_AT_START)
        request = {"command": list(map(str, command)), "cwd": str(cwd), "env": env, "new_session": new_session}
        out, write_out = os.pipe()
        err, write_err = (None, os.dup(write_out)) if stderr == subprocess.STDOUT else os.pipe()
        status, write_status = os.pipe()
        ends = [write_out, write_err, write_status]
        socket.send_fds(self._connection(), [json.dumps(request).encode()], ends)
        for end in ends:
            os.close(end)
        pid = os.read(status, 8)  # written in one piece, before anything else
        assert pid, "the fork server has ended"
        return Program(int(pid), status, open(out), None if err is None else open(err))

    def run(
        self, *command: str | Path, timeout: float, cwd: Path = ROOT, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """What subprocess.run([python, *command], capture_output=True, text=True) would do."""
        program = self.start(*command, cwd=cwd, env=env, stderr=subprocess.PIPE)
        try:
            said = program.communicate(timeout)
        except subprocess.TimeoutExpired:
            program.kill()
            raise
        return subprocess.CompletedProcess(command, program.wait(), *said)

    def _connection(self) -> socket.socket:
        if self._socket is None:
            self._socket, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * LONGEST)
            command = [sys.executable, __file__, str(its.fileno()), *self._modules]
            server = subprocess.Popen(command, cwd=ROOT, pass_fds=[its.fileno()])
            its.close()
            atexit.register(self._end, server)
        return self._socket

    def _end(self, server: subprocess.Popen[bytes]) -> None:
        assert self._socket is not None
        self._socket.close()
        server.wait()


ROS = ForkServer(
    "road_seg_node.camera.camera", "road_seg_node.camera.recorder", "road_seg_node.demo.demo", "road_seg_node.node.node"
)
TRAINER = ForkServer("export.export", "export.quantize", "train.evaluate", "train.train", "exported_graphs:install")


def serve(requests: socket.socket) -> dict[str, Any]:
    """Forks for each request, and tells its pid and in the end its exit status; returns only in a forked process."""
    running: dict[int, tuple[int, int]] = {}  # a handle of the process: its pid, and where its status goes
    while True:
        for ready in select.select([requests, *running], [], [])[0]:
            if ready in running:
                pid, told = running.pop(ready)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                try:
                    os.write(told, b"%d" % code)
                except BrokenPipeError:  # nobody waits for it
                    pass
                os.close(told)
                os.close(ready)
                continue
            request, ends, _, _ = socket.recv_fds(requests, LONGEST, 3)
            if not request:
                sys.exit()
            pid = os.fork()
            if not pid:
                for handle, (_, other) in running.items():
                    os.close(handle)
                    os.close(other)
                requests.close()
                os.close(ends[2])
                return json.loads(request) | {"ends": ends[:2]}
            os.write(ends[2], b"%8d" % pid)
            running[os.pidfd_open(pid)] = (pid, ends[2])
            for end in ends[:2]:
                os.close(end)


def become(request: dict[str, Any]) -> None:
    """Runs the requested program in this process, as the interpreter would have."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, end in zip((1, 2), request["ends"], strict=True):
        os.dup2(end, number)
        os.close(end)
    at_once = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdout = open(1, "w", encoding=sys.stdout.encoding, closefd=False)  # the other takes the pipe for a file
    for stream in (sys.stdout, sys.stderr):
        assert hasattr(stream, "reconfigure")
        stream.reconfigure(line_buffering=stream is sys.stderr, write_through=at_once)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGTERM):  # which it ignores where the tests do, as under nohup
        signal.signal(number, signal.SIG_DFL)
    if request["new_session"]:
        os.setsid()
    program, *arguments = request["command"]
    if program == "-m":
        module, *arguments = arguments
        sys.argv = [module, *arguments]
        sys.path[0] = os.getcwd()
        if not hasattr(sys.modules.get(module), "__path__"):  # but for a package, whose __main__ is run
            sys.modules.pop(module, None)
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.argv = [program, *arguments]
        sys.path[0] = str(Path(program).resolve().parent)
        runpy.run_path(program, run_name="__main__")


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the tests, and they the server
    requests = socket.socket(fileno=int(sys.argv[1]))
    tests = sys.path[0]
    sys.path.insert(0, str(ROOT))
    for name in sys.argv[2:]:
        module, _, function = name.partition(":")
        imported = importlib.import_module(module)
        if function:
            getattr(imported, function)()
    sys.path.remove(tests)
    gc.freeze()  # so that collecting garbage in a forked process does not copy what was imported
    become(serve(requests))


if __name__ == "__main__":
    main()
