"""Samples of the machine and of this process's tree, by psutil and NVIDIA's library.

Units stand in the names: bytes, percent (100 = one core for processes), watts,
degrees Celsius. A source that fails is left out of a sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Sample = dict[str, int | float]


class SystemSampler:
    """Takes samples; the first one sets the baselines of rates and differences.

    Args:
        path: A path on the disk to watch.
    """

    def __init__(self, path: Path) -> None:
        import psutil

        self._psutil: Any = psutil
        self._path = str(path)
        self._process: Any = psutil.Process()
        self._disk0 = self._counters(psutil.disk_io_counters)
        self._net0 = self._counters(psutil.net_io_counters)
        self._gpus = list(_gpu_handles())
        psutil.cpu_percent()
        self._process.cpu_percent()

    def sample(self) -> Sample:
        """One sample, as flat keys."""
        found: Sample = {}
        for source in (self._machine, self._tree, self._traffic, self._nvidia):
            try:
                found.update(source())
            except Exception:  # noqa: BLE001 - one source must not stop the others
                continue
        return found

    def close(self) -> None:
        """Let go of the GPU library."""
        if self._gpus:
            import pynvml

            pynvml.nvmlShutdown()

    def _machine(self) -> Sample:
        memory = self._psutil.virtual_memory()
        disk = self._psutil.disk_usage(self._path)
        found: Sample = {
            "cpu.percent": self._psutil.cpu_percent(),
            "memory.used_bytes": memory.used,
            "memory.available_bytes": memory.available,
            "memory.percent": memory.percent,
            "disk.used_bytes": disk.used,
            "disk.free_bytes": disk.free,
            "disk.percent": disk.percent,
        }
        for name, limit in _cgroup_limits():
            found[name] = limit
        return found

    def _tree(self) -> Sample:
        rss, cpu, threads = 0, 0.0, 0
        for process in (self._process, *self._process.children(recursive=True)):
            try:
                with process.oneshot():
                    rss += process.memory_info().rss
                    cpu += process.cpu_percent()
                    threads += process.num_threads()
            except self._psutil.Error:  # it ended meanwhile
                continue
        return {"proc.rss_bytes": rss, "proc.cpu_percent": cpu, "proc.threads": threads}

    def _traffic(self) -> Sample:
        found: Sample = {}
        disk = self._counters(self._psutil.disk_io_counters)
        if disk is not None and self._disk0 is not None:
            found["disk.read_bytes"] = disk.read_bytes - self._disk0.read_bytes
            found["disk.write_bytes"] = disk.write_bytes - self._disk0.write_bytes
        net = self._counters(self._psutil.net_io_counters)
        if net is not None and self._net0 is not None:
            found["net.sent_bytes"] = net.bytes_sent - self._net0.bytes_sent
            found["net.recv_bytes"] = net.bytes_recv - self._net0.bytes_recv
        return found

    def _nvidia(self) -> Sample:
        found: Sample = {}
        for index, handle in enumerate(self._gpus):
            import pynvml

            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            rates = pynvml.nvmlDeviceGetUtilizationRates(handle)
            found[f"gpu.{index}.util_percent"] = rates.gpu
            found[f"gpu.{index}.memory_used_bytes"] = memory.used
            found[f"gpu.{index}.memory_total_bytes"] = memory.total
            watts = pynvml.nvmlDeviceGetPowerUsage(handle) / 1000
            found[f"gpu.{index}.power_watts"] = watts
            celsius = pynvml.nvmlDeviceGetTemperature(handle, 0)
            found[f"gpu.{index}.temp_celsius"] = celsius
        return found

    def _counters(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except Exception:  # noqa: BLE001 - psutil parses files that vary by kernel
            return None


def _gpu_handles() -> Iterator[Any]:
    """NVML handles; none where the library, the driver or the GPU is absent."""
    try:
        import pynvml

        pynvml.nvmlInit()
        for index in range(pynvml.nvmlDeviceGetCount()):
            yield pynvml.nvmlDeviceGetHandleByIndex(index)
    except Exception:  # noqa: BLE001 - NVML raises classes of its own, import too
        return


def _cgroup_limits() -> Iterator[tuple[str, int | float]]:
    """Memory (bytes) and CPU (cores) limits of cgroup v2, where they are set."""
    base = Path("/sys/fs/cgroup")
    try:
        text = (base / "memory.max").read_text().strip()
        if text != "max":
            yield "memory.limit_bytes", int(text)
        quota, period = (base / "cpu.max").read_text().split()
        if quota != "max":
            yield "cgroup.cpu_limit", int(quota) / int(period)
    except (OSError, ValueError):
        return
