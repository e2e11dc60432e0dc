#!/usr/bin/env bash
# krea-wan beside diffusers on the same libtorch, as ratios: prints the table. Options go to both benches, for example
#   benches/wan.sh --device cuda --width 832 --height 480
# The peers live in a Python environment of their own, .deps/peers, which is made here if it is not there (5 GB).
set -euo pipefail
cd "$(dirname "$0")/.."
peers=.deps/peers
python=${KREA_PEER_PYTHON:-$peers/bin/python}
if ! "$python" -c 'import torch, diffusers, safetensors' 2>/dev/null; then
    python3 -m venv "$peers"
    "$peers/bin/pip" install --quiet torch==2.13.0 diffusers transformers accelerate safetensors
    python=$peers/bin/python
fi
export KREA_PEER_PYTHON=$(realpath -s "$python")
threads=${KREA_BENCH_THREADS:-$(nproc)}
${CARGO:-cargo} bench --quiet -p krea-wan --no-run
echo "| what | diffusers, s | krea-wan, s | ratio | of processor time |"
echo "|---|---|---|---|---|"
for dtype in bfloat16 float32; do
    for bench in dit vae; do
        ${CARGO:-cargo} bench --quiet -p krea-wan --bench $bench -- --dtype $dtype --threads "$threads" "$@"
    done
done
