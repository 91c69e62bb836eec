#!/bin/sh
# Asks pip-audit for known holes in what the locks pin, and writes a bill of materials (CycloneDX) per lock into .audit/.
#
# Exit codes: 1 for known holes, 3 if a lock could not be looked up. A package that the vulnerability service does not
# know, as behind a mirror, counts as not looked up and never as safe. With --ci both are warnings, and holes fail only
# with HEADRACE_AUDIT_STRICT=1: a new advisory says nothing about the change that is tested.
set -u
cd "$(dirname "$0")/.."

tool=${PIP_AUDIT:-.venv-audit/bin/pip-audit} holes=0 missed=0
mkdir -p .audit
[ -n "${PIP_AUDIT:-}" ] || "${PYTHON:-python3}" scripts/environment.py .venv-audit requirements/audit.txt || tool=false

ask() { # LOCK OPTION...
    lock=$1
    shift
    "$tool" --strict --disable-pip --require-hashes --progress-spinner off --timeout 5 \
        --requirement "requirements/$lock.txt" "$@"
}

for lock in gateway worker exporter; do
    bill=.audit/$lock.cdx.json
    rm -f "$bill"
    if problem=$(ask "$lock" --format cyclonedx-json --output "$bill" 2>&1); then
        echo "$lock: no known holes; $bill"
    elif [ -s "$bill" ]; then
        holes=1
        echo "$lock: known holes; $bill"
        ask "$lock" --desc off
    else
        missed=1
        echo "$lock: skipped, the vulnerability service can't be asked: $(echo "${problem:-pip-audit can't be installed}" | tail -n 1)"
    fi
done

code=$((holes ? 1 : missed ? 3 : 0))
if [ "${1:-}" = --ci ] && [ "$code" -ne 0 ] && [ "$code${HEADRACE_AUDIT_STRICT:-}" != 11 ]; then
    echo "audit: WARNING: see above; with HEADRACE_AUDIT_STRICT=1, known holes are a failure"
    code=0
fi
exit "$code"
