#!/usr/bin/env python3
"""Prints one table that sets krea beside its peers; `make bench` calls it.

Each row runs two things in turn (A B A B ...) and takes the median of the rounds' ratios, because a busy machine slows both
alike: a ratio says more than a time. What a row needs and is not there makes the row say SKIP with the reason.

    python3 benches/table.py --krea target/release/krea [--rounds N] [--rows NAME,...] [--threads N]

Clips are looked for in $KREA_MEDIA_DIR (../shared/media/clips), YOLO's model in $KREA_MODELS_DIR (../shared/models). The
Python peers get a virtual environment of their own in .deps/peers-mask.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parent.parent
MEDIA = Path(os.environ.get("KREA_MEDIA_DIR", ROOT / "../shared/media/clips")).resolve()
MODELS = Path(os.environ.get("KREA_MODELS_DIR", ROOT / "../shared/models")).resolve()
PEERS = ROOT / "benches/peers"
YOLO = "yolov8n-seg-384x640.onnx"
SELFIE = "models/selfie_segmentation_landscape_nchw.onnx"
ENCODER = ["--codec", "libx264", "--preset", "veryfast", "--crf", "18"]
FFMPEG_ENCODER = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-pix_fmt", "yuv420p", "-c:a", "copy"]


class Skip(Exception):
    """A row that cannot be measured here, and why."""


def clip(name):
    path = MEDIA / name
    if not path.is_file():
        raise Skip(f"no {path}")
    return str(path)


def yolo():
    path = MODELS / YOLO
    if not path.is_file():
        raise Skip(f"no {path}")
    return str(path)


def run(command, stdin=None):
    """Runs a command to its end: wall seconds, CPU seconds and peak memory (kB) of it and its children, and its stdout."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.monotonic()
        child = subprocess.Popen(command, stdin=stdin or subprocess.DEVNULL, stdout=out, stderr=err)
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.monotonic() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if child.returncode != 0:
            tail = err.read().decode(errors="replace")[-800:]
            raise RuntimeError(f"exit {child.returncode}: {' '.join(command)}\n{tail}")
        return SimpleNamespace(wall=wall, cpu=usage.ru_utime + usage.ru_stime, rss=usage.ru_maxrss, out=out.read().decode())


def in_turn(rounds, first, second):
    """Two measurements, one after the other, `rounds` times, after one of each that only warms the caches."""
    first(), second()
    return [(first(), second()) for _ in range(rounds)]


def seconds_to_output(command, size=8192):
    """Wall seconds until a command has written `size` bytes to its stdout; then it is ended."""
    start = time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        got = 0
        while got < size:
            chunk = child.stdout.read1(size - got)
            if not chunk:
                raise RuntimeError(f"ended after {got} bytes: {' '.join(command)}")
            got += len(chunk)
        wall = time.monotonic() - start
        child.kill()
    return wall


def frames_of(path):
    command = ["ffprobe", "-v", "error", "-count_packets", "-select_streams", "v:0",
               "-show_entries", "stream=nb_read_packets", "-of", "csv=p=0", path]
    return int(run(command).out.strip().strip(","))


def peers_python():
    """The interpreter of the peers' virtual environment, which is built when requirements.txt is new to it."""
    home = ROOT / ".deps/peers-mask"
    wanted = PEERS / "requirements.txt"
    stamp = home / ("requirements-" + hashlib.sha256(wanted.read_bytes()).hexdigest()[:16])
    python = home / "bin/python"
    if not stamp.is_file():
        print("bench: installing the Python peers into .deps/peers-mask (5 GB)", file=sys.stderr)
        shutil.rmtree(home, ignore_errors=True)
        try:
            subprocess.run([sys.executable, "-m", "venv", str(home)], check=True, stdout=sys.stderr)
            subprocess.run([str(python), "-m", "pip", "install", "-q", "--no-deps", "-r", str(wanted)],
                           check=True, stdout=sys.stderr)
        except subprocess.CalledProcessError as error:
            raise Skip(f"the Python peers cannot be installed: {error}") from error
        stamp.touch()
    return str(python)


