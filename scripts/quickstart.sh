#!/bin/sh
# The main job on the bundled reviews. Called by `make quickstart` with the environment's bin folder.
set -eu
bin=$1
out=runs/quickstart

# Show a command as the reader would type it, then run it.
run() {
    printf '\n$ huiyan'
    for word in "$@"; do
        case $word in *' '*) printf ' "%s"' "$word" ;; *) printf ' %s' "$word" ;; esac
    done
    printf '\n'
    "$bin/huiyan" "$@"
}

run train examples/data/reviews.train.csv --test examples/data/reviews.test.csv \
    --text title --text review --label sentiment --epochs 2 --out "$out" --overwrite
run predict "$out" "Lovely fabric and it fits perfectly, I wear it every week." \
    "The seams came apart after one wash." "The colour is nice, but the sleeves are too short."

cat <<END

The results with intervals, baselines and mistakes: $out/report.html
Three commands to try next:

  $bin/huiyan evaluate $out examples/data/reviews.test.csv
  $bin/huiyan predict $out --file examples/data/reviews.test.csv --out runs/predictions.csv
  $bin/huiyan train YOUR.csv --text COLUMN --label COLUMN --out runs/mine
END
