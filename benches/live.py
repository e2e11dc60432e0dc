#!/usr/bin/env python3
"""Measures what a live run promises, one row a goal; `make bench-live` calls it.

A camera on the loopback interface draws each frame's number into its pixels and remembers when it sent it. Whoever reads
krea's output, or the memory of a virtual screen, finds the number again and knows how old the picture is: krea's own
figures stand beside, and are not believed. The instrument runs at real-time priority where it may, so that a busy machine
delays krea and not the clock. What a row needs and is not there makes it say SKIP with the reason.

    python3 benches/live.py --krea target/release/krea [--rows NAME...] [--seconds N] [--rounds N]

YOLO's model is looked for in $KREA_MODELS_DIR (../shared/models).
"""

import argparse
import bisect
import json
import mmap
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
MODELS = Path(os.environ.get("KREA_MODELS_DIR", ROOT / "../shared/models")).resolve()
WIDTH, HEIGHT, FPS = 640, 480, 30
PLANE, SIZE = WIDTH * HEIGHT, WIDTH * HEIGHT * 3 // 2
# The number: two rows of eight black and white squares, on the person, where no background is painted over it.
LEFT, TOP, SIDE = 144, 392, 24
FRAME = 1 / FPS
SYSTEM_PYTHON = "/usr/bin/python3"  # has GStreamer's bindings
now = time.monotonic


class Skip(Exception):
    """A row that cannot be measured here, and why."""


def undisturbed():
    """Takes the calling thread out of the competition for the processors, but not what it starts."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except PermissionError:
        pass


def thread(work):
    def run():
        undisturbed()
        work()
    started = threading.Thread(target=run, daemon=True)
    started.start()
    return started


def percentile(values, part):
    return sorted(values)[int((len(values) - 1) * part)] if values else float("nan")


def squares():
    return [(LEFT + bit % 8 * SIDE, TOP + bit // 8 * SIDE, bit) for bit in range(16)]


def number_in(bright):
    """The number, where `bright(x, y)` tells whether a place is white."""
    return sum(bright(x + SIDE // 2, y + SIDE // 2) << bit for x, y, bit in squares())


class Camera:
    """Sends the example clip, forth and back, over TCP at its pace."""

    film = None

    def __init__(self):
        if Camera.film is None:
            raw = subprocess.run(["ffmpeg", "-v", "error", "-i", str(ROOT / "examples/astronaut.mp4"), "-frames:v", "60", "-f",
                                  "rawvideo", "-pix_fmt", "yuv420p", "-"], check=True, stdout=subprocess.PIPE).stdout
            once = [raw[i:i + SIZE] for i in range(0, len(raw), SIZE)]
            Camera.film = once + once[::-1]
        self.sent, self.ended = [], False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "tcp://127.0.0.1:%d" % self.listener.getsockname()[1]
        thread(self.play)

    def picture(self, number):
        frame = bytearray(self.film[number % len(self.film)])
        for row in range(2):
            line = b"".join((b"\xeb" if number >> (row * 8 + bit) & 1 else b"\x10") * SIDE for bit in range(8))
            for y in range(TOP + row * SIDE, TOP + row * SIDE + SIDE):
                frame[y * WIDTH + LEFT:y * WIDTH + LEFT + len(line)] = line
        for y in range(TOP // 2, TOP // 2 + SIDE):
            for start in (PLANE, PLANE * 5 // 4):
                at = start + y * WIDTH // 2 + LEFT // 2
                frame[at:at + SIDE * 4] = b"\x80" * (SIDE * 4)
        return b"FRAME\n" + frame

    def play(self):
        try:
            peer, _ = self.listener.accept()
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer.sendall(b"YUV4MPEG2 W%d H%d F%d:1 Ip A1:1 C420jpeg\n" % (WIDTH, HEIGHT, FPS))
            start = now()
            while not self.ended:
                picture = self.picture(len(self.sent))
                time.sleep(max(0, start + len(self.sent) * FRAME - now()))
                self.sent.append(now())
                peer.sendall(picture)
        except OSError:
            pass

    def close(self):
        self.ended = True
        self.listener.close()


class Run:
    """krea at work: what it shows, and what it says."""

    def __init__(self, bench, source, *more, raw=True, env=None):
        self.stats = bench.scratch / "stats.json"
        self.shown, self.said, self.camera = [], [], source if isinstance(source, Camera) else None
        output = ["-o", "-", "-f", "rawvideo", "--pix-fmt", "yuv420p"] if raw else []
        command = [bench.krea, "run", self.camera.url if self.camera else source, *output, "--progress", "json", "--stats", str(self.stats), *more]
        self.begun = now()
        self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
        self.threads = [thread(self.read), thread(self.listen)]

    def read(self):
        """Frames as they come out: when, their number, and Y, Cb, Cr of the upper right corner."""
        frame, corner = bytearray(SIZE), (10 // 2) * WIDTH // 2 + 620 // 2
        while self.child.stdout.readinto(frame) == SIZE:
            number = number_in(lambda x, y: frame[y * WIDTH + x] > 125)
            colour = frame[10 * WIDTH + 620], frame[PLANE + corner], frame[PLANE * 5 // 4 + corner]
            self.shown.append((now(), number, colour))

    def listen(self):
        for line in self.child.stderr:
            self.said.append((now(), line.decode(errors="replace").rstrip()))

    def wait(self, what, done, limit=60):
        start = now()
        while not done():
            if self.child.poll() is not None or now() - start > limit:
                raise RuntimeError(f"{what} does not come: " + "\n".join(line for _, line in self.said[-8:]))
            time.sleep(0.002)
        return now()

    def says(self, word, times=1):
        self.wait(word, lambda: sum(word in line for _, line in list(self.said)) >= times)

    def end(self):
        """Ends it as Ctrl-C does; what it wrote about itself."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGINT)
            self.child.wait(30)
        for t in self.threads:
            t.join(10)
        if self.camera:
            self.camera.close()
        return json.loads(self.stats.read_text())

    def seen(self, start, end):
        """Of the frames shown between two moments: when, and how old."""
        return [(at, at - self.camera.sent[number]) for at, number, _ in self.shown if start <= at < end]