class Bench:
    def __init__(self, args, scratch):
        self.krea = str(Path(args.krea).resolve())
        self.rounds, self.threads, self.scratch = args.rounds, args.threads, Path(scratch)

    def remove_bg(self, source, out, model, *more):
        return [self.krea, "run", source, "-o", str(out), "--remove-bg", "--mask-model", model, *ENCODER,
                "-y", "--progress", "none", *more]

    def transcode(self, source, out, *more):
        return ["ffmpeg", "-v", "error", "-nostdin", "-y", "-i", source, *FFMPEG_ENCODER, *more, str(out)]

    def speeds(self, frames, pairs, goal):
        """Frames per second of the first over those of the second; beside them the CPU time, which a busy machine hardly changes."""
        told = [f"{frames / median(r.wall for r in side):.1f} fps, {median(r.cpu for r in side):.1f} CPU s" for side in zip(*pairs)]
        return *told, median(b.wall / a.wall for a, b in pairs), ">=", goal

    def ultralytics(self, name):
        """(a) Frames per second of the whole job against ultralytics with ffmpeg; Python's imports are not held against it.

        Both get the same file, whose input is 384x640. ultralytics pads other shapes with grey to fill it; krea fits it.
        """
        source, model, python = clip(name), yolo(), peers_python()
        frames = frames_of(source)
        ours = self.remove_bg(source, self.scratch / "a.mp4", model, "--threads", str(self.threads))
        theirs = [python, str(PEERS / "remove_bg_ultralytics.py"), model, source, str(self.scratch / "b.mp4"),
                  "--threads", str(self.threads), "--preset", "veryfast", "--crf", "18"]

        def peer():
            ran = run(theirs)
            ran.wall = json.loads(ran.out)["seconds"]
            return ran

        return self.speeds(frames, in_turn(self.rounds, lambda: run(ours), peer), 2.0)

    def ffmpeg(self, name):
        """(b) Frames per second against ffmpeg, which only decodes and encodes the same clip."""
        source = clip(name)
        frames = frames_of(source)
        ours = self.remove_bg(source, self.scratch / "a.mp4", "selfie")
        theirs = self.transcode(source, self.scratch / "b.mp4")
        return self.speeds(frames, in_turn(self.rounds, lambda: run(ours), lambda: run(theirs)), 0.7)

    def parts(self, name, model):
        """(c) CPU seconds of the whole job against a bare transcoding plus one bare inference for every frame."""
        source, python = clip(name), peers_python()
        chosen, weights = ("selfie", str(ROOT / SELFIE)) if model == "selfie" else (yolo(), yolo())
        if not Path(weights).is_file():
            raise Skip(f"no {weights}")
        frames = frames_of(source)
        ours = self.remove_bg(source, self.scratch / "a.mp4", chosen, "--threads", str(self.threads))
        theirs = self.transcode(source, self.scratch / "b.mp4")
        bare = [python, str(PEERS / "bare_inference.py"), weights, "--calls", str(frames), "--threads", str(self.threads)]

        def sum_of_parts():
            return run(theirs).cpu + frames * json.loads(run(bare).out)["cpu_s_per_call"]

        pairs = in_turn(self.rounds, lambda: run(ours).cpu, sum_of_parts)
        a, b = (median(side) for side in zip(*pairs))
        return f"{a:.2f} CPU s", f"{b:.2f} CPU s", median(a / b for a, b in pairs), "<=", 1.25

    def memory(self, name):
        """(d) Peak memory, in MB, with the selfie model."""
        source = clip(name)
        ours, theirs = self.remove_bg(source, self.scratch / "a.mp4", "selfie"), self.transcode(source, self.scratch / "b.mp4")
        pairs = in_turn(self.rounds, lambda: run(ours).rss / 1024, lambda: run(theirs).rss / 1024)
        a, b = (median(side) for side in zip(*pairs))
        return f"{a:.0f} MB", f"{b:.0f} MB", a, "<=", 400

    def memory_long(self, name):
        """(d) Peak memory with ten times the length."""
        source, long = clip(name), str(self.scratch / "long.mp4")
        run(["ffmpeg", "-v", "error", "-nostdin", "-y", "-stream_loop", "9", "-i", source, "-c", "copy", long])
        out = self.scratch / "a.mp4"
        pairs = in_turn(self.rounds, lambda: run(self.remove_bg(long, out, "selfie")).rss / 1024,
                        lambda: run(self.remove_bg(source, out, "selfie")).rss / 1024)
        a, b = (median(side) for side in zip(*pairs))
        return f"{a:.0f} MB", f"{b:.0f} MB", median(a / b for a, b in pairs), "<=", 1.05

    def version(self):
        """(e) The time that the program takes to say its version."""
        pairs = in_turn(max(self.rounds, 25), lambda: run([self.krea, "--version"]).wall, lambda: run(["ffmpeg", "-version"]).wall)
        a, b = (median(side) * 1000 for side in zip(*pairs))
        return f"{a:.1f} ms", f"{b:.1f} ms", median(a / b for a, b in pairs), "<=", 1.0

    def first_frame(self, name):
        """(f) Seconds from the start to the first encoded frame, over those of ffmpeg."""
        source = clip(name)
        ours = self.remove_bg(source, "-", "selfie", "-f", "mpegts")
        theirs = self.transcode(source, "-", "-f", "mpegts")
        pairs = in_turn(self.rounds, lambda: seconds_to_output(ours), lambda: seconds_to_output(theirs))
        a, b = (median(side) for side in zip(*pairs))
        return f"{a:.3f} s", f"{b:.3f} s", median(a - b for a, b in pairs), "<=", 0.3


