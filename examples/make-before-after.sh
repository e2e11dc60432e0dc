#!/usr/bin/env bash
# Makes before-after.jpg, the picture in README.md, from astronaut.mp4: a frame as it is, and what krea makes of it by
# default and in front of a blurred room. Usage: examples/make-before-after.sh [KREA] [MODEL]
set -euo pipefail

krea=$(realpath "${1:-$(dirname "$0")/../target/release/krea}")
cd "$(dirname "$0")"
model=${2:-selfie}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"$krea" run astronaut.mp4 --remove-bg --mask-model "$model" -o "$scratch/green.mp4" -q
"$krea" run astronaut.mp4 --remove-bg --mask-model "$model" --bg blur -o "$scratch/blur.mp4" -q
ffmpeg -v error -y -i astronaut.mp4 -i "$scratch/green.mp4" -i "$scratch/blur.mp4" -filter_complex \
  "[0][1][2]hstack=inputs=3,select=eq(n\,60),scale=1440:-2:flags=lanczos,setparams=colorspace=smpte170m:range=tv,scale=out_color_matrix=bt601:out_range=full,format=yuvj444p" -frames:v 1 -q:v 4 before-after.jpg
