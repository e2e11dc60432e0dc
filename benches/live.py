#!/usr/bin/env python3
"""Measures what a live run promises, one row a goal; `make bench-live` calls it.

A camera on the loopback interface draws each frame's number into its pixels and remembers when it sent it. Whoever reads
krea's output, or the memory of a virtual screen, finds the number again and knows how old the picture is; krea's own
figures stand beside. The instruments run at real-time priority where they may, so that a busy machine delays krea and not
the clock. What a row needs and is not there makes the row say SKIP with the reason.

    python3 benches/live.py --krea target/release/krea [--rows NAME...] [--seconds N] [--rounds N]

YOLO's model is looked for in $KREA_MODELS_DIR (../shared/models).
"""

import argparse
import bisect
import json
import os
import re
import resource
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from instruments import FPS, FRAME, HEIGHT, ROOT, WIDTH, Camera, Run, Screen, Skip, end_all, now

MODELS = Path(os.environ.get("KREA_MODELS_DIR", ROOT / "../shared/models")).resolve()
SYSTEM_PYTHON = "/usr/bin/python3"  # has GStreamer's bindings


def percentile(values, part):
    return sorted(values)[int((len(values) - 1) * part)] if values else float("nan")


def a_second(times, start, seconds):
    """How many of the moments lie in each second."""
    times = sorted(times)
    edges = [bisect.bisect_left(times, start + s) for s in range(int(seconds) + 1)]
    return [b - a for a, b in zip(edges, edges[1:])]


def missing(numbers):
    """How many are left out."""
    return numbers[-1] - numbers[0] + 1 - len(numbers)


