#!/usr/bin/env python3
"""Cuts a parity folder down to what the repository keeps: every kind of case, shorter.

    python3 wan/tests/parity/cut.py ../shared/parity wan/tests/parity/data

Optional intermediates go, long streams are cut (all networks are causal, so what is left of an
output does not change), and layouts of names that the cases do not name go. Standard library only.
"""

import json
import pathlib
import struct
import sys

CASES = [
    "scheduler", "primitives", "dit_first_block", "dit_rolling_sink1", "dit_recompute_ctx4",
    "dit_prompt_change", "dit_bf16", "dit_kv_bias", "vae_encode", "vae_decode_stream",
    "vae_decode_wan_upstream", "umt5_encode", "taehv", "text_clean_and_tokenize", "preprocess",
    "session_start_frame", "session_v2v", "session_webcam",
]
WEIGHTS = ["dit_krea_prefixed", "dit_diffusers", "vae_original_wan", "umt5_wan", "umt5_hf", "taehv_weights"]
KEPT_INTERMEDIATES = {"mid.flow_fp32"}
SESSION_BLOCKS = {"session_start_frame": 3, "session_v2v": 2, "session_webcam": 2}


def read(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    begin = 8 + size
    return {
        name: (info["dtype"], info["shape"], data[begin + info["data_offsets"][0] : begin + info["data_offsets"][1]])
        for name, info in header.items()
    }


def write(path, tensors):
    header, offset = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))


def first(tensor, dim, count):
    """The first `count` entries along a dimension."""
    dtype, shape, data = tensor
    outer = 1
    for n in shape[:dim]:
        outer *= n
    row = len(data) // outer
    kept = row // shape[dim] * count
    return dtype, shape[:dim] + [count] + shape[dim + 1 :], b"".join(data[i * row : i * row + kept] for i in range(outer))


def cut(case, tensors):
    """Shortens one case in place; returns its tensors."""
    config, name = case["config"], case["name"]
    tensors = {n: t for n, t in tensors.items() if not n.startswith("mid.") or n in KEPT_INTERMEDIATES}
    if name == "vae_encode":
        frames, latents = sum(config["chunks"][:2]), 6
        config["chunks"] = config["chunks"][:2]
        del tensors["out.latent_b2"]
        tensors["in.pixels"] = first(tensors["in.pixels"], 2, frames)
        tensors["out.latent_batch"] = first(tensors["out.latent_batch"], 2, latents)
    elif name == "vae_decode_stream":
        config["chunks"], config["frames_out"] = config["chunks"][:2], config["frames_out"][:2]
        del tensors["out.pixels_b2"]
        tensors["in.latents"] = first(tensors["in.latents"], 1, sum(config["chunks"]))
    elif name == "taehv":
        config["stream_decode_counts"] = config["stream_decode_counts"][:3]
        tensors["in.latents"] = first(tensors["in.latents"], 1, 3)
        whole = tensors.pop("out.decode6_trimmed")
        tensors["out.decode3_trimmed"] = first(whole, 1, sum(config["stream_decode_counts"]))
    elif name in SESSION_BLOCKS:
        blocks = SESSION_BLOCKS[name]
        config["blocks"] = config["blocks"][:blocks]
        gone = tuple(f"{role}.b{b}." for role in ("in", "out") for b in range(blocks, 100))
        tensors = {n: t for n, t in tensors.items() if not n.startswith(gone)}
        # The last block's pixels depend on everything before.
        for b in range(blocks - 1):
            del tensors[f"out.b{b}.pixels"]
        if "in.video_u8" in tensors:
            tensors["in.video_u8"] = first(tensors["in.video_u8"], 0, 9 + 12 * (blocks - 1))
    return tensors


def main(source, target):
    target.mkdir(parents=True, exist_ok=True)
    manifest = json.loads((source / "manifest.json").read_text())
    manifest["set"] = "cut"
    manifest.pop("files", None)
    manifest["weights"] = {f"{name}.safetensors": {"note": manifest["weights"][f"{name}.safetensors"]["note"]} for name in WEIGHTS}
    manifest["cases"] = [case for case in manifest["cases"] if case["name"] in CASES]
    assert len(manifest["cases"]) == len(CASES)
    for name in WEIGHTS + ["text_data.json", "tokenizer_tiny.json", "schedules_data.json"]:
        name = name if "." in name else f"{name}.safetensors"
        (target / name).write_bytes((source / name).read_bytes())
    for case in manifest["cases"]:
        if not case["file"].endswith(".safetensors"):
            continue
        roles = {tensor["name"]: tensor["role"] for tensor in case["tensors"]}
        tensors = cut(case, read(source / case["file"]))
        case["tensors"] = [
            {"name": n, "shape": t[1], "dtype": t[0], "role": roles.get(n, "output")} for n, t in tensors.items()
        ]
        write(target / case["file"], tensors)
    (target / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    print(sum(path.stat().st_size for path in target.iterdir()), "bytes")


main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
