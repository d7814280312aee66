#!/usr/bin/env bash
# Adapt the co-trained bundle to a synthetic shift of its own data, without the source's data and with it, and score
# the 40 shifted test cases once.
#   tools/studies/synthetic_shift.sh DATA OUT      DATA holds imagesTr/ and labelsTr/ of the Decathlon's Task04
set -euo pipefail
data=$1 out=$2
cd "$(dirname "$0")/../.."
medssl=.venv/bin/medssl bundle=hippocampus_mri_umct
.venv/bin/python tools/studies/synthetic_shift.py --data "$data" --out "$out"
$medssl finetune $bundle --manifest "$out/target.json" --out "$out/hippocampus_mri_source_free" --epochs 5
$medssl train $bundle --manifest "$out/source_and_target.json" --out "$out/hippocampus_mri_with_source" \
    --set finetune=true --set finetune_model_path="$PWD/bundles/$bundle/models/model.pt" --set learning_rate=0.0001 \
    --set cotraining_start=0.0 --set epochs=5 --set select_best=false --set val_interval=6
score() {
    $medssl infer "$1" "$2" --part test --data-root "$3" --out "$out/$4"
    $medssl evaluate "$out/$4" --manifest "$2" --data-root "$3" --out "$out/$4_metrics"
}
score $bundle data_manifests/hippocampus.json "$data" unshifted
score $bundle "$out/target_test.json" "$out" before
score "$out/hippocampus_mri_source_free" "$out/target_test.json" "$out" source_free
score "$out/hippocampus_mri_with_source" "$out/target_test.json" "$out" with_source
$medssl compare "$out/source_free_metrics" "$out/before_metrics"
$medssl compare "$out/with_source_metrics" "$out/before_metrics"
