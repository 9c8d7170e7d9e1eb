#!/bin/sh
# Every check, then every test. Called by `make test` with the environment's bin folder; extra arguments go to pytest.
# All of them run even when one fails, so that one run tells everything; the exit status is 0 only if all passed.
set -u
bin=$1
shift
failed=

check() {
    name=$1
    shift
    printf '\n== %s\n' "$name"
    "$@" || failed="$failed, $name"
}

docs() {
    # The banner is about mkdocs-material's successor: docs/decisions/0002-mkdocs-material.md.
    NO_MKDOCS_2_WARNING=1 "$bin/mkdocs" build --strict
}

check "lint" "$bin/ruff" check
check "format" "$bin/ruff" format --check
check "types" "$bin/basedpyright"
# Without the cache: it remembers an import of a module that was not there yet as no import at all.
check "rooms" "$bin/lint-imports" --no-logo --no-cache
check "licences" "$bin/python" scripts/check_licences.py
check "docs" docs

printf '\n== tests\n'
log=$(mktemp) || exit 1
trap 'rm -f "$log" "$log.status"' EXIT
{
    "$bin/pytest" "$@"
    echo $? >"$log.status"
} | tee "$log"
status=$(cat "$log.status")

# In CI a test that was skipped is a piece that is missing: it fails. The closing line is all there is to read.
if [ "${CI:-}" = true ] && tail -n 1 "$log" | grep -q ' skipped'; then
    echo "CI=true and tests were skipped: what they need must be installed (pytest -rs names them)." >&2
    status=1
fi
if [ -n "$failed" ]; then
    echo "These checks failed before the tests: ${failed#, }." >&2
    status=1
fi
exit "$status"
