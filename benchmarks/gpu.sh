#!/usr/bin/env bash
# What a GPU machine without a network has to show, in under ten minutes: the tests marked `gpu`, a score at the
# shapes of 1B and 7B models with random weights, and twenty steps of unlearning at that of 7B with LoRA, with the memory
# that was planned over the memory that was taken.
#
# The machine brings Python 3.12 and torch. Everything else travels along as wheels, made where there is a network by
#
#     benchmarks/gpu.sh wheels
#
# which fills the folder gpu-wheels (about 160 MB): transformers, tokenizers, safetensors, huggingface_hub, datasets'
# and pandas' own needs, pydantic, sqlalchemy, scipy, click, typer, rich and pytest, but neither torch nor CUDA.
set -euo pipefail
cd "$(dirname "$0")/.."

needed=(transformers tokenizers safetensors pandas pyarrow pydantic "sqlalchemy>=2" scipy click typer rich psutil
    peft accelerate datasets filelock pytest)

if [[ "${1:-}" == wheels ]]; then
    python3 -m pip download --quiet --dest gpu-wheels --python-version 3.12 --only-binary=:all: --no-deps \
        $(python3 -m pip install --quiet --dry-run --report - --ignore-installed -c requirements.txt "${needed[@]}" |
            python3 -c 'import json, sys
for one in json.load(sys.stdin)["install"]:
    meta = one["metadata"]
    name = meta["name"].lower()
    if name not in ("torch", "triton") and not name.startswith(("nvidia", "cuda")):
        print(meta["name"] + "==" + meta["version"])')
    exit
fi

python3 -m venv --system-site-packages /tmp/gpu-venv
/tmp/gpu-venv/bin/pip install --quiet --no-index --no-deps gpu-wheels/*.whl
export PYTHONPATH=$PWD HF_HUB_OFFLINE=1
/tmp/gpu-venv/bin/python -m benchmarks.device --shape 1b --shape 7b
for way in "--shape 7b" "--shape 7b --tokens 512" "--shape 1b --lora-rank 0" "--shape 1b --lora-rank 0 --optimiser sgd"; do
    # shellcheck disable=SC2086  # several words
    /tmp/gpu-venv/bin/python -m benchmarks.step $way
done
/tmp/gpu-venv/bin/python -m pytest -q -m gpu -p no:cacheprovider --override-ini addopts= tests/gpu