ROWS = {
    "a-720p": ("YOLOv8n-seg 384x640, 1280x720, frames/s: krea / ultralytics + ffmpeg", "ratio",
               lambda bench: bench.ultralytics("doctor_1280x720.mp4")),
    "a-webcam": ("YOLOv8n-seg 384x640, 640x480 with sound, frames/s: krea / ultralytics + ffmpeg", "ratio",
                 lambda bench: bench.ultralytics("webcam_audio.mp4")),
    "b": ("selfie model, 1280x720, frames/s: krea / ffmpeg transcoding", "ratio",
          lambda bench: bench.ffmpeg("doctor_1280x720.mp4")),
    "c-selfie": ("selfie model, 1280x720, CPU seconds: krea / (ffmpeg transcoding + bare inference)", "ratio",
                 lambda bench: bench.parts("doctor_1280x720.mp4", "selfie")),
    "c-yolo": ("YOLOv8n-seg 384x640, 1280x720, CPU seconds: krea / (ffmpeg transcoding + bare inference)", "ratio",
               lambda bench: bench.parts("doctor_1280x720.mp4", "yolo")),
    "d": ("selfie model, 1920x1080, peak memory: krea (beside ffmpeg transcoding)", "MB",
          lambda bench: bench.memory("doctor_1920x1080.mp4")),
    "d-long": ("selfie model, 1920x1080, peak memory: ten times the length / once", "ratio",
               lambda bench: bench.memory_long("doctor_1920x1080.mp4")),
    "e": ("time to say the version: krea / ffmpeg", "ratio", lambda bench: bench.version()),
    "f": ("selfie model, 1280x720, start to first encoded frame: krea - ffmpeg", "s",
          lambda bench: bench.first_frame("doctor_1280x720.mp4")),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--krea", default=str(ROOT / "target/release/krea"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=min(os.cpu_count() or 1, 8), help="of krea and its peer, where a row sets them")
    parser.add_argument("--rows", default=",".join(ROWS), help="which rows, by name: " + ", ".join(ROWS))
    args = parser.parse_args()

    print(f"{os.cpu_count()} CPUs, {args.threads} threads, median of {args.rounds} rounds of two things in turn\n")
    print("| row | what | first | second | result | goal | |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="krea-bench-") as scratch:
        bench = Bench(args, scratch)
        for name in args.rows.split(","):
            what, unit, measure = ROWS[name]
            unit = "" if unit == "ratio" else " " + unit
            try:
                first, second, result, sense, goal = measure(bench)
                met = result >= goal if sense == ">=" else result <= goal
                print(f"| {name} | {what} | {first} | {second} | {result:.4g}{unit} | {sense} {goal}{unit} | {'met' if met else 'MISSED'} |")
            except Skip as reason:
                print(f"| {name} | {what} | | | SKIP: {reason} | | |")
            except RuntimeError as error:
                print(f"| {name} | {what} | | | FAILED | | |\n{error}", file=sys.stderr)
                return 1
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
