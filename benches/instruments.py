"""What benches/live.py measures with: a camera whose pictures carry their number, krea at work, a screen that can be read."""

import json
import mmap
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WIDTH, HEIGHT, FPS = 640, 480, 30
FRAME = 1 / FPS
PLANE, SIZE = WIDTH * HEIGHT, WIDTH * HEIGHT * 3 // 2
# The number: two rows of eight dark and bright squares on the person, where no background is painted over them.
LEFT, TOP, SIDE = 112, 400, 16
DARK, BRIGHT = b"\x50", b"\x96"
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


def number_in(bright):
    """The number in a picture of which `bright(x, y)` tells whether a place is bright."""
    return sum(bright(LEFT + bit % 8 * SIDE + SIDE // 2, TOP + bit // 8 * SIDE + SIDE // 2) << bit for bit in range(16))


class Camera:
    """Sends the example clip, forth and back, over TCP at its pace."""

    film = None

    def __init__(self):
        if Camera.film is None:
            raw = subprocess.run(["ffmpeg", "-v", "error", "-i", str(ROOT / "examples/astronaut.mp4"), "-frames:v", "40", "-f",
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
            line = b"".join((BRIGHT if number >> (row * 8 + bit) & 1 else DARK) * SIDE for bit in range(8))
            for y in range(TOP + row * SIDE, TOP + row * SIDE + SIDE):
                frame[y * WIDTH + LEFT:y * WIDTH + LEFT + len(line)] = line
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

    started = []

    def __init__(self, bench, source, *more, raw=True, env=None):
        self.stats = bench.scratch / "stats.json"
        self.camera = source if isinstance(source, Camera) else None
        self.shown, self.said, self.unread = [], [], 0
        output = ["-o", "-", "-f", "rawvideo", "--pix-fmt", "yuv420p"] if raw else []
        reports = ["--progress", "json", "--stats", str(self.stats)]
        command = [bench.krea, "run", self.camera.url if self.camera else source, *output, *reports, *more]
        self.begun = now()
        self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
        self.threads = [thread(self.read), thread(self.listen)]
        Run.started.append(self)

    def read(self):
        """Frames as they come out: when, their number, and Y, Cb, Cr of the upper right corner."""
        frame, corner = bytearray(SIZE), 5 * WIDTH // 2 + 310
        while self.child.stdout.readinto(frame) == SIZE:
            number = number_in(lambda x, y: frame[y * WIDTH + x] > 115)
            if self.camera and not (self.shown[-1][1] if self.shown else -1) < number < len(self.camera.sent):
                # The mask leaves a part of it out.
                self.unread += 1
                continue
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

    def end(self):
        """Ends it as Ctrl-C does; what it wrote about itself."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGINT)
            self.child.wait(30)
        for t in self.threads:
            t.join(10)
        if self.camera:
            self.camera.close()
        if self.unread * 10 > len(self.shown):
            raise RuntimeError(f"{self.unread} numbers cannot be read, and only {len(self.shown)} can")
        return json.loads(self.stats.read_text())

    def ages(self, start, end):
        """How old the frames were that were shown between two moments, in milliseconds."""
        return [(at - self.camera.sent[number]) * 1000 for at, number, _ in self.shown if start <= at < end]


class Screen:
    """A virtual X server whose picture is a file in memory; a window of the camera's size fills it.

    `seen` holds when each picture was first there, and its number."""

    def __init__(self, scratch):
        if not shutil.which("Xvfb"):
            raise Skip("no Xvfb")
        command = ["Xvfb", "-displayfd", "1", "-fbdir", str(scratch), "-screen", "0", f"{WIDTH}x{HEIGHT}x24", "-nolisten", "tcp"]
        self.server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.env = {**os.environ, "DISPLAY": ":" + self.server.stdout.readline().decode().strip()}
        self.env.pop("WAYLAND_DISPLAY", None)
        with open(scratch / "Xvfb_screen0", "rb") as file:
            self.memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        field = lambda n: int.from_bytes(self.memory[n * 4:n * 4 + 4], "big")  # XWDFile.h
        self.seen, self.ended = [], False
        self.pixels, self.pitch = field(0) + field(19) * 12, field(12)

    def green(self, x, y):
        return self.memory[self.pixels + y * self.pitch + x * 4 + 1]

    def look(self):
        last = None
        while not self.ended:
            # The corner is green as soon as there is a picture. What is read twice is not half drawn.
            number = number_in(lambda x, y: self.green(x, y) > 78) if self.green(620, 10) > 200 else None
            if number is not None and number == last and (not self.seen or self.seen[-1][1] < number):
                self.seen.append((now(), number))
            last = number
            time.sleep(0.002)

    def __enter__(self):
        self.looking = thread(self.look)
        return self

    def __exit__(self, *_):
        self.ended = True
        self.looking.join()
        self.server.kill()
        self.server.wait()


def end_all():
    """Whatever a row that failed has left."""
    for run in Run.started:
        if run.child.poll() is None:
            run.child.kill()
            run.child.wait()
    Run.started.clear()
