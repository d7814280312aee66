#!/usr/bin/env bash
# The yardstick of label efficiency: one recipe, trained with 130, 20, 4, 2 and 1 labelled cases (draw 0, seed 0),
# then scored once on the 40 test cases. Resumable: finished parts are kept.
#
#   tools/studies/hippocampus_yardstick.sh ../shared/data/hippocampus runs
#
# Few labels: the last weights are taken, because choosing among checkpoints with 30 labelled development cases
# would use more labels than the run has. amp=false: float32 is faster than bfloat16 on the CPU this was made on.
set -euo pipefail
data=$1
runs=$2
bundle=hippocampus_mri_supervised

train() { # name, manifest, further options
    local name=$1 manifest=$2
    shift 2
    if [ ! -f "$runs/$name/results/run.json" ]; then
        medssl train "$bundle" --manifest "data_manifests/$manifest" --data-root "$data" --out "$runs/$name" \
            --set amp=false "$@"
    fi
}

score() { # name
    local name=$1
    medssl infer "$runs/$name" data_manifests/hippocampus.json --part test --data-root "$data" \
        --out "$runs/$name/test"
    medssl evaluate "$runs/$name/test" --manifest data_manifests/hippocampus.json --part test --data-root "$data" \
        --out "$runs/$name/test/scores"
}

train hippocampus_130 hippocampus.json
for count in 4 2 1 20; do
    train "hippocampus_$count" "hippocampus_labelled${count}_draw0.json" --set select_best=false --set val_interval=80
done
if [ "${3:-}" = score ]; then
    for count in 130 20 4 2 1; do
        score "hippocampus_$count"
    done
fi
