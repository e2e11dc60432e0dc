#!/usr/bin/env python3
"""Sets the memory that krea plans for a model beside the memory that it really takes, on the CPU.

    python3 benches/memory.py [--krea target/release/krea] [--models tiny,1.3b]

The models have random weights: `tiny` in the shapes of the parity kit, `1.3b` in those of Wan 2.1 1.3B with its VAE and one
layer of its text encoder (4.7 GB of disk under --folder). What is measured is the peak of the process less the peak of the
same command with --dry-run, which opens libtorch and the plugin and loads no model.
"""

import argparse
import json
import os
import re
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "wan/tests/parity/data"
TINY = {"dit_krea_prefixed": "dit", "vae_original_wan": "vae", "umt5_wan": "umt5"}
UNITS = {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}


def header(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(length))


def write(path, shapes):
    """A safetensors file of small random bf16 numbers."""
    table, offset = {}, 0
    for name, shape in shapes.items():
        size = 2
        for side in shape:
            size *= side
        table[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(table).encode()
    # 2 MB of numbers of about +-0.01, over and over.
    some = os.urandom(1 << 20)
    numbers = bytes(b for byte in some for b in (byte & 0x7F, 0x3C | (byte & 0x80)))
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        while offset > 0:
            file.write(numbers[:offset])
            offset -= len(numbers)


def dit(dim, ffn, layers, text):
    shapes = {
        "patch_embedding.weight": [dim, 16, 1, 2, 2], "patch_embedding.bias": [dim],
        "time_embedding.0.weight": [dim, 256], "time_embedding.0.bias": [dim],
        "time_embedding.2.weight": [dim, dim], "time_embedding.2.bias": [dim],
        "time_projection.1.weight": [6 * dim, dim], "time_projection.1.bias": [6 * dim],
        "text_embedding.0.weight": [dim, text], "text_embedding.0.bias": [dim],
        "text_embedding.2.weight": [dim, dim], "text_embedding.2.bias": [dim],
        "head.modulation": [1, 2, dim], "head.head.weight": [64, dim], "head.head.bias": [64],
    }
    for i in range(layers):
        block = f"blocks.{i}."
        shapes[block + "modulation"] = [1, 6, dim]
        for attention in ("self_attn", "cross_attn"):
            for part in "qkvo":
                shapes[f"{block}{attention}.{part}.weight"] = [dim, dim]
                shapes[f"{block}{attention}.{part}.bias"] = [dim]
            for part in "qk":
                shapes[f"{block}{attention}.norm_{part}.weight"] = [dim]
        shapes |= {block + "norm3.weight": [dim], block + "norm3.bias": [dim]}
        shapes |= {block + "ffn.0.weight": [ffn, dim], block + "ffn.0.bias": [ffn]}
        shapes |= {block + "ffn.2.weight": [dim, ffn], block + "ffn.2.bias": [dim]}
    return shapes


def umt5(dim, ffn, heads, layers, vocabulary):
    shapes = {"token_embedding.weight": [vocabulary, dim], "norm.weight": [dim]}
    for i in range(layers):
        block = f"blocks.{i}."
        shapes |= {f"{block}attn.{p}.weight": [dim, dim] for p in "qkvo"}
        shapes |= {block + "ffn.gate.0.weight": [ffn, dim], block + "ffn.fc1.weight": [ffn, dim]}
        shapes |= {block + "ffn.fc2.weight": [dim, ffn], block + "pos_embedding.embedding.weight": [32, heads]}
        shapes |= {block + "norm1.weight": [dim], block + "norm2.weight": [dim]}
    return shapes


def vae(factor):
    """The tiny autoencoder's shapes, widened: only pictures (3) and latents (16, 32) keep their channels."""
    shapes = {}
    for name, entry in header(DATA / "vae_original_wan.safetensors").items():
        if name == "__metadata__":
            continue
        shape = list(entry["shape"])
        fixed = {"encoder.conv1.weight": [1], "encoder.head.2.weight": [0], "encoder.head.2.bias": [0],
                 "decoder.conv1.weight": [1], "decoder.head.2.weight": [0], "decoder.head.2.bias": [0]}
        keep = range(len(shape)) if name.startswith(("conv1.", "conv2.")) else fixed.get(name, [])
        for axis in range(min(2, len(shape))):
            if axis not in keep and shape[axis] > 3:
                shape[axis] *= factor
        shapes[name] = shape
    return shapes


def make(kind, folder):
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(DATA / "tokenizer_tiny.json", folder / "tokenizer.json")
    if kind == "tiny":
        for source, target in TINY.items():
            shutil.copy(DATA / f"{source}.safetensors", folder / f"{target}.safetensors")
        (folder / "config.json").write_text('{"num_heads": 2, "text_len": 16}')
        return
    write(folder / "dit.safetensors", dit(1536, 8960, 30, 4096))
    write(folder / "umt5.safetensors", umt5(4096, 10240, 64, 1, 320))
    write(folder / "vae.safetensors", vae(12))


def peak(command):
    """Bytes at most in use by the process, and what it printed."""
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen(command, stdout=out, stdin=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            raise SystemExit(f"{' '.join(command)}: status {status}")
        out.seek(0)
        return usage.ru_maxrss * 1024, out.read().decode()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--krea", default=str(ROOT / "target/release/krea"))
    parser.add_argument("--models", default="tiny,1.3b")
    parser.add_argument("--folder", type=Path, default=None, help="where the models are made; kept if given")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = given.folder or Path(temporary)
        print("| model | size | planned | measured | ratio |\n|---|---|---|---|---|")
        for kind, size in (("tiny", "832x480"), ("tiny", "416x240"), ("1.3b", "320x192"), ("1.3b", "448x256")):
            if kind not in given.models.split(","):
                continue
            folder = root / kind
            if not folder.exists():
                make(kind, folder)
            command = [given.krea, "run", "--prompt", "a fox", "--model", str(folder), "--gen-size", size, "--blocks", "2",
                       "--steps", "2", "--precision", "bf16", "-y", "-q", "-o", str(root / "out.mkv")]
            before, plan = peak([*command, "--dry-run"])
            number, unit = re.search(r"([0-9.]+) (\w+)  together", plan).groups()
            planned = float(number) * UNITS[unit]
            measured = peak(command)[0] - before
            print(f"| {kind} | {size} | {planned / 1e9:.3f} GB | {measured / 1e9:.3f} GB | {planned / measured:.3f} |")


if __name__ == "__main__":
    main()
