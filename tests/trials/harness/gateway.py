"""The gateway under test as a child process."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

START_MAX_S = 20.0
STOP_MAX_S = 40.0

Address = tuple[str, int]


class Gateway:
    """A running gateway, listening on free ports of loopback."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.addresses: dict[str, Address] = {}
        # Lines of the log that are not access lines; those are only counted, because floods write millions.
        self.log: list[str] = []
        self.access_lines = 0
        self._is_listening = threading.Event()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        if not self._is_listening.wait(START_MAX_S):
            process.kill()
            raise RuntimeError(f"capgate does not listen: {self.log}")

    def _read_log(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if '"message":"request"' in line:
                self.access_lines += 1
                continue
            self.log.append(line.rstrip())
            if '"listener"' in line:
                entry = json.loads(line)
                host, _, port = entry["address"].rpartition(":")
                self.addresses[entry["listener"]] = (host.strip("[]"), int(port))
                # The admin listener starts last.
                if entry["listener"] == "admin":
                    self._is_listening.set()
        self._is_listening.set()

    @property
    def http(self) -> Address:
        """Address of the legacy API over HTTP."""
        return self.addresses["http"]

    @property
    def https(self) -> Address:
        """Address of the legacy API over HTTPS."""
        return self.addresses["https"]

    def admin(self, path: str, timeout_s: float = 5.0) -> str:
        """Returns a page of the admin listener."""
        host, port = self.addresses["admin"]
        with urlopen(f"http://{host}:{port}{path}", timeout=timeout_s) as response:
            return response.read().decode()

    def metrics(self, prefix: str = "") -> dict[str, float]:
        """Returns the values of all metrics whose name, with labels, begins with a prefix."""
        lines = (line for line in self.admin("/metrics").splitlines() if line and not line.startswith("#"))
        pairs = (line.rsplit(" ", 1) for line in lines)
        return {name: float(value) for name, value in pairs if name.startswith(prefix)}

    def gauge(self, name: str) -> float:
        """Returns the value of one metric without labels."""
        return self.metrics(name)[name]

    def metric(self, prefix: str) -> float:
        """Returns the sum of all metrics whose name, with labels, begins with a prefix."""
        return sum(self.metrics(prefix).values())

    def resident_mib(self) -> float:
        """Returns the resident memory of the process."""
        return self._status_kib("VmRSS:") / 1024

    def resident_peak_mib(self) -> float:
        """Returns the highest resident memory since the start or the last reset."""
        return self._status_kib("VmHWM:") / 1024

    def reset_resident_peak(self) -> None:
        """Makes the current resident memory the peak (proc(5), clear_refs)."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def _status_kib(self, name: str) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name))

    def cpu_seconds(self) -> float:
        """Returns the processor time that the process has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None

    def wait_for_gauge(self, name: str, value: float, timeout_s: float) -> bool:
        """Waits until a metric without labels has a value."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if self.gauge(name) == value:
                return True
            time.sleep(0.05)
        return False

    def wait_for_metric(self, prefix: str, value: float, timeout_s: float) -> bool:
        """Waits until a sum of metrics has a value."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if self.metric(prefix) == value:
                return True
            time.sleep(0.05)
        return False

    def stop(self) -> int:
        """Drains the process and returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_MAX_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._reader.join(1)
        return code


@contextmanager
def run_gateway(
    capgate: Path,
    settings: Mapping[str, str] | None = None,
    files: int | None = None,
    command: str = "run",
    cpus: set[int] | None = None,
) -> Iterator[Gateway]:
    """Runs the gateway with settings such as {"LIMITS_PAIRS_MAX": "8"}, with few open files, and on some cores."""
    environment = {
        "CAPGATE_LISTEN_HTTP": "127.0.0.1:0",
        "CAPGATE_LISTEN_HTTPS": "127.0.0.1:0",
        "CAPGATE_LISTEN_ADMIN": "127.0.0.1:0",
        "CAPGATE_LOG_FORMAT": "json",
        "CAPGATE_SERVER_DRAIN_MS": "1000",
        "RUST_BACKTRACE": "1",
    }
    environment |= {f"CAPGATE_{name}": value for name, value in (settings or {}).items()}

    def limit_resources() -> None:
        if files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
        if cpus:
            os.sched_setaffinity(0, cpus)

    process = subprocess.Popen(
        [capgate, command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        preexec_fn=limit_resources,
    )
    gateway = None
    try:
        gateway = Gateway(process)
        yield gateway
    finally:
        if gateway is not None and gateway.is_running():
            gateway.stop()
        if process.poll() is None:
            process.kill()
            process.wait()
