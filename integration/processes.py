"""Processes that a cluster consists of: started by argv, ended by id, never outliving this one."""

import ctypes
import os
import queue
import signal
import subprocess
import threading
import time

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class Failed(Exception):
    """Something that had to happen did not; the text says what, and shows the end of a log."""


def wait_until(condition, timeout, what, interval=0.02):
    """Waits until condition() is true and returns what it returned; Failed after `timeout` seconds.

    `what` says what was waited for: a text, or a function that makes one when the time is up.
    """
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise Failed(f"not within {timeout:g} s: {what() if callable(what) else what}")
        time.sleep(interval)


class _Spawner:
    """Starts processes from one thread that lives as long as this process.

    The kernel sends a "parent died" signal when the *thread* ends that forked; a test may start
    processes from a short-lived one.
    """

    def __init__(self):
        self._requests = queue.Queue()
        self._thread = None
        self._lock = threading.Lock()

    def start(self, argv, **options):
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()
        answer = queue.Queue()
        self._requests.put((argv, options, answer))
        started = answer.get()
        if isinstance(started, Exception):
            raise started
        return started

    def _run(self):
        parent = os.getpid()

        def die_with_parent():
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died before the call above
                os._exit(1)

        while True:
            argv, options, answer = self._requests.get()
            try:
                answer.put(subprocess.Popen(argv, preexec_fn=die_with_parent, **options))
            except Exception as error:  # pylint: disable=broad-except
                answer.put(error)


_spawner = _Spawner()


class Process:
    """One server process, which can be started again. Its output is appended to `log`."""

    def __init__(self, name, argv, log):
        self.name = name
        self.argv = list(argv)
        self.log = log
        self._popen = None
        self.expected_down = True  # told to be down, so its absence is no failure

    @property
    def pid(self):
        return self._popen.pid if self._popen else None

    def start(self):
        if self.running():
            return
        with open(self.log, "ab") as log:
            # A session of its own keeps a terminal's Ctrl-C from ending it before its turn.
            self._popen = _spawner.start(self.argv, stdin=subprocess.DEVNULL, stdout=log,
                                         stderr=subprocess.STDOUT, start_new_session=True)
        self.expected_down = False

    def running(self):
        return self._popen is not None and self._popen.poll() is None

    def exit_code(self):
        return self._popen.poll() if self._popen else None

    def signal(self, number):
        if self.running():
            self._popen.send_signal(number)

    def kill(self):
        """SIGKILL; gone when this returns."""
        self.expected_down = True
        self.signal(signal.SIGKILL)
        if self._popen:
            self._popen.wait()

    def pause(self):
        """SIGSTOP; stopped when this returns."""
        self.signal(signal.SIGSTOP)
        wait_until(lambda: self.state() in ("T", "t", None), 10, f"{self.name} stops at SIGSTOP")

    def resume(self):
        self.signal(signal.SIGCONT)

    def terminate(self):
        self.expected_down = True
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)  # a stopped process would never see it

    def stop(self, timeout=10):
        """SIGTERM, and SIGKILL if that does not end it in time. True if it ended by itself."""
        self.terminate()
        if self._popen is None:
            return True
        try:
            self._popen.wait(timeout)
            return True
        except subprocess.TimeoutExpired:
            self.kill()
            return False

    def restart(self):
        self.kill()
        self.start()

    def state(self):
        """The letter of /proc/pid/stat ("R", "S", "T" ...); None if it is gone."""
        try:
            with open(f"/proc/{self.pid}/stat", encoding="ascii", errors="replace") as stat:
                return stat.read().rsplit(")", 1)[1].split()[0]
        except OSError:
            return None

    def cpu_seconds(self):
        """Used since it started, in user and kernel mode."""
        with open(f"/proc/{self.pid}/stat", encoding="ascii", errors="replace") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self):
        with open(f"/proc/{self.pid}/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def log_tail(self, lines=15):
        try:
            with open(self.log, encoding="utf-8", errors="replace") as log:
                return "".join(log.readlines()[-lines:])
        except OSError:
            return ""


def stop_all(processes, timeout):
    """Ends all of them at once: SIGTERM, and SIGKILL for those still there after `timeout` s."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + timeout
    for process in processes:
        process.stop(max(0.0, deadline - time.monotonic()))
