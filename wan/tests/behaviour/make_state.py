"""Writes state.pth beside this file: what torch itself saves, for the reader of pickles to be tested on."""

import pathlib

import torch

torch.manual_seed(0)
module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
with torch.no_grad():
    for tensor in module.state_dict().values():
        tensor.copy_(torch.arange(tensor.numel(), dtype=torch.float32).view(tensor.shape))
state = module.state_dict()
base = torch.arange(12, dtype=torch.float32).view(3, 4)
state["turned"] = base.t()
state["part"] = base[1:, 1:3]
state["half"] = base.half()
state["bfloat16"] = base.bfloat16()
state["parameter"] = torch.nn.Parameter(base)
state["scalar"] = torch.tensor(7.0)
everything = {"step": 1000, "rate": 1e-4, "names": ["a", "b"], "done": True, "generator_ema": state, "generator": {}}
torch.save(everything, pathlib.Path(__file__).with_name("state.pth"))
