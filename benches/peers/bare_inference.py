#!/usr/bin/env python3
"""What the network alone costs: runs an ONNX model on a still picture of noise and prints the CPU seconds per call.

Usage: bare_inference.py MODEL.onnx --calls N --threads N

The settings are krea's own (no spinning of idle threads). Loading and one call to warm up are not counted.
"""

import argparse
import json
import resource

import numpy as np
import onnxruntime


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(args.model, options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    picture = np.random.default_rng(0).random(entry.shape, dtype=np.float32)
    session.run(None, {entry.name: picture})
    before = cpu_seconds()
    for _ in range(args.calls):
        session.run(None, {entry.name: picture})
    print(json.dumps({"cpu_s_per_call": (cpu_seconds() - before) / args.calls}))


if __name__ == "__main__":
    main()