class Screen:
    """A virtual X server whose picture is a file in memory."""

    def __init__(self, scratch):
        if not shutil.which("Xvfb"):
            raise Skip("no Xvfb")
        self.server = subprocess.Popen(["Xvfb", "-displayfd", "1", "-fbdir", str(scratch), "-screen", "0", f"{WIDTH}x{HEIGHT}x24", "-nolisten", "tcp"],
                                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.env = {**os.environ, "DISPLAY": ":" + self.server.stdout.readline().decode().strip()}
        self.env.pop("WAYLAND_DISPLAY", None)
        with open(scratch / "Xvfb_screen0", "rb") as file:
            self.memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        field = lambda n: int.from_bytes(self.memory[n * 4:n * 4 + 4], "big")  # XWDFile.h
        self.pixels, self.pitch = field(0) + field(19) * 12, field(12)

    def green(self, x, y):
        return self.memory[self.pixels + y * self.pitch + x * 4 + 1]

    def watch(self):
        """Keeps `seen`: when each picture was first in the window, which fills the screen, and its number."""
        self.seen, self.ended = [], False

        def look():
            while not self.ended:
                # The person's chest is brighter than a window that shows nothing yet, and the corner is painted over.
                number = number_in(lambda x, y: self.green(x, y) > 125) if self.green(620, 10) > 200 else None
                if number is not None and (not self.seen or self.seen[-1][1] != number):
                    self.seen.append((now(), number))
                time.sleep(0.002)
        thread(look)

    def close(self):
        self.ended = True
        self.server.kill()
        self.server.wait()


def a_second(times, start, seconds):
    """How many of the moments lie in each second."""
    times = sorted(times)
    edges = [bisect.bisect_left(times, start + s) for s in range(int(seconds) + 1)]
    return [b - a for a, b in zip(edges, edges[1:])]


def own_p95(run, start, end):
    lines = [json.loads(line) for at, line in run.said if start < at <= end + 1 and line.startswith("{")]
    return max((line["latency_ms"]["p95"] for line in lines if line.get("latency_ms")), default=float("nan"))


class Bench:
    def __init__(self, args, scratch):
        self.krea, self.seconds, self.rounds, self.scratch = str(Path(args.krea).resolve()), args.seconds, args.rounds, Path(scratch)

    def mask(self, model="selfie"):
        if model != "selfie":
            model = str(MODELS / model)
            if not Path(model).is_file():
                raise Skip(f"no {model}")
        return ["--remove-bg", "--mask-model", model]

    def steady(self, *more, env=None):
        """A run that nobody disturbs, from two seconds after its first frame on: the run, and when that was."""
        run = Run(self, Camera(), *self.mask(), *more, env=env)
        run.wait("a frame", lambda: run.shown)
        time.sleep(2)
        start = now()
        time.sleep(self.seconds)
        return run, start

    def frames(self):
        counts, lost, dropped = [], 0, 0
        for _ in range(self.rounds):
            run, start = self.steady()
            dropped += run.end()["dropped"]
            counts += a_second([at for at, *_ in run.shown], start, self.seconds)
            numbers = [number for at, number, _ in run.shown if at >= start]
            lost += numbers[-1] - numbers[0] + 1 - len(numbers)
        told = f"{median(counts):.0f} a second, worst second {min(counts)}; {lost} of {sum(counts) + lost} lost, by krea's count {dropped}"
        return told, min(counts) >= 29

    def frames_preview(self):
        """Both at once: the pipe and the window."""
        pipe, window, late = [], [], []
        for _ in range(self.rounds):
            screen = Screen(self.scratch)
            try:
                screen.watch()
                run, start = self.steady("--preview", env=screen.env)
                run.end()
                pipe += a_second([at for at, *_ in run.shown], start, self.seconds)
                window += a_second([at for at, _ in screen.seen], start, self.seconds)
                late += [at - run.camera.sent[number] for at, number in screen.seen if at >= start and number < len(run.camera.sent)]
            finally:
                screen.close()
        told = (f"pipe {median(pipe):.0f} a second, worst {min(pipe)}; window {median(window):.0f}, worst {min(window)}, "
                f"p95 {percentile(late, 0.95) * 1000:.0f} ms old")
        return told, min(pipe) >= 29 and min(window) >= 29

    def latency(self):
        p50, p95, own = [], [], []
        for _ in range(self.rounds):
            run, start = self.steady()
            report = run.end()
            ages = [age for _, age in run.seen(start, start + self.seconds)]
            p50.append(percentile(ages, 0.5) * 1000)
            p95.append(percentile(ages, 0.95) * 1000)
            own.append(report["latency_ms"]["p95"])
        told = f"p95 {median(p95):.1f} ms, worst round {max(p95):.1f}; p50 {median(p50):.1f}; p95 by krea's count {median(own):.1f}"
        return told, max(p95) <= 80

    def latency_yolo(self):
        """One long round; growth is the last quarter against the first."""
        run = Run(self, Camera(), *self.mask("yolov8n-seg-384x640.onnx"))
        run.wait("a frame", lambda: run.shown)
        time.sleep(3)
        start = now()
        time.sleep(self.seconds)
        report = run.end()
        quarters = [[age * 1000 for _, age in run.seen(start + q * self.seconds / 4, start + (q + 1) * self.seconds / 4)] for q in range(4)]
        p95 = percentile(sum(quarters, []), 0.95)
        medians = [percentile(q, 0.5) for q in quarters]
        told = (f"p95 {p95:.1f} ms over {self.seconds:.0f} s, by krea's count {report['latency_ms']['p95']:.1f}; median by quarter "
                f"{', '.join(f'{m:.0f}' for m in medians)}; {len(sum(quarters, [])) / self.seconds:.1f} frames a second, masks for "
                f"{100 - 100 * report['mask']['followed'] / max(report['frames_out'], 1):.0f} % of them")
        return told, p95 <= 200 and medians[-1] <= medians[0] + FRAME * 1000

    def overload(self):
        """Four busy loops a core beside it."""
        bound = 200
        run = Run(self, Camera(), *self.mask(), "--max-latency", str(bound))
        run.wait("a frame", lambda: run.shown)
        time.sleep(3)
        busy = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(4 * os.cpu_count())]
        start = now()
        time.sleep(self.seconds)
        for b in busy:
            b.kill()
            b.wait()
        end = now()
        time.sleep(6)
        report = run.end()
        ages = [age * 1000 for _, age in run.seen(start, end)]
        worst = [max((age * 1000 for _, age in run.seen(start + s, start + s + 1)), default=0) for s in range(int(self.seconds))]
        over = [age for age in ages if age > bound + FRAME * 1000]
        numbers = [number for at, number, _ in run.shown]
        lost = numbers[-1] + 1 - numbers[0] - len(numbers)
        after = [entry for entry in run.shown if entry[0] >= end]
        # Back to normal: from there on no frame is old, and none is missing.
        unlike = [at for (before, n0, _), (at, n1, _) in zip(after, after[1:]) if n1 != n0 + 1 or at - run.camera.sent[n1] > 0.08]
        recovery = max(unlike, default=end) - end
        told = (f"{len(ages) / self.seconds:.1f} frames a second, p95 {percentile(ages, 0.95):.0f} ms, oldest {max(ages):.0f}, {len(over)} over "
                f"{bound + FRAME * 1000:.0f} in {sum(w > bound + FRAME * 1000 for w in worst)} of {len(worst)} seconds, by krea's count "
                f"{report['latency_ms']['p95']:.0f} at p95; {lost} lost, {report['dropped']} counted; normal again after {recovery:.2f} s")
        return told, not over and recovery <= 2 and abs(report["dropped"] - lost) <= 3 + numbers[0]

    def rtsp(self):
        """The server dies, and comes back while krea waits for its second try or a later one."""
        probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
        if not Path(SYSTEM_PYTHON).exists() or subprocess.run([SYSTEM_PYTHON, "-c", probe], stderr=subprocess.DEVNULL).returncode:
            raise Skip("no gst-rtsp-server; `.ci/deps test` installs it")

        def serve(port="0"):
            command = [SYSTEM_PYTHON, str(ROOT / "tests/servers/rtsp.py"), "--size", f"{WIDTH}x{HEIGHT}", "--port", port]
            server = subprocess.Popen(command, stdout=subprocess.PIPE)
            return server, server.stdout.readline().decode().split()[1]
        server, url = serve()
        run = Run(self, url, *self.mask())
        waits = []
        try:
            run.wait("a frame", lambda: run.shown)
            # By the number of the try that finds it, 2, 3, ...: pauses may grow with it.
            for tries in range(2, 2 + max(self.rounds, 5)):
                before = len(run.said)
                server.kill()
                server.wait()
                run.wait("a try", lambda: sum("trying again" in line for _, line in run.said[before:]) >= tries)
                server, url = serve(re.search(r":(\d+)/", url)[1])
                back, count = now(), len(run.shown)
                waits.append(run.wait("a new frame", lambda: len(run.shown) > count) - back)
                time.sleep(3)
        finally:
            server.kill()
            server.wait()
            report = run.end()
        told = f"median {median(waits):.2f} s, worst {max(waits):.2f} (found at try 2 to {1 + len(waits)}: {', '.join(f'{w:.2f}' for w in waits)}); {report['reconnects']} reconnects counted"
        return told, max(waits) <= 2

    def control(self):
        path = str(self.scratch / "control")
        run = Run(self, Camera(), *self.mask(), "--control", path)
        run.wait("a frame", lambda: run.shown)
        time.sleep(2)
        frames, times = [], []
        with socket.socket(socket.AF_UNIX) as desk:
            desk.connect(path)
            replies = desk.makefile()
            for turn in range(max(10 * self.rounds, 10)):
                name, cb = [("blue", 240), ("#00ff00", 54)][turn % 2]
                time.sleep(0.5 + 0.007 * turn)  # at another point between two frames each time
                drawn, count, asked = len(run.camera.sent) - 1, len(run.shown), now()
                desk.sendall(json.dumps({"background": name}).encode() + b"\n")
                if not json.loads(replies.readline())["ok"]:
                    raise RuntimeError(f"{name} is refused")
                effect = lambda: next((s for s in run.shown[count:] if abs(s[2][1] - cb) < 8), None)
                run.wait("the background", effect)
                at, number, _ = effect()
                frames.append(max(0, number - drawn))
                times.append((at - asked) * 1000)
        run.end()
        told = f"median {median(frames):.0f} frames after the last one drawn, worst {max(frames)}; {median(times):.0f} ms, worst {max(times):.0f}"
        return told, max(frames) <= 2

    def start(self):
        """The window alone. The source's first frame is the first one that the camera has sent."""
        waits, pipes = [], []
        for _ in range(max(self.rounds, 5)):
            screen = Screen(self.scratch)
            try:
                screen.watch()
                run = Run(self, Camera(), *self.mask(), "--preview", raw=False, env=screen.env)
                run.wait("a picture", lambda: screen.seen)
                waits.append(screen.seen[0][0] - run.camera.sent[0])
                pipes.append(screen.seen[0][0] - run.begun)
                run.end()
            finally:
                screen.close()
        return f"median {median(waits):.3f} s, worst {max(waits):.3f}; {median(pipes):.3f} s after krea's own start", max(waits) <= 0.5


