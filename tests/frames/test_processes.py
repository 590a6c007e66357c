"""Children that decode: what happens to one of them stays there, and every call ends."""

import fcntl
import os
import signal
import subprocess
import sys
import termios
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.clips import encode

from vqathinker_verl.frames import FrameSpec, VideoError, decode, probe, processes
from vqathinker_verl.frames.child import MEMORY_BYTES
from vqathinker_verl.frames.decoding import decode_here

SPEC = FrameSpec(4, size=(56, 56))


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return encode(tmp_path_factory.mktemp("processes") / "x.mp4", num_frames=12, height=64, width=64)


@pytest.fixture
def child(video):
    """The one idle child."""
    processes._end_all()
    probe(video)
    (child,) = processes._idle
    return child._process


@pytest.fixture
def held(child):
    """A child that does not answer; what a decoder that hangs in C code looks like from here."""
    os.kill(child.pid, signal.SIGSTOP)
    yield child
    child.kill()


def bytes_waiting(pipe):
    """Number of bytes in a pipe that were not read yet."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


class TestOneChild:
    def test_gives_what_this_process_would_decode(self, video):
        far, near = decode(video, SPEC), decode_here(str(video), SPEC)
        assert (far.frames == near.frames).all()
        assert far.indices.tolist() == near.indices.tolist()
        assert far.indices.dtype == np.int64
        assert (far.fps, far.total_frames, far.backend) == (near.fps, near.total_frames, near.backend)

    def test_is_used_again(self, video, child):
        for _ in range(3):
            decode(video, SPEC)
        assert [idle._process.pid for idle in processes._idle] == [child.pid]

    def test_is_renewed_after_many_videos(self, video, child, monkeypatch):
        monkeypatch.setattr(processes, "VIDEOS_PER_CHILD", 2)
        probe(video)
        assert child.poll() is not None
        probe(video)
        assert len(processes._idle) == 1

    def test_a_name_that_is_no_text(self, video, tmp_path):
        path = os.path.join(os.fsencode(tmp_path), b"\xff\n\"'.mp4")
        os.link(video, path)
        assert probe(os.fsdecode(path)).total_frames == 12

    def test_side_by_side(self, video):
        processes._end_all()
        with ThreadPoolExecutor(4) as executor:
            results = list(executor.map(lambda _: decode(video, SPEC).frames, range(24)))
        assert all((frames == results[0]).all() for frames in results)
        assert 1 <= len(processes._idle) <= 4


class TestTimeLimit:
    @pytest.mark.parametrize(
        ("read", "doing"),
        [
            (lambda path: decode(path, SPEC, timeout_seconds=0.3), "decoding took longer than 0.3 s"),
            (lambda path: probe(path, timeout_seconds=0.3), "reading its packets took longer than 0.3 s"),
        ],
    )
    def test_ends_a_decoder_that_hangs_and_the_next_video_is_served(self, video, held, read, doing):
        with pytest.raises(VideoError, match=rf"x\.mp4: {doing}"):
            read(video)
        assert held.poll() is not None
        assert probe(video).total_frames == 12

    def test_a_child_ends_itself_though_its_parent_is_gone(self):
        """Its clock is the kernel's: it needs neither Python's lock nor a parent."""
        hang = "import re; child._answer = lambda *_: re.match('(a+)+$', 'a' * 60 + 'b')"  # C code for years
        code = f"from vqathinker_verl.frames import child; {hang}; child.main()"
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdout.readline() == b"ready\n"
        child.stdin.write(b'{"path": "x.mp4", "seconds": 0.2, "spec": null, "decoder": "auto"}\n')
        child.stdin.flush()
        assert child.wait(timeout=60) == -signal.SIGALRM
        child.stdin.close()
        child.stdout.close()

    def test_a_child_without_a_parent_ends(self, video):
        code = (
            "import sys; from vqathinker_verl.frames import probe, processes;"
            "probe(sys.argv[1]); print(processes._idle[0]._process.pid, flush=True); sys.stdin.read()"
        )
        parent = subprocess.Popen(
            [sys.executable, "-c", code, str(video)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        pid = int(parent.stdout.readline())
        assert os.path.exists(f"/proc/{pid}")
        parent.kill()
        parent.communicate()
        deadline = time.monotonic() + 30
        while os.path.exists(f"/proc/{pid}") and "State:\tZ" not in open(f"/proc/{pid}/status").read():
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_relative_path_starts_at_the_folder_of_the_caller(video, monkeypatch):
    """Also where the child is older than the caller's change of folder."""
    decode(video, SPEC)
    monkeypatch.chdir(video.parent)
    assert decode(video.name, SPEC).total_frames == probe(video.name).total_frames == 12


class TestCrash:
    @pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL"])
    def test_names_the_video_and_the_signal(self, video, held, name):
        with ThreadPoolExecutor(1) as executor:
            result = executor.submit(decode, video, SPEC)
            while not bytes_waiting(held.stdin):  # until the call has asked it
                time.sleep(0.005)
            os.kill(held.pid, getattr(signal, name))
            os.kill(held.pid, signal.SIGCONT)  # a stopped process dies of SIGKILL only
            with pytest.raises(VideoError, match=rf"x\.mp4: decoding killed the decoder's process \({name}\)"):
                result.result(timeout=30)
        assert decode(video, SPEC).total_frames == 12

    def test_in_idleness_is_no_fault_of_the_next_video(self, video, child):
        child.kill()
        child.wait()
        assert probe(video).total_frames == 12

    def test_a_failed_start_is_reported(self, monkeypatch, video):
        processes._end_all()
        monkeypatch.setattr(sys, "executable", "/bin/false")
        with pytest.raises(RuntimeError, match="the process that decodes videos does not start"):
            probe(video)


class TestMemory:
    def test_is_limited(self, video, child):
        with open(f"/proc/{child.pid}/limits") as file:
            (line,) = [line for line in file if line.startswith("Max address space")]
        assert MEMORY_BYTES < int(line.split()[3]) < MEMORY_BYTES + 8 * 2**30

    def test_frames_beyond_the_limit_are_an_error_about_the_video(self, video):
        side = int((MEMORY_BYTES / 3) ** 0.5) + 1
        with pytest.raises(VideoError, match=r"x\.mp4: needs more than \d+ GiB"):
            decode(video, FrameSpec(1, size=(side, side)))


class TestOtherProcesses:
    def test_a_fork_has_children_of_its_own(self, video, child):
        pid = os.fork()
        if pid == 0:
            try:
                probe(video)
                os._exit(0 if processes._idle[0]._process.pid != child.pid else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert probe(video).total_frames == 12
        assert child.poll() is None

    def test_a_daemon_may_decode(self, video):
        """A data loader's worker is one, and multiprocessing lets it have no children."""
        import multiprocessing

        context = multiprocessing.get_context("spawn")
        worker = context.Process(target=decode, args=(video, SPEC), daemon=True)
        worker.start()
        worker.join(120)
        assert worker.exitcode == 0

    def test_no_thread_is_left(self, video, held):
        before = threading.active_count()
        with pytest.raises(VideoError, match="took longer"):
            decode(video, SPEC, timeout_seconds=0.1)
        assert threading.active_count() == before
