"""Diffusers' AutoencoderKLWan, for the bench `vae` of krea-wan to measure itself against.

    python wan_vae.py FOLDER --dtype bfloat16 --threads 2 --width 320 --height 192 --latents 3

Makes the full-size model with random weights and saves it, its input and what it decodes to as
safetensors in FOLDER. Then, for every line on stdin: decodes once and prints how many seconds
that took, and how many of processor time.
"""

import argparse
import sys
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import save_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32", "float16"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--height", type=int, default=192)
    parser.add_argument("--latents", type=int, default=3)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    dtype = getattr(torch, args.dtype)
    model = AutoencoderKLWan().to(args.device, dtype).eval()
    state = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    save_file(state, args.folder / "vae.safetensors")

    shape = (1, 16, args.latents, args.height // 8, args.width // 8)
    latents = torch.randn(shape).to(args.device, dtype)

    def decode() -> torch.Tensor:
        start, cpu = time.perf_counter(), time.process_time()
        pixels = model.decode(latents).sample
        if args.device != "cpu":
            torch.cuda.synchronize()
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        print(f"{seconds:.4f} {cpu:.4f}", flush=True)
        return pixels

    pixels = decode()
    save_file(
        {"latents": latents.cpu().contiguous(), "pixels": pixels.cpu().contiguous()},
        args.folder / "decoded.safetensors",
    )
    print("ready", torch.__version__, flush=True)
    for _ in sys.stdin:
        decode()


if __name__ == "__main__":
    main()