ROWS = {
    "frames": ("frames shown: at least 29 of 30 in every second", Bench.frames),
    "frames-preview": ("the same in a pipe and in a window at once", Bench.frames_preview),
    "latency": ("from source to sink, p95 at most 80 ms", Bench.latency),
    "latency-yolo": ("the same with YOLOv8n-seg 384x640: p95 at most 200 ms, and not growing", Bench.latency_yolo),
    "overload": ("four busy loops a core: every frame under --max-latency 200 + one frame, drops counted, normal within 2 s", Bench.overload),
    "rtsp": ("an RTSP server is back: first new frame within 2 s", Bench.rtsp),
    "control": ("another background: at most 2 frames after the command", Bench.control),
    "start": ("first picture in the window: at most 0.5 s after the source's first frame", Bench.start),
}


def used():
    """CPU seconds that the machine has spent, and this program with what it has started and waited for."""
    fields = [int(n) for n in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK"), sum(u.ru_utime + u.ru_stime for u in own)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--krea", default=str(ROOT / "target/release/krea"))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME", help="which rows, by name: " + ", ".join(ROWS))
    parser.add_argument("--seconds", type=float, default=60, help="how long a round lasts, where it has no end of its own")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()

    print(f"{os.cpu_count()} CPUs, {WIDTH}x{HEIGHT} at {FPS} fps, {args.rounds} rounds of {args.seconds:.0f} s; \"others\" is what other programs took of the CPUs\n")
    print("| row | goal | figure | others | |\n|---|---|---|---|---|", flush=True)
    failed = False
    for name in args.rows:
        goal, measure = ROWS[name]
        with tempfile.TemporaryDirectory(prefix="krea-bench-") as scratch:
            machine, own, begun = *used(), now()
            try:
                told, met = measure(Bench(args, scratch))
                machine, own = (after - before for after, before in zip(used(), (machine, own)))
                others = max(0, machine - own) / (now() - begun) / os.cpu_count()
                print(f"| {name} | {goal} | {told} | {others:.0%} | {'met' if met else 'MISSED'} |", flush=True)
            except Skip as reason:
                print(f"| {name} | {goal} | SKIP: {reason} | | |", flush=True)
            except RuntimeError as error:
                failed = True
                print(f"| {name} | {goal} | FAILED | | |\n{error}", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
