#!/usr/bin/env bash
# Train the co-trained bundle on 4 labelled and 126 unlabelled cases, score the 40 test cases once.
#   tools/studies/hippocampus_umct.sh DATA OUT      DATA holds imagesTr/ and labelsTr/ of the Decathlon's Task04
set -euo pipefail
data=$1 out=$2
cd "$(dirname "$0")/../.."
medssl=.venv/bin/medssl
$medssl train hippocampus_mri_umct --manifest data_manifests/hippocampus_labelled4_draw0.json --data-root "$data" \
    --out "$out/hippocampus_mri_umct_4" --set epochs=24 --set select_best=false --set val_interval=24
$medssl infer "$out/hippocampus_mri_umct_4" data_manifests/hippocampus.json --part test --data-root "$data" \
    --uncertainty --out "$out/umct_test"
$medssl evaluate "$out/umct_test" --manifest data_manifests/hippocampus.json --data-root "$data" --out "$out/umct_metrics"
$medssl report "$out/umct_metrics" "$out/umct_test" "$out/hippocampus_mri_umct_4" --out "$out/umct_report.html"
