"""Diffusers' WanTransformer3DModel, for the bench `dit` of krea-wan to measure itself against.

    python wan_dit.py FOLDER --dtype bfloat16 --threads 2 --size 1.3B --width 320 --height 192 --latents 3

Makes the model with random weights and saves it, its input and its output as safetensors in FOLDER.
Then, for every line on stdin: makes one call and prints how many seconds that took, and how many of
processor time.
"""

import argparse
import sys
import time
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import save_file

SIZES = {
    "1.3B": {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30},
    "14B": {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32", "float16"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", default="1.3B", choices=SIZES)
    parser.add_argument("--layers", type=int)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--height", type=int, default=192)
    parser.add_argument("--latents", type=int, default=3)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    dtype = getattr(torch, args.dtype)
    size = dict(SIZES[args.size])
    if args.layers:
        size["num_layers"] = args.layers
    # Made on no device and filled there: initialising 1.4 billion numbers twice takes minutes.
    with torch.device("meta"):
        model = WanTransformer3DModel(attention_head_dim=128, **size)
    model = model.to(dtype).to_empty(device=args.device).eval()
    for name, weight in model.named_parameters():
        if name.endswith("norm_q.weight") or name.endswith("norm_k.weight") or name.endswith("norm2.weight"):
            weight.fill_(1.0)
        elif weight.dim() > 1:
            weight.normal_(std=0.5 / weight[0].numel() ** 0.5)
        else:
            weight.normal_(std=0.02)
    # The tables of positions are no weights, so they were not filled.
    rope = WanTransformer3DModel(attention_head_dim=128, num_attention_heads=1, num_layers=1, ffn_dim=8).rope
    model.rope = rope.to(args.device)
    state = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    save_file(state, args.folder / "dit.safetensors")
    del state

    latents = torch.randn(1, 16, args.latents, args.height // 8, args.width // 8).to(args.device, dtype)
    prompt = torch.randn(1, 512, 4096).to(args.device, dtype)
    timestep = torch.tensor([937.5], device=args.device)

    def call() -> torch.Tensor:
        start, cpu = time.perf_counter(), time.process_time()
        flow = model(hidden_states=latents, timestep=timestep, encoder_hidden_states=prompt, return_dict=False)[0]
        if args.device != "cpu":
            torch.cuda.synchronize()
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        print(f"{seconds:.4f} {cpu:.4f}", flush=True)
        return flow

    flow = call()
    saved = {"latents": latents, "prompt": prompt, "flow": flow}
    save_file({name: t.cpu().contiguous() for name, t in saved.items()}, args.folder / "call.safetensors")
    print("ready", torch.__version__, flush=True)
    for _ in sys.stdin:
        call()


if __name__ == "__main__":
    main()