class Bench:
    def __init__(self, args, scratch):
        self.krea, self.scratch = str(Path(args.krea).resolve()), Path(scratch)
        self.seconds, self.rounds = args.seconds, args.rounds

    def mask(self, model="selfie"):
        if model != "selfie":
            model = str(MODELS / model)
            if not Path(model).is_file():
                raise Skip(f"no {model}")
        return ["--remove-bg", "--mask-model", model]

    def steady(self, *more, env=None, model="selfie"):
        """A run that nobody disturbs, from two seconds after its first frame on: the run, and when that was."""
        run = Run(self, Camera(), *self.mask(model), *more, env=env)
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
            lost += missing([number for at, number, _ in run.shown if at >= start])
        told = f"{median(counts):.0f} a second, worst second {min(counts)}; {lost} lost, {dropped} by krea's count"
        return told, min(counts) >= 29

    def frames_preview(self):
        pipe, window, ages = [], [], []
        for _ in range(self.rounds):
            with Screen(self.scratch) as screen:
                run, start = self.steady("--preview", env=screen.env)
                run.end()
                pipe += a_second([at for at, *_ in run.shown], start, self.seconds)
                window += a_second([at for at, _ in screen.seen], start, self.seconds)
                ages += [at - run.camera.sent[number] for at, number in screen.seen if at >= start]
        told = (f"pipe {median(pipe):.0f} a second, worst second {min(pipe)}; window {median(window):.0f}, worst {min(window)}, "
                f"p95 {percentile(ages, 0.95) * 1000:.0f} ms old")
        return told, min(pipe + window) >= 29

    def latency(self):
        p50, p95, own = [], [], []
        for _ in range(self.rounds):
            run, start = self.steady()
            own.append(run.end()["latency_ms"]["p95"])
            ages = run.ages(start, start + self.seconds)
            p50.append(percentile(ages, 0.5))
            p95.append(percentile(ages, 0.95))
        told = f"p95 {median(p95):.1f} ms, worst round {max(p95):.1f}; p50 {median(p50):.1f}; p95 by krea's count {median(own):.1f}"
        return told, max(p95) <= 80

    def latency_yolo(self):
        """One long round; growth is the last quarter against the first."""
        run, start = self.steady(model="yolov8n-seg-384x640.onnx")
        report, part = run.end(), self.seconds / 4
        quarters = [run.ages(start + n * part, start + (n + 1) * part) for n in range(4)]
        every, medians = sum(quarters, []), [percentile(ages, 0.5) for ages in quarters]
        masked = 1 - report["mask"]["followed"] / report["frames_out"]
        told = (f"p95 {percentile(every, 0.95):.1f} ms over {self.seconds:.0f} s, by krea's count {report['latency_ms']['p95']:.1f}; medians by "
                f"quarter {', '.join(f'{m:.0f}' for m in medians)}; {len(every) / self.seconds:.1f} frames a second, {masked:.0%} with their own mask, "
                f"{run.unread} unreadable")
        return told, percentile(every, 0.95) <= 200 and medians[-1] <= medians[0] + FRAME * 1000

    def overload(self):
        """Four busy loops a core beside it."""
        bound = 200 + FRAME * 1000
        run = Run(self, Camera(), *self.mask(), "--max-latency", "200")
        run.wait("a frame", lambda: run.shown)
        time.sleep(3)
        busy = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(4 * os.cpu_count())]
        start = now()
        try:
            time.sleep(self.seconds)
        finally:
            for loop in busy:
                loop.kill()
                loop.wait()
        end = now()
        time.sleep(6)
        report = run.end()
        ages = run.ages(start, end)
        over = [second for second in range(int(self.seconds)) if max(run.ages(start + second, start + second + 1), default=0) > bound]
        lost, first = missing([number for _, number, _ in run.shown]), run.shown[0][1]
        # From the last frame on that is old, or comes after a gap, it is as it was.
        pairs = zip(run.shown, run.shown[1:])
        late = [at for (_, before, _), (at, number, _) in pairs if number > before + 1 or at - run.camera.sent[number] > 0.08]
        recovery = max(late + [end]) - end
        told = (f"{len(ages) / self.seconds:.1f} frames a second, p95 {percentile(ages, 0.95):.0f} ms, oldest {max(ages):.0f}, too old in "
                f"{len(over)} of {self.seconds:.0f} seconds; oldest by krea's count {report['latency_ms']['max']:.0f}; {lost} lost, "
                f"{report['dropped']} by krea's count; as before after {recovery:.2f} s")
        # What was dropped before the first frame and after the last one, nobody misses.
        return told, not over and recovery <= 2 and lost <= report["dropped"] <= lost + first + 3

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
        waits, bounds = [], []
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
                came = run.wait("a new frame", lambda: len(run.shown) > count)
                waits.append(came - back)
                # Had it come back just after the last try in vain, it would have waited for so long.
                bounds.append(came - max(at for at, line in run.said if "trying again" in line))
                time.sleep(3)
        finally:
            server.kill()
            server.wait()
            report = run.end()
        told = (f"median {median(waits):.2f} s, worst {max(waits):.2f}, found at try 2 to {1 + len(waits)}; at most {max(bounds):.2f} "
                f"had it been back right after a try; {report['reconnects']} reconnects counted")
        return told, max(waits + bounds) <= 2

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
        """A window alone. The source's first frame is the first one that the camera has sent."""
        waits, whole = [], []
        for _ in range(max(self.rounds, 5)):
            with Screen(self.scratch) as screen:
                run = Run(self, Camera(), *self.mask(), "--preview", raw=False, env=screen.env)
                run.wait("a picture", lambda: screen.seen)
                run.end()
                waits.append(screen.seen[0][0] - run.camera.sent[0])
                whole.append(screen.seen[0][0] - run.begun)
        return f"median {median(waits):.3f} s, worst {max(waits):.3f}; {median(whole):.3f} s after krea's own start", max(waits) <= 0.5


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

    print(f"{os.cpu_count()} CPUs, {WIDTH}x{HEIGHT} at {FPS} fps, {args.rounds} rounds of {args.seconds:.0f} s; others: what other programs took of the CPUs\n")
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
            finally:
                end_all()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
