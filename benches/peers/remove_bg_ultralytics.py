#!/usr/bin/env python3
"""The job of `krea run IN --remove-bg -o OUT --mask-model yolov8n-seg`, done with ultralytics and the ffmpeg program.

Usage: remove_bg_ultralytics.py MODEL.onnx IN OUT --size HxW --threads N --preset P --crf N

Frames stream through `predict(stream=True)`, the person masks are united at the network's size (cheaper than
`retina_masks`), enlarged, and everything else painted green; ffmpeg encodes the raw frames and copies the sound.

Prints one JSON object: frames, and the seconds from the end of Python's imports to the closed file.
"""

import argparse
import json
import os
import subprocess
import time

os.environ["YOLO_AUTOINSTALL"] = "False"
os.environ["YOLO_VERBOSE"] = "False"

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
import torch  # noqa: E402
from ultralytics import YOLO  # noqa: E402
from ultralytics.utils import ops  # noqa: E402

GREEN_BGR = (0, 255, 0)


def limit_threads(count):
    """Gives ONNX Runtime, torch and OpenCV the same number of threads; ultralytics has no setting for the first."""
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    session = onnxruntime.InferenceSession

    def limited(model, sess_options=None, **rest):
        options = sess_options or onnxruntime.SessionOptions()
        options.intra_op_num_threads = count
        return session(model, sess_options=options, **rest)

    onnxruntime.InferenceSession = limited


def encoder(args, width, height, rate):
    return subprocess.Popen(
        ["ffmpeg", "-v", "error", "-y", "-threads", str(args.threads),
         "-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{width}x{height}", "-r", str(rate), "-i", "-", "-i", args.input,
         "-map", "0:v", "-map", "1:a?", "-c:a", "copy",
         "-c:v", "libx264", "-threads", str(args.threads), "-preset", args.preset, "-crf", str(args.crf),
         "-pix_fmt", "yuv420p", args.output],
        stdin=subprocess.PIPE)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("--size", default="384x640", help="of the network's input, height first")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--preset", default="veryfast")
    parser.add_argument("--crf", type=int, default=18)
    args = parser.parse_args()
    start = time.monotonic()
    limit_threads(args.threads)

    clip = cv2.VideoCapture(args.input)
    rate = clip.get(cv2.CAP_PROP_FPS)
    clip.release()

    size = [int(side) for side in args.size.split("x")]
    ffmpeg = None
    results = YOLO(args.model, task="segment").predict(
        args.input, stream=True, imgsz=size, classes=[0], conf=0.25, verbose=False, save=False)
    frames = 0
    for result in results:
        frame = result.orig_img
        height, width = frame.shape[:2]
        if ffmpeg is None:
            ffmpeg = encoder(args, width, height, rate)
        if result.masks is None:
            frame[:] = GREEN_BGR
        else:
            united = result.masks.data.amax(dim=0)[None, None].float()
            person = ops.scale_masks(united, (height, width))[0, 0].numpy()
            frame[person < 0.5] = GREEN_BGR
        ffmpeg.stdin.write(np.ascontiguousarray(frame))
        frames += 1
    ffmpeg.stdin.close()
    if ffmpeg.wait() != 0:
        raise SystemExit("ffmpeg failed")
    print(json.dumps({"frames": frames, "seconds": time.monotonic() - start}))


if __name__ == "__main__":
    main()
