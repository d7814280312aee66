#!/usr/bin/env bash
# Make medssl/reports/page/niivue.min.js and its licence file anew: NiiVue in one script for a page without a network.
#
#     tools/release/build_niivue.sh [VERSION]
#
# Needs npm, and the network once. NiiVue's own bundle is 2.3 MB; 1.4 MB of that decompress Zarr stores, which the pages
# never open. An empty module in place of zarrita leaves 0.9 MB.
set -euo pipefail

VERSION=${1:-0.69.0}
ESBUILD=0.25.12
PAGE=$(cd "$(dirname "$0")/../../medssl/reports/page" && pwd)
PARTS="@lukeed/uuid/license @ungap/structured-clone/LICENSE array-equal/LICENSE fflate/LICENSE gl-matrix/LICENSE.md
    nifti-reader-js/LICENSE"

FOLDER=$(mktemp -d)
trap 'rm -rf "$FOLDER"' EXIT
cd "$FOLDER"
npm init -y >/dev/null
npm install --silent "@niivue/niivue@$VERSION" "esbuild@$ESBUILD"
echo 'export { Niivue, NVImage } from "@niivue/niivue";' > entry.js
echo 'export {};' > nothing.js
npx esbuild entry.js --bundle --minify --legal-comments=none --format=iife --global-name=niivue --target=es2020 \
    --alias:zarrita=./nothing.js --outfile=niivue.js

# The package carries no licence text of NiiVue itself: that part of the file is kept, the others are read anew
sed '/^=== Packages bundled with it/,$d' "$PAGE/niivue.LICENSE.txt" > licence.txt
{
    echo "=== Packages bundled with it"
    for part in $PARTS; do
        printf '\n--- %s\n\n' "$(dirname "$part")"
        cat "node_modules/$part"
        echo
    done
} >> licence.txt
if grep -q '\*/' licence.txt; then
    echo "A licence text would end the comment at the head of the script." >&2
    exit 1
fi

# Each page that medssl writes holds the script, so the licences travel at its head
{ printf '/*! NiiVue %s\n\n' "$VERSION"; cat licence.txt; echo '*/'; cat niivue.js; } > "$PAGE/niivue.min.js"
cp licence.txt "$PAGE/niivue.LICENSE.txt"
ls -l "$PAGE/niivue.min.js"
